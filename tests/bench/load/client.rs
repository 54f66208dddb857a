//! The client: one request over and over on a connection that stays open.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any answer of the bench takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A request's bytes, and what its answer must hold.
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Events with a time stamp in a streamed answer.
    chunks: Option<usize>,
}

impl Request {
    pub(crate) fn new(key: &str, model: &str, body_bytes: usize) -> Request {
        let chunks = model
            .strip_prefix("bench-stream-")
            .and_then(|rest| rest.split('-').next()?.parse().ok());
        let stream = if chunks.is_some() {
            r#""stream":true,"#
        } else {
            ""
        };
        let opening = format!(
            r#"{{"model":"{model}",{stream}"max_tokens":256,"messages":[{{"role":"user","content":""#
        );
        let closing = r#""}]}"#;
        let text = "a weir meters water ".bytes().cycle();
        let mut body = opening.into_bytes();
        body.extend(text.take(body_bytes.saturating_sub(body.len() + closing.len())));
        body.extend(closing.bytes());
        let mut bytes = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\naccept: */*\r\nuser-agent: bench\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        Request { bytes, chunks }
    }
}

/// What was seen of an answer.
pub(crate) struct Answer {
    /// When the first event was there.
    pub(crate) first_event: Option<Instant>,
    /// Nanoseconds from the upstream's write to the arrival, for each event but the first.
    pub(crate) chunk_delays: Vec<u64>,
}

/// A connection to the target.
pub(crate) struct Connection {
    target: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(target: SocketAddr) -> Connection {
        let stream = TcpStream::connect(target).await.expect("a target");
        stream.set_nodelay(true).expect("no delay");
        Connection {
            target,
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn reopen(&mut self) {
        *self = Connection::open(self.target).await;
    }

    /// Sends the request and reads the answer whole; an answer that is not the expected one is an error.
    pub(crate) async fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        tokio::time::timeout(ANSWER_TIMEOUT, async {
            self.stream.write_all(&request.bytes).await?;
            self.answer(request).await
        })
        .await?
    }

    async fn answer(&mut self, request: &Request) -> io::Result<Answer> {
        let head = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        if !text.starts_with("http/1.1 200 ") {
            return Err(io::Error::other(text));
        }
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        self.buffer.drain(..head);
        let mut seen = Answer {
            first_event: None,
            chunk_delays: Vec::new(),
        };
        match length {
            Some(length) => self.skip(length).await?,
            None => self.events(&mut seen).await?,
        }
        let stamped = seen.chunk_delays.len() + usize::from(seen.first_event.is_some());
        match request.chunks {
            Some(chunks) if chunks != stamped => {
                Err(io::Error::other(format!("{stamped} of {chunks} chunks")))
            }
            _ => Ok(seen),
        }
    }

    async fn skip(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.read().await?;
        }
        self.buffer.drain(..length);
        Ok(())
    }

    /// Reads a chunked body. Each event of the upstream's is looked for where it is: framing may cut it anywhere, so the
    /// time stamps are looked for in the text that the frames make up.
    async fn events(&mut self, seen: &mut Answer) -> io::Result<()> {
        let mut text = Vec::new();
        loop {
            let arrived = (Instant::now(), now());
            let mut at = 0;
            while let Some(line) = memmem::find(&self.buffer[at..], b"\r\n") {
                let size = usize::from_str_radix(
                    &String::from_utf8_lossy(&self.buffer[at..at + line]),
                    16,
                )
                .map_err(io::Error::other)?;
                let start = at + line + 2;
                if self.buffer.len() < start + size + 2 {
                    break;
                }
                text.extend_from_slice(&self.buffer[start..start + size]);
                at = start + size + 2;
                if size == 0 {
                    self.buffer.drain(..at);
                    take_stamps(&mut text, arrived, seen);
                    return if text.ends_with(b"data: [DONE]\n\n") {
                        Ok(())
                    } else {
                        Err(io::Error::other("no [DONE]"))
                    };
                }
            }
            self.buffer.drain(..at);
            take_stamps(&mut text, arrived, seen);
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Takes the events that are whole out of the text, the last one aside.
fn take_stamps(text: &mut Vec<u8>, (instant, now): (Instant, u64), seen: &mut Answer) {
    let mut done = 0;
    for end in memmem::find_iter(text, b"\n\n") {
        let event = &text[done..end];
        if let Some(at) = memmem::find(event, b"\"sent\":") {
            let digits = event[at + 7..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            let sent = digits.fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
            match seen.first_event {
                None => seen.first_event = Some(instant),
                Some(_) => seen.chunk_delays.push(now.saturating_sub(sent)),
            }
        }
        if !event.ends_with(b"[DONE]") {
            done = end + 2;
        }
    }
    text.drain(..done);
}

/// Nanoseconds since 1970, the clock that both sides of this process share.
pub(crate) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, super::nanoseconds)
}
