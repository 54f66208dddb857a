//! A scripted upstream on a raw socket: it says exactly the bytes that a test wants, in the pieces that it wants, and
//! breaks off where it wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::chat_answer;

/// What the gateway asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the gateway sends JSON")
    }

    /// Whether the usage chunk is asked for.
    pub fn asks_usage(&self) -> bool {
        self.json()["stream_options"]["include_usage"] == true
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

/// How an answer's body is sent.
#[derive(Clone, Debug)]
pub enum Body {
    /// With a Content-Length.
    Whole(Vec<u8>),
    /// Chunked, each piece in a write of its own.
    Pieces(Vec<Vec<u8>>),
    /// Chunked, and the connection is dropped after the pieces.
    BreaksOff(Vec<Vec<u8>>),
    /// A length, fewer bytes than that, and the connection is dropped.
    FallsShort(usize, Vec<u8>),
    /// Chunked; after the pieces nothing more comes until the peer goes away. The sender tells when that was.
    Hangs(Vec<Vec<u8>>),
    /// No answer at all.
    Silence,
    /// The connection is closed without a byte.
    Nothing,
    /// As `Whole`, after so long.
    Later(std::time::Duration, Vec<u8>),
    /// As `Whole`, once it is told to.
    When(tokio::sync::watch::Receiver<bool>, Vec<u8>),
    /// As `Pieces`, with so long a pause before each.
    Paced(std::time::Duration, Vec<Vec<u8>>),
    /// The rest of the head and all that follows, as it is; then the connection is closed.
    Verbatim(Vec<u8>),
}

impl Reply {
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: Body::Whole(body.into()),
        }
    }

    /// As [`Reply::json`] with status 200, after so long.
    pub fn later(pause: std::time::Duration, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            body: Body::Later(pause, body.into()),
            ..Reply::json(200, "")
        }
    }

    pub fn events<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = P>) -> Reply {
        Reply::stream(Body::Pieces(pieces.into_iter().map(Into::into).collect()))
    }

    pub fn stream(body: Body) -> Reply {
        Reply {
            status: 200,
            headers: vec![(
                "content-type".into(),
                "text/event-stream; charset=utf-8".into(),
            )],
            body,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// The upstream; it ends with the test's runtime.
pub struct Upstream {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    left: Arc<tokio::sync::Notify>,
}

impl Upstream {
    /// An upstream that answers each request by `script`.
    pub async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(tokio::sync::Notify::new());
        let script: Script = Arc::new(script);
        let (all, gone) = (Arc::clone(&asked), Arc::clone(&left));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(
                    stream,
                    Arc::clone(&script),
                    Arc::clone(&all),
                    Arc::clone(&gone),
                ));
            }
        });
        Upstream {
            address,
            asked,
            left,
        }
    }

    /// An upstream that answers each chat request at once.
    pub async fn quick() -> Upstream {
        Upstream::start(|_| Reply::json(200, chat_answer(1, 1))).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The `Host` that requests to it should have.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until the gateway has left an answer that hangs.
    pub async fn left(&self) {
        tokio::time::timeout(std::time::Duration::from_secs(20), self.left.notified())
            .await
            .expect("the gateway leaves an answer that hangs");
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Script,
    all: Arc<Mutex<Vec<Asked>>>,
    left: Arc<tokio::sync::Notify>,
) {
    let mut buffer = Vec::new();
    while let Some(asked) = read_request(&mut stream, &mut buffer).await {
        let reply = script(&asked);
        all.lock().unwrap().push(asked);
        if !send(&mut stream, reply, &left).await {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < head_end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head_end..head_end + length].to_vec();
    buffer.drain(..head_end + length);
    Some(Asked {
        path,
        headers,
        body,
    })
}

/// Sends a reply; whether the connection goes on.
async fn send(stream: &mut TcpStream, reply: Reply, left: &tokio::sync::Notify) -> bool {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let (pieces, end) = match reply.body {
        Body::Silence => {
            await_leaving(stream, left).await;
            return false;
        }
        Body::Nothing => return false,
        Body::Verbatim(rest) => {
            head.push_str(&String::from_utf8(rest).unwrap());
            let _ = stream.write_all(head.as_bytes()).await;
            await_leaving(stream, left).await;
            return false;
        }
        Body::Later(pause, body) => {
            tokio::time::sleep(pause).await;
            head += &format!("content-length: {}\r\n\r\n", body.len());
            let whole = [head.as_bytes(), &body].concat();
            return stream.write_all(&whole).await.is_ok();
        }
        Body::When(mut told, body) => {
            if told.wait_for(|told| *told).await.is_err() {
                return false;
            }
            head += &format!("content-length: {}\r\n\r\n", body.len());
            let whole = [head.as_bytes(), &body].concat();
            return stream.write_all(&whole).await.is_ok();
        }
        Body::Paced(pause, pieces) => {
            head += "transfer-encoding: chunked\r\n\r\n";
            let mut bytes = head.into_bytes();
            for piece in pieces {
                bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
                if stream.write_all(&bytes).await.is_err() {
                    left.notify_one();
                    return false;
                }
                bytes.clear();
                tokio::time::sleep(pause).await;
            }
            return stream.write_all(b"0\r\n\r\n").await.is_ok();
        }
        Body::FallsShort(length, body) => {
            head += &format!("content-length: {length}\r\n\r\n");
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            return false;
        }
        Body::Whole(body) => {
            head += &format!("content-length: {}\r\n\r\n", body.len());
            return stream.write_all(head.as_bytes()).await.is_ok()
                && stream.write_all(&body).await.is_ok();
        }
        Body::Pieces(pieces) => (pieces, Some(true)),
        Body::BreaksOff(pieces) => (pieces, Some(false)),
        Body::Hangs(pieces) => (pieces, None),
    };
    head += "transfer-encoding: chunked\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        if stream.write_all(&chunk).await.is_err() {
            left.notify_one();
            return false;
        }
    }
    match end {
        Some(true) => stream.write_all(b"0\r\n\r\n").await.is_ok(),
        Some(false) => false,
        None => {
            await_leaving(stream, left).await;
            false
        }
    }
}

async fn await_leaving(stream: &mut TcpStream, left: &tokio::sync::Notify) {
    let mut byte = [0];
    let _ = stream.read(&mut byte).await;
    left.notify_one();
}
