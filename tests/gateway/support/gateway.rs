//! The built gateway as a process: `weir serve` on ports of the system's choice.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::Client;

/// A gateway in a directory of its own. Killed when dropped.
pub struct Gateway {
    directory: TempDir,
    config: PathBuf,
    process: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts a gateway with this configuration.
    pub async fn start(config: &str) -> Gateway {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weir.toml");
        std::fs::write(&path, config).unwrap();
        let (process, address, admin) = spawn(directory.path(), &path).await;
        Gateway {
            directory,
            config: path,
            process,
            address,
            admin,
        }
    }

    /// A client with the key of [`super::ACME`].
    pub fn client(&self) -> Client {
        Client::new(self.address, "sk-acme")
    }

    /// Kills the process where it is (SIGKILL) and starts another on the same files.
    pub async fn kill_and_restart(&mut self) {
        self.kill().await;
        let (process, address, admin) = spawn(self.directory.path(), &self.config).await;
        (self.process, self.address, self.admin) = (process, address, admin);
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status()
            .unwrap();
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

async fn spawn(directory: &Path, config: &Path) -> (Child, SocketAddr, SocketAddr) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "-c"])
        .arg(config)
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let shows = std::env::var_os("WEIR_TEST_LOG").is_some();
    // Lines must be read to the end, or the pipe fills up and the gateway stands still.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if shows {
                eprintln!("{line}");
            }
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
        Ok((address, admin)) => (process, address, admin),
        Err(said) => panic!("the gateway does not start:\n{said}"),
    }
}
