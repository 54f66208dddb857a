//! The upstream: answers as the model's name says, streamed or whole, with usage where it is asked for.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::now;

/// About 1 KB, as a short chat answer is.
const PLAIN: &str = r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1750000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"A weir is a low barrier across a river that changes how the water flows, and, as it has a known shape, tells how much of it passes: the height of the water above the crest gives the rate of the flow. Engineers have built them for a thousand years, to raise a river for boats, to feed a mill, to keep back a flood, or just to know how much water there is and who takes it.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":212,"completion_tokens":88,"total_tokens":300,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_bench"}"#;
const USAGE: &str = r#""usage":{"prompt_tokens":212,"completion_tokens":64,"total_tokens":276,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;
const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\n\
    openai-processing-ms: 12\r\ntransfer-encoding: chunked\r\n\r\n";

/// Starts it on a free loopback port and returns the port.
pub(crate) async fn start() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            // The other side closing its connection is an ordinary end.
            tokio::task::spawn_local(async move { serve(stream).await.ok() });
        }
    });
    port
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let plain = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\nopenai-processing-ms: 12\r\n\
         content-length: {}\r\n\r\n{PLAIN}",
        PLAIN.len()
    );
    let mut buffer = Vec::new();
    loop {
        let asked = read_request(&mut stream, &mut buffer).await?;
        match asked.stream {
            None => stream.write_all(plain.as_bytes()).await?,
            Some((chunks, pause)) => send_stream(&mut stream, chunks, pause, asked.usage).await?,
        }
    }
}

struct Asked {
    /// How many chunks, with what pause.
    stream: Option<(usize, Duration)>,
    usage: bool,
}

/// Reads a request whole, keeping no more of a long body than its beginning.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Asked> {
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        read(stream, buffer).await?;
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("content-length:")?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .ok_or_else(|| io::Error::other("a request without content-length"))?;
    buffer.drain(..head);
    let beginning = length.min(64 * 1024);
    while buffer.len() < beginning {
        read(stream, buffer).await?;
    }
    let body = String::from_utf8_lossy(&buffer[..beginning]);
    let asked = Asked {
        stream: body.find("bench-stream-").and_then(|at| {
            let mut parts = body[at + 13..].split(['-', '"']);
            let chunks = parts.next()?.parse().ok()?;
            Some((chunks, Duration::from_millis(parts.next()?.parse().ok()?)))
        }),
        usage: body.contains(r#""include_usage":true"#),
    };
    let mut rest = length;
    loop {
        let taken = rest.min(buffer.len());
        buffer.drain(..taken);
        rest -= taken;
        if rest == 0 {
            return Ok(asked);
        }
        read(stream, buffer).await?;
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.reserve(64 * 1024);
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn send_stream(
    stream: &mut TcpStream,
    chunks: usize,
    pause: Duration,
    usage: bool,
) -> io::Result<()> {
    let mut out = STREAM_HEAD.to_vec();
    let null = if usage { r#","usage":null"# } else { "" };
    let mut due = tokio::time::Instant::now();
    for _ in 0..chunks {
        let sent = now();
        frame(
            &mut out,
            &format!(
                r#"data: {{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1750000000,"model":"bench","service_tier":"default","system_fingerprint":"fp_bench","choices":[{{"index":0,"delta":{{"content":" water"}},"logprobs":null,"finish_reason":null}}]{null},"sent":{sent}}}"#
            ),
        );
        if !pause.is_zero() {
            stream.write_all(&out).await?;
            out.clear();
            due += pause;
            tokio::time::sleep_until(due).await;
        }
    }
    frame(
        &mut out,
        &format!(
            r#"data: {{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1750000000,"model":"bench","choices":[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}]{null}}}"#
        ),
    );
    if usage {
        frame(
            &mut out,
            &format!(
                r#"data: {{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1750000000,"model":"bench","choices":[],{USAGE}}}"#
            ),
        );
    }
    frame(&mut out, "data: [DONE]");
    out.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&out).await
}

/// One event as one chunk.
fn frame(out: &mut Vec<u8>, event: &str) {
    out.extend_from_slice(format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2).as_bytes());
}
