//! Against a peer that does exactly what the test says.

use std::convert::Infallible;

use http_body_util::BodyExt;
use hyper_rustls::HttpsConnectorBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::upstream::UpstreamBody;

/// An answer without a body.
const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

struct Peer {
    listener: TcpListener,
    pool: Arc<Pool>,
}

/// A pool, and the server that its connections go to.
async fn peer() -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let tls = crate::upstream::tls_config(None, crate::config::Scheme::Http).unwrap();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    let pool = Pool::new(
        connector,
        address.parse().unwrap(),
        8,
        Duration::from_secs(9),
    );
    Peer {
        listener,
        pool: Arc::new(pool),
    }
}

impl Peer {
    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Takes a connection, reads a request of two bytes from it, and answers.
    async fn serve(&self, said: &[&str]) -> TcpStream {
        let mut socket = self.accept().await;
        request(&mut socket, 2).await;
        answer(&mut socket, said).await;
        socket
    }

    fn post(&self, body: &[u8]) -> Call {
        let body = OutgoingBody::new(vec![Bytes::copy_from_slice(body)]);
        let path = PathAndQuery::from_static("/v1/x");
        self.pool.call(Method::POST, &path, &HeaderMap::new(), body)
    }

    fn idle(&self) -> usize {
        self.pool.rest().idle.len()
    }
}

/// Reads a request with a body of so many bytes.
async fn request(socket: &mut TcpStream, body: usize) -> String {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = socket.read(&mut piece).await.unwrap();
        assert!(length > 0, "the connection was closed");
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read);
        if let Some(end) = text.find("\r\n\r\n")
            && read.len() == end + 4 + body
        {
            return text.into_owned();
        }
    }
}

/// Sends an answer in pieces, each of which the gateway may see by itself.
async fn answer(socket: &mut TcpStream, pieces: &[&str]) {
    for piece in pieces {
        socket.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
}

async fn text(answer: Response<Http1Body>) -> Result<String, String> {
    let body = UpstreamBody::Http1(answer.into_body());
    match body.collect().await {
        Ok(body) => Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a call gives while the peer does its part.
async fn meanwhile<T>(
    call: Call,
    peer: impl Future<Output = T>,
) -> (Result<Response<Http1Body>, CallError>, T) {
    tokio::join!(call, peer)
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_answer() {
    let peer = peer().await;
    let both = async {
        let mut socket = peer.accept().await;
        for _ in 0..3 {
            let seen = request(&mut socket, 2).await;
            assert!(seen.starts_with("POST /v1/x HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi"));
            answer(
                &mut socket,
                &["HTTP/1.1 200 OK\r\nContent-Le", "ngth: 5\r\n\r\nhel", "lo"],
            )
            .await;
        }
    };
    let calls = async {
        for _ in 0..3 {
            let answer = peer.post(b"hi").await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "hello");
            assert_eq!(peer.idle(), 1);
        }
    };
    tokio::join!(both, calls);
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte_and_after_others_that_are_none() {
    let peer = peer().await;
    let served = async {
        let mut socket = peer.accept().await;
        request(&mut socket, 2).await;
        let head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 201 Created\r\nx: y\r\ncontent-length: 0\r\n\r\n";
        let bytes: Vec<String> = head.chars().map(String::from).collect();
        answer(
            &mut socket,
            &bytes.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await;
        socket
    };
    let (answered, _socket) = meanwhile(peer.post(b"hi"), served).await;
    let answered = answered.unwrap();
    assert_eq!(
        (answered.status().as_u16(), &answered.headers()["x"]),
        (201, &"y".parse().unwrap())
    );
    assert_eq!(text(answered).await.unwrap(), "");
    assert_eq!(peer.idle(), 1);
}

#[tokio::test]
async fn heads_that_are_none_do_not_come_without_end() {
    let peer = peer().await;
    let served = async {
        let many = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(INFORMATIONAL_MAX + 1);
        peer.serve(&[&many]).await
    };
    let (answered, _socket) = meanwhile(peer.post(b"hi"), served).await;
    assert!(matches!(answered, Err(CallError::Broken(_))));
}

#[tokio::test]
async fn a_connection_that_was_closed_at_rest_is_not_used() {
    let peer = peer().await;
    let served = async { drop(peer.serve(&[EMPTY]).await) };
    let (answered, ()) = meanwhile(peer.post(b"hi"), served).await;
    assert!(answered.is_ok());
    assert_eq!(peer.idle(), 1, "its end has not been seen yet");
    // It is seen as soon as the runtime has looked.
    while let Some(rested) = std::future::poll_fn(|cx| Poll::Ready(peer.pool.take(cx))).await {
        peer.pool.put(rested);
        tokio::task::yield_now().await;
    }
    let served = peer.serve(&[EMPTY]);
    let (answered, _socket) = meanwhile(peer.post(b"hi"), served).await;
    assert!(answered.is_ok());
}

#[tokio::test]
async fn however_many_were_closed_at_rest_none_is_used() {
    let mut peer = peer().await;
    // More than a task may look at in one turn.
    let many = 200;
    Arc::get_mut(&mut peer.pool).unwrap().idle_max = many;
    let served = async {
        let mut sockets = Vec::new();
        for _ in 0..many {
            sockets.push(peer.accept().await);
        }
        for socket in &mut sockets {
            request(socket, 2).await;
        }
        for socket in &mut sockets {
            answer(socket, &[EMPTY]).await;
        }
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..many {
        calls.spawn(peer.post(b"hi"));
    }
    served.await;
    while let Some(answered) = calls.join_next().await {
        assert!(answered.unwrap().is_ok());
    }
    assert_eq!(peer.idle(), many);
    // Their ends are here as soon as the runtime has looked at all of them: the newest connection's was the last.
    let served = peer.serve(&[EMPTY]);
    let mut last = peer.pool.rest().idle.remove(0).connection;
    std::future::poll_fn(|cx| match last.is_open(cx) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
    for _ in 0..many {
        tokio::task::yield_now().await;
    }
    let both = meanwhile(peer.post(b"hi"), served);
    let (answered, _socket) = tokio::time::timeout(Duration::from_secs(9), both)
        .await
        .expect("nobody connects anew");
    assert!(answered.is_ok());
    assert_eq!(peer.idle(), 1);
}

#[tokio::test]
async fn one_task_closes_what_rests_too_long() {
    let peer = peer().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..50 {
        let served = async { drop(peer.serve(&[EMPTY]).await) };
        let (answered, ()) = meanwhile(peer.post(b"hi"), served).await;
        assert!(answered.is_ok());
        peer.pool.rest().idle.clear();
    }
    assert_eq!(
        metrics.num_alive_tasks(),
        1,
        "one, however often the last one was taken"
    );
}

#[tokio::test]
async fn nothing_behind_an_answer_is_taken_for_the_next_one() {
    let peer = peer().await;
    let served = async {
        let two = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad";
        peer.serve(&[two]).await
    };
    let (answered, _socket) = meanwhile(peer.post(b"hi"), served).await;
    assert_eq!(text(answered.unwrap()).await.unwrap(), "ok");
    assert_eq!(peer.idle(), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_one() {
    for (sent, whole) in [
        ("content-length: 9\r\n\r\npart", false),
        ("transfer-encoding: chunked\r\n\r\n4\r\npart\r\n", false),
        (
            "transfer-encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n",
            false,
        ),
        (
            "transfer-encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n\r\n",
            true,
        ),
        ("x: y\r\n\r\npart", true),
    ] {
        let peer = peer().await;
        let served = async { drop(peer.serve(&["HTTP/1.1 200 OK\r\n", sent]).await) };
        let (answered, ()) = meanwhile(peer.post(b"hi"), served).await;
        let text = text(answered.unwrap()).await;
        assert_eq!(text.as_deref() == Ok("part"), whole, "{sent:?}: {text:?}");
    }
}

#[tokio::test]
async fn trailers_come_behind_the_body() {
    let peer = peer().await;
    let served = async {
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        peer.serve(&[chunks]).await
    };
    let (answered, _socket) = meanwhile(peer.post(b"hi"), served).await;
    let body = UpstreamBody::Http1(answered.unwrap().into_body());
    let body = body.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    assert_eq!(body.to_bytes(), "ok");
    assert_eq!(peer.idle(), 1);
}

#[tokio::test]
async fn an_answer_before_the_request_is_read_is_passed_on_and_the_connection_closed() {
    let peer = peer().await;
    let served = async {
        let mut socket = peer.accept().await;
        let mut start = [0; 16];
        socket.read_exact(&mut start).await.unwrap();
        answer(
            &mut socket,
            &["HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"],
        )
        .await;
        socket
    };
    // More than any socket takes.
    let (answered, _socket) = meanwhile(peer.post(&vec![b'x'; 32 << 20]), served).await;
    let answered = answered.unwrap();
    assert_eq!(answered.status(), 413);
    assert_eq!(text(answered).await.unwrap(), "no");
    assert_eq!(peer.idle(), 0);
}

#[tokio::test]
async fn a_request_goes_on_while_its_answer_has_begun() {
    let peer = peer().await;
    let body = 8 << 20;
    let served = async {
        let mut socket = peer.accept().await;
        let mut start = [0; 16];
        socket.read_exact(&mut start).await.unwrap();
        answer(
            &mut socket,
            &["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"],
        )
        .await;
        let mut left = "POST /v1/x HTTP/1.1\r\ncontent-length: 8388608\r\n\r\n".len() + body - 16;
        let mut piece = vec![0; 1 << 16];
        while left > 0 {
            left -= socket.read(&mut piece).await.unwrap();
        }
        answer(&mut socket, &["k"]).await;
        socket
    };
    let call = async {
        let answered = peer.post(&vec![b'x'; body]).await.unwrap();
        text(answered).await
    };
    let (text, _socket) = tokio::join!(call, served);
    assert_eq!(text.unwrap(), "ok");
    assert_eq!(peer.idle(), 1);
}

#[tokio::test]
async fn who_is_not_there_has_seen_nothing() {
    let Peer { listener, pool } = peer().await;
    drop(listener);
    let path = PathAndQuery::from_static("/");
    let mut call = pool.call(
        Method::GET,
        &path,
        &HeaderMap::new(),
        OutgoingBody::default(),
    );
    assert!(!call.may_have_been_sent());
    assert!(matches!((&mut call).await, Err(CallError::Connect(_))));
}

#[tokio::test]
async fn who_closes_without_an_answer_may_have_seen_the_request() {
    let peer = peer().await;
    let served = async {
        let mut socket = peer.accept().await;
        request(&mut socket, 2).await;
        Ok::<_, Infallible>(())
    };
    let (answered, _) = meanwhile(peer.post(b"hi"), served).await;
    assert!(matches!(answered, Err(CallError::Broken(_))));
}
