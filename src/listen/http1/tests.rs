//! Against a client that does exactly what the test says.

mod answers;
mod ends;
mod requests;

use std::time::Duration;

use http::{Method, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client, and the serving of its connection.
struct Client {
    socket: TcpStream,
    stop: CancellationToken,
    served: JoinHandle<Result<(), WireError>>,
}

/// Connects a client to what `handle` serves.
async fn client<H, F, B>(handle: H) -> Client
where
    H: Fn(Request<ClientBody>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bounds = Bounds {
        header_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        header_bytes_max: 1024,
    };
    bounded(bounds, handle).await
}

async fn bounded<H, F, B>(bounds: Bounds, handle: H) -> Client
where
    H: Fn(Request<ClientBody>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap());
    let (socket, accepted) = tokio::join!(socket, listener.accept());
    let stream = ClientStream::Plain(accepted.unwrap().0);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let served =
        tokio::spawn(async move { serve(stream, Bytes::new(), &bounds, &stopping, handle).await });
    Client {
        socket: socket.unwrap(),
        stop,
        served,
    }
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until what came ends like that. The date is left out.
    async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(end.as_bytes()) {
            let mut piece = [0; 4096];
            let reading = tokio::time::timeout(PATIENCE, self.socket.read(&mut piece));
            let length = reading.await.expect("it says something").unwrap();
            let so_far = String::from_utf8_lossy(&heard);
            assert!(length > 0, "closed after {so_far:?}");
            heard.extend_from_slice(&piece[..length]);
        }
        undated(&heard)
    }

    /// Reads to the connection's end.
    async fn hear_all(&mut self) -> String {
        let mut heard = Vec::new();
        let reading = self.socket.read_to_end(&mut heard);
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("it is closed")
            .unwrap();
        undated(&heard)
    }
}

fn undated(heard: &[u8]) -> String {
    let text = String::from_utf8(heard.to_vec()).unwrap();
    let lines = text.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

/// A body that gives what it is fed.
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

impl Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx)
    }
}

/// A client that is answered with what is fed.
async fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>, Client) {
    let (feed, body) = mpsc::channel(8);
    let body = Mutex::new(Some(body));
    let client = client(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Response::new(Fed(body)) }
    });
    (feed, client.await)
}

/// Answers with the request's method, target and body.
async fn echo(request: Request<ClientBody>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let text = match body.collect().await {
        Ok(body) => String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        Err(error) => error.to_string(),
    };
    Response::new(format!("{} {} {text}", head.method, head.uri).into())
}

/// Answers at once, whatever is asked.
async fn quick(_: Request<ClientBody>) -> Response<Full<Bytes>> {
    Response::new("ok".into())
}

fn answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
