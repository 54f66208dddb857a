//! Bytes to and from a socket as they are: what no well-behaved client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection without any protocol.
pub struct Raw {
    pub stream: TcpStream,
}

/// What came back: the bytes, and whether the peer closed.
#[derive(Debug)]
pub struct Heard {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

impl Heard {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status lines of all HTTP/1.1 answers in it.
    pub fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        text.match_indices("HTTP/1.1 ")
            .filter_map(|(at, mark)| text.get(at + mark.len()..)?.get(..3)?.parse().ok())
            .collect()
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }

    /// Sends bytes; whether the peer still took them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Listens until the peer closes or is quiet for so long.
    pub async fn hear(&mut self, quiet: Duration) -> Heard {
        let mut bytes = Vec::new();
        loop {
            match tokio::time::timeout(quiet, self.stream.read_buf(&mut bytes)).await {
                Err(_) => {
                    return Heard {
                        bytes,
                        closed: false,
                    };
                }
                Ok(Ok(0) | Err(_)) => {
                    return Heard {
                        bytes,
                        closed: true,
                    };
                }
                Ok(Ok(_)) => {}
            }
        }
    }

    /// Listens until an answer has this in it, the peer closes, or the time is over.
    pub async fn hear_until(&mut self, mark: &str, time: Duration) -> Heard {
        let mut bytes = Vec::new();
        let reading = async {
            loop {
                if String::from_utf8_lossy(&bytes).contains(mark) {
                    return false;
                }
                match self.stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return true,
                    Ok(_) => {}
                }
            }
        };
        let closed = tokio::time::timeout(time, reading).await.unwrap_or(false);
        Heard { bytes, closed }
    }
}

/// HTTP/2 frames, made by hand.
pub mod h2 {
    /// A client's first bytes.
    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const CONTINUATION: u8 = 9;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    /// No data may be sent on a stream until the client says so.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    pub fn setting(name: u16, value: u32) -> Vec<u8> {
        let mut payload = name.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        payload
    }

    /// A header block in which every field is a literal.
    pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                integer(&mut block, text.len());
                block.extend(text.as_bytes());
            }
        }
        block
    }

    fn integer(out: &mut Vec<u8>, value: usize) {
        if value < 127 {
            out.push(u8::try_from(value).unwrap());
            return;
        }
        out.push(127);
        let mut rest = value - 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).unwrap());
    }

    /// A chat request with the key of the usual account.
    pub fn chat_fields(length: &str) -> Vec<(&str, &str)> {
        vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/v1/chat/completions"),
            (":authority", "gateway"),
            ("authorization", "Bearer sk-acme"),
            ("content-type", "application/json"),
            ("content-length", length),
        ]
    }

    /// The frames in what was heard: kind, flags, stream, payload.
    pub fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, rest)) = rest.split_at_checked(length) else {
                break;
            };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            frames.push((head[3], head[4], stream, payload.to_vec()));
            bytes = rest;
        }
        frames
    }
}
