//! Upstreams that are spoken to over TLS, as every provider is.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::certificates;
use crate::support::{
    ACME, Asked, Body, CHAT, Gateway, Reply, Upstream, chat_answer, chat_chunks, config,
};

/// TLS in front of an upstream: what comes is passed on as it is.
struct Front {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Front {
    async fn start(upstream: &Upstream, home: &Path) -> Front {
        let certificate = CertificateDer::from_pem_file(home.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(home.join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (behind, counted) = (upstream.host(), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    counted.fetch_add(1, Ordering::SeqCst);
                    let mut plain = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        Front {
            address,
            connections,
        }
    }
}

/// The usual configuration with TLS to the first upstream, trusting `authority`.
fn over_tls(upstream: &Upstream, front: &Front, more: &str) -> String {
    let plain = format!("base_url = \"{}\"\napi_key", upstream.url());
    let url = format!("https://{}/v1", front.address);
    let secure = format!("base_url = \"{url}\"\n{more}\napi_key");
    config(upstream, ACME).replacen(&plain, &secure, 1)
}

fn answers(asked: &Asked) -> Reply {
    if asked.json()["stream"] != true {
        return Reply::json(200, chat_answer(7, 2));
    }
    let chunks = chat_chunks(&["One", " two"], Some((7, 2)));
    let chunks = chunks.into_iter().map(String::into_bytes).collect();
    Reply::stream(Body::Paced(std::time::Duration::from_millis(5), chunks))
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_large_requests_and_streams_pass_over_kept_tls_connections() {
    let home = tempfile::tempdir().unwrap();
    if certificates(home.path()).is_none() {
        println!("skipped: there is no openssl here");
        return;
    }
    let upstream = Upstream::start(answers).await;
    let authority = format!("tls_ca = \"{}\"", home.path().join("ca.pem").display());
    for more in [&authority, &format!("{authority}\nhttp2 = true")] {
        let front = Front::start(&upstream, home.path()).await;
        let gateway = Gateway::start(&over_tls(&upstream, &front, more)).await;
        let client = gateway.client();
        // More than TLS and the socket take at once.
        let large = CHAT.replace("Say hello.", &"x".repeat(5 << 20));
        let streamed = CHAT.replacen('{', "{\"stream\":true,", 1);
        for body in [CHAT, &large, &streamed, CHAT, &streamed] {
            let before = upstream.asked().len();
            let answer = client.post("/v1/chat/completions", body.to_owned()).await;
            assert_eq!(
                (answer.status, answer.broke_off),
                (http::StatusCode::OK, false)
            );
            let [asked] = &upstream.asked()[before..] else {
                panic!("one request is one request");
            };
            if body != streamed {
                assert_eq!(asked.body, body.as_bytes());
                assert_eq!(answer.text(), chat_answer(7, 2));
            } else {
                assert!(answer.text().ends_with("data: [DONE]\n\n"));
            }
        }
        let connections = front.connections.load(Ordering::SeqCst);
        assert_eq!(connections, 1, "one after the other, so on one connection");
        for entry in gateway.ledger_of(5).await {
            assert_eq!(entry["outcome"], "completed");
            assert_eq!(entry["usage"]["output_tokens"], 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_known_authority_vouches_for_is_told_nothing() {
    let home = tempfile::tempdir().unwrap();
    if certificates(home.path()).is_none() {
        println!("skipped: there is no openssl here");
        return;
    }
    let upstream = Upstream::start(answers).await;
    let front = Front::start(&upstream, home.path()).await;
    let lone = over_tls(&upstream, &front, "").replace(
        "upstreams = [\"sim\", \"sim-anthropic\"]",
        "upstreams = [\"sim\"]",
    );
    let gateway = Gateway::start(&lone).await;
    let answer = gateway.client().post("/v1/chat/completions", CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.code()),
        (502, "upstream_unreachable")
    );
    assert!(upstream.asked().is_empty());
    let [entry] = &gateway.ledger_of(1).await[..] else {
        panic!("one entry");
    };
    assert_eq!(
        (&entry["outcome"], &entry["cost_usd"]),
        (&"upstream_failed".into(), &"0.00".into())
    );
}
