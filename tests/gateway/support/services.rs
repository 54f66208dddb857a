//! A PostgreSQL and a Redis of a test's own, since it stops them and makes them lose their data. Where the programs are
//! missing the test is skipped and says so.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a service may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL server with one database, `weir`. Stopped when dropped.
pub struct Postgres {
    programs: PathBuf,
    home: TempDir,
    port: u16,
}

impl Postgres {
    /// `None`, with a printed line, if PostgreSQL is not installed.
    pub fn start() -> Option<Postgres> {
        let Some(programs) = programs() else {
            println!("skipped: there is no PostgreSQL here (tests/setup installs it)");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(home.path()));
        }
        let server = Postgres {
            programs,
            home,
            port: free_port(),
        };
        let arguments = [
            "--username=weir",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ];
        run(server
            .program("initdb")
            .arg("--pgdata")
            .arg(server.data())
            .args(arguments));
        server.go_on();
        run(server.program("createdb").args([
            "-h",
            "127.0.0.1",
            "-U",
            "weir",
            "-p",
            &server.port.to_string(),
            "weir",
        ]));
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("postgres://weir@127.0.0.1:{}/weir", self.port)
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&self) {
        run(self
            .program("pg_ctl")
            .args(["stop", "--mode=immediate", "--silent", "--pgdata"])
            .arg(self.data()));
    }

    /// Starts it on the same data.
    pub fn go_on(&self) {
        let home = self.home.path().display();
        let options = format!(
            "-p {} -h 127.0.0.1 -k {home} -c fsync=off -c max_connections=100",
            self.port
        );
        run(self
            .program("pg_ctl")
            .args([
                "start",
                "--wait",
                "--silent",
                "--timeout=60",
                "--options",
                &options,
            ])
            .arg("--log")
            .arg(self.home.path().join("log"))
            .arg("--pgdata")
            .arg(self.data()));
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// PostgreSQL refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(program);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        let _ = stop
            .args(["stop", "--mode=immediate", "--silent", "--pgdata"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// A Redis without any persistence. Stopped when dropped.
pub struct Redis {
    process: Child,
    port: u16,
    home: TempDir,
}

impl Redis {
    /// `None`, with a printed line, if there is no `redis-server`.
    pub fn start() -> Option<Redis> {
        let (port, home) = (free_port(), tempfile::tempdir().unwrap());
        let Ok(process) = launch(port, home.path()) else {
            println!("skipped: there is no redis-server here (tests/setup installs it)");
            return None;
        };
        let redis = Redis {
            process,
            port,
            home,
        };
        redis.answers();
        Some(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops and starts it: its data is lost.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = launch(self.port, self.home.path()).unwrap();
        self.answers();
    }

    /// Lets it hang: it takes connections and answers nothing.
    pub fn hang(&self) {
        self.signal("-STOP");
    }

    /// Ends [`Redis::hang`]; its data is as it was.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        run(Command::new("kill").args([name, &self.process.id().to_string()]));
    }

    fn answers(&self) {
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(port: u16, home: &Path) -> std::io::Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string(), "--dir"])
        .arg(home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// The newest PostgreSQL that Debian has installed, or the one on the path.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").exists())
        .max()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

fn run(command: &mut Command) {
    // pg_ctl leaves a server behind that would keep a pipe open: what it says goes to the test's own error output.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "{command:?}");
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
