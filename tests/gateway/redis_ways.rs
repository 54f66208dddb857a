//! Quotas in a Redis that is a cluster, that sentinels watch, or that speaks TLS: real servers, two gateways on them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::certificates::certificates;
use crate::support::services::free_port;
use crate::support::{Client, Gateway, Reply, Upstream, chat_answer, config};

const PATIENCE: Duration = Duration::from_secs(15);
const ACCOUNTS: usize = 8;
const CHAT: &str = r#"{"model":"gpt-4o-mini","messages":[]}"#;

/// A server that ends with its test.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// `None`, with a printed line, if there is no `redis-server`.
    fn start(port: u16, home: &Path, arguments: &[&str]) -> Option<Server> {
        let folder = home.join(port.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let process = Command::new("redis-server")
            .args(arguments)
            .args(["--bind", "127.0.0.1", "--dir"])
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            println!("skipped: there is no redis-server here (tests/setup installs it)");
            return None;
        };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Server { process, port })
    }

    fn plain(home: &Path, more: &[&str]) -> Option<Server> {
        let port = free_port();
        let text = port.to_string();
        let arguments = [&["--port", &text, "--save", "", "--appendonly", "no"], more].concat();
        Server::start(port, home, &arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Accounts that are trees of their own, `sk-0` and so on, each with six requests a day.
fn accounts() -> String {
    let mut text = "[[plans]]\nid = \"team\"\nprice = \"0.00\"\nperiod = \"month\"\n[[plans.limits]]\non = \"requests\"\nmax = 6\nper = \"day\"\n".to_owned();
    for number in 0..ACCOUNTS {
        text += &format!(
            "[[accounts]]\nid = \"team-{number}\"\nplan = \"team\"\nsince = 2026-01-01\nkeys = [{{ id = \"key-{number}\", secret = \"sk-{number}\" }}]\n"
        );
    }
    text
}

/// Two gateways with counters there.
async fn gateways(quota: &str) -> [Gateway; 2] {
    let upstream = Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await;
    let more = format!("[quota]\ntimeout = \"2s\"\n{quota}\n{}", accounts());
    let config = config(&upstream, &more);
    [Gateway::start(&config).await, Gateway::start(&config).await]
}

async fn ask(gateway: &Gateway, account: usize) -> u16 {
    let client = Client::new(gateway.address, &format!("sk-{account}"));
    let answer = client.post("/v1/chat/completions", CHAT).await;
    answer.status.as_u16()
}

/// Every account's requests are counted once for both gateways.
async fn count_together(gateways: &[Gateway; 2]) {
    for account in 0..ACCOUNTS {
        let mut statuses = Vec::new();
        for turn in 0..8 {
            statuses.push(ask(&gateways[turn % 2], account).await);
        }
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_each_tree_on_one_of_its_nodes() {
    let home = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        // A node's bus has the port above by ten thousand.
        let port = std::iter::repeat_with(free_port)
            .find(|port| *port < 55_000)
            .unwrap();
        let text = port.to_string();
        let arguments = ["--port", &text, "--cluster-enabled", "yes", "--save", ""];
        let Some(node) = Server::start(port, home.path(), &arguments) else {
            return;
        };
        nodes.push(node);
    }
    let addresses: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port))
        .collect();
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-yes"])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stdout)
    );
    wait_for("the cluster is up", || {
        nodes
            .iter()
            .all(|node| cli(node.port, &["cluster", "info"]).contains("cluster_state:ok"))
    });
    // One address is enough to find the others.
    let url = format!("urls = [\"redis://{}\"]", addresses[0]);
    count_together(&gateways(&url).await).await;
    let holders = nodes
        .iter()
        .filter(|node| cli(node.port, &["keys", "weir:*:tree"]).contains("tree"));
    assert!(holders.count() >= 2, "all trees lie on one node");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_name_the_master_and_its_successor() {
    let home = tempfile::tempdir().unwrap();
    let Some(master) = Server::plain(home.path(), &["--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    let of_master = master.port.to_string();
    let replica = Server::plain(home.path(), &["--replicaof", "127.0.0.1", &of_master]).unwrap();
    wait_for("the replica follows", || {
        cli(replica.port, &["info", "replication"]).contains("master_link_status:up")
    });
    let port = free_port();
    let file = home.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nsentinel monitor weir 127.0.0.1 {of_master} 1\nsentinel down-after-milliseconds weir 500\nsentinel failover-timeout weir 2000\n"
    );
    std::fs::write(&file, text).unwrap();
    let arguments = [file.to_str().unwrap(), "--sentinel"];
    let _sentinel = Server::start(port, home.path(), &arguments).unwrap();
    wait_for("the sentinel knows the replica", || {
        cli(port, &["sentinel", "replicas", "weir"]).contains(&replica.port.to_string())
    });
    let gateways = gateways(&format!(
        "urls = [\"redis://127.0.0.1:{port}\"]\nsentinel_master = \"weir\""
    ))
    .await;
    for turn in 0..3 {
        assert_eq!(ask(&gateways[turn % 2], 0).await, 200);
    }
    let replicated = cli(master.port, &["wait", "1", "2000"]);
    assert_eq!(replicated.trim(), "1");

    drop(master);
    let began = Instant::now();
    let mut statuses = Vec::new();
    loop {
        match ask(&gateways[statuses.len() % 2], 0).await {
            503 => tokio::time::sleep(Duration::from_millis(100)).await,
            status => statuses.push(status),
        }
        if statuses.len() == 4 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no successor");
    }
    // What was used before is remembered.
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_server_that_the_named_authority_vouches_for_and_with_no_other() {
    let home = tempfile::tempdir().unwrap();
    if certificates(home.path()).is_none() {
        println!("skipped: there is no openssl here");
        return;
    }
    let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let (text, cert, key, ca) = (
        port.to_string(),
        file("server.pem"),
        file("server.key"),
        file("ca.pem"),
    );
    let arguments = [
        "--port",
        "0",
        "--tls-port",
        &text,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "open sesame",
        "--save",
        "",
    ];
    let Some(_server) = Server::start(port, home.path(), &arguments) else {
        return;
    };
    let url = format!("url = \"rediss://:open%20sesame@127.0.0.1:{port}\"");
    count_together(&gateways(&format!("{url}\ntls_ca = \"{ca}\"")).await).await;
    // Without it the system's own authorities hold, which know nothing of this server.
    let [stranger, _] = gateways(&url).await;
    assert_eq!(ask(&stranger, 0).await, 503);
    let said = stranger.heard("shared quotas are away").await;
    assert!(!said.contains("sesame"), "{said}");
}
