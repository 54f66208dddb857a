//! The built gateway as a process: `weir serve` on ports of the system's choice.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::Client;

/// A gateway in a directory of its own. Killed when dropped.
pub struct Gateway {
    directory: Arc<TempDir>,
    config: PathBuf,
    wrapper: Vec<String>,
    process: Child,
    said: Said,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts a gateway with this configuration.
    pub async fn start(config: &str) -> Gateway {
        Gateway::start_under(&[], config).await
    }

    /// Starts a gateway through another command, which ends in being the gateway itself (`sh -c '…; exec "$@"' sh`).
    /// `DIRECTORY` in its arguments and in the configuration is the gateway's directory.
    pub async fn start_under(wrapper: &[&str], config: &str) -> Gateway {
        let mut gateway = Gateway::prepare(wrapper, config);
        gateway.restart().await;
        gateway
    }

    /// Files for a gateway that [`Gateway::restart`] starts.
    pub fn prepare(wrapper: &[&str], config: &str) -> Gateway {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let place = directory.path().to_str().unwrap().to_owned();
        let path = directory.path().join("weir.toml");
        std::fs::write(&path, config.replace("DIRECTORY", &place)).unwrap();
        let mut process = Command::new("true").spawn().unwrap();
        process.wait().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Gateway {
            directory,
            config: path,
            wrapper: Vec::new(),
            process,
            said: Said::default(),
            address: nowhere,
            admin: nowhere,
        };
        gateway.wrap(wrapper);
        gateway
    }

    /// Further starts go through this command.
    pub fn wrap(&mut self, wrapper: &[&str]) {
        let place = self.directory.path().to_str().unwrap();
        self.wrapper = wrapper
            .iter()
            .map(|part| part.replace("DIRECTORY", place))
            .collect();
    }

    async fn start_in(directory: Arc<TempDir>, config: PathBuf, wrapper: Vec<String>) -> Gateway {
        let (process, address, admin, said) = spawn(directory.path(), &config, &wrapper).await;
        Gateway {
            directory,
            config,
            wrapper,
            process,
            said,
            address,
            admin,
        }
    }

    /// Starts another gateway on the same files, beside this one.
    pub async fn beside(&self) -> Gateway {
        let directory = Arc::clone(&self.directory);
        Gateway::start_in(directory, self.config.clone(), self.wrapper.clone()).await
    }

    /// Starts the killed gateway again.
    pub async fn restart(&mut self) {
        let (process, address, admin, said) =
            spawn(self.directory.path(), &self.config, &self.wrapper).await;
        (self.process, self.address, self.admin, self.said) = (process, address, admin, said);
    }

    /// Starts another gateway on the same files and kills it after so long, wherever it is by then.
    pub fn start_and_kill(&self, after: Duration) {
        let mut process = command(self.directory.path(), &self.config, &self.wrapper)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(after);
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// What a start on these files says when it is refused, with its exit code.
    pub async fn refused_start(&self) -> (Option<i32>, String) {
        let mut process = command(self.directory.path(), &self.config, &self.wrapper)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while process.try_wait().unwrap().is_none() {
            if tokio::time::Instant::now() > deadline {
                process.kill().unwrap();
                panic!("the start was not refused");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Everything that the process has written to its standard error.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// What it has said once this is in it: a line of its log may reach the test later than the answer that it stands before.
    pub async fn heard(&self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let said = self.said();
            if said.contains(text) {
                return said;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "nothing of {text:?} after 10 s: {said}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Memory in KiB, open files and threads, as the system counts them.
    pub fn vitals(&self) -> Vitals {
        let process = PathBuf::from(format!("/proc/{}", self.process.id()));
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let stat = std::fs::read_to_string(process.join("stat")).unwrap();
        let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u64 = ticks
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        Vitals {
            memory_kib: field("VmRSS:"),
            threads: field("Threads:"),
            descriptors: std::fs::read_dir(process.join("fd")).unwrap().count(),
            cpu: Duration::from_millis(ticks * 10),
        }
    }

    /// A client with the key of [`super::ACME`].
    pub fn client(&self) -> Client {
        Client::new(self.address, "sk-acme")
    }

    /// Kills the process where it is (SIGKILL) and starts another on the same files.
    pub async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.restart().await;
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.ended().await
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        Command::new("kill")
            .args([&format!("-{name}"), &self.process.id().to_string()])
            .status()
            .unwrap();
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> Option<i32> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the gateway does not stop"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a command on the gateway's files and returns what it prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "weir {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn output(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .arg("-c")
            .arg(&self.config)
            .current_dir(self.directory.path())
            .output()
            .unwrap()
    }

    /// Rewrites the configuration file.
    pub fn rewrite(&self, config: &str) {
        std::fs::write(&self.config, config).unwrap();
    }

    /// The ledger as a user exports it, oldest first.
    pub fn ledger(&self) -> Vec<Value> {
        let lines = self.run(&["ledger", "export", "--format", "jsonl"]);
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The ledger once it has that many entries: those of clients that left are written a moment later.
    pub async fn ledger_of(&self, count: usize) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let entries = self.ledger();
            if entries.len() >= count {
                assert_eq!(entries.len(), count, "more entries than requests");
                return entries;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} of {count} entries after 30 s",
                entries.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A page of the admin API, with the token of [`super::config`].
    pub async fn admin_page(&self, path: &str) -> Value {
        let answer = Client::new(self.admin, "admin-token").get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        Client::new(self.admin, "").get("/metrics").await.text()
    }

    /// The sum of all samples of a metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.metrics().await;
        let samples = page
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the process has said so far.
type Said = Arc<Mutex<String>>;

/// See [`Gateway::vitals`].
#[derive(Clone, Copy, Debug)]
pub struct Vitals {
    pub memory_kib: u64,
    pub threads: u64,
    pub descriptors: usize,
    pub cpu: Duration,
}

fn command(directory: &Path, config: &Path, wrapper: &[String]) -> Command {
    let binary = env!("CARGO_BIN_EXE_weir");
    let mut words = wrapper.iter().map(String::as_str).chain([binary]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .args(["serve", "-c"])
        .arg(config)
        .current_dir(directory);
    command
}

async fn spawn(
    directory: &Path,
    config: &Path,
    wrapper: &[String],
) -> (Child, SocketAddr, SocketAddr, Said) {
    let mut process = command(directory, config, wrapper)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let shows = std::env::var_os("WEIR_TEST_LOG").is_some();
    let said = Said::default();
    let all = Arc::clone(&said);
    // Lines must be read to the end, or the pipe fills up and the gateway stands still.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if shows {
                eprintln!("{line}");
            }
            let mut all = all.lock().unwrap();
            all.push_str(&line);
            all.push('\n');
            drop(all);
            let _ = sender.send(line);
        }
    });
    let reading = tokio::task::spawn_blocking(move || {
        let (mut address, mut said) = (None, String::new());
        while let Ok(line) = receiver.recv_timeout(Duration::from_secs(30)) {
            if let Some(rest) = line.strip_prefix("weir serves API requests on ") {
                address = rest
                    .split(": ")
                    .next()
                    .and_then(|address| address.parse().ok());
            }
            if let Some(rest) =
                line.strip_prefix("weir's dashboard, admin API and metrics are on http://")
            {
                let admin = rest.trim_end_matches('/').parse().ok();
                return address.zip(admin).ok_or(said);
            }
            said += &line;
            said.push('\n');
        }
        Err(said)
    });
    match reading.await.unwrap() {
        Ok((address, admin)) => (process, address, admin, said),
        Err(said) => panic!("the gateway does not start:\n{said}"),
    }
}
