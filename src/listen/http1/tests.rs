//! Against a client that does exactly what the test says.

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

#[tokio::test]
async fn requests_are_answered_in_their_order_however_they_come() {
    let requests = "GET /1 HTTP/1.1\r\n\r\n\
        POST /2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi\
        POST /3 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\nx-sum: 3\r\n\r\n\
        \r\nGET /4 HTTP/1.1\r\n\r\n";
    let answers = ["GET /1 ", "POST /2 hi", "POST /3 abc", "GET /4 "]
        .map(answer)
        .concat();
    for piece in [requests.len(), 7, 1] {
        let mut client = client(echo).await;
        for piece in requests.as_bytes().chunks(piece) {
            client.socket.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(
            client.hear("GET /4 ").await,
            answers,
            "in pieces of {piece}"
        );
        drop(client.socket);
        client.served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_nothing_behind_it_read() {
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1024));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(101));
    let framed = |lines: &str| format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n");
    for (head, status) in [
        (
            "\x16\x03\x01\x02\0 a TLS handshake".to_owned(),
            "400 Bad Request",
        ),
        ("GET / HTTP/3.0\r\n\r\n".to_owned(), "400 Bad Request"),
        ("GET a b HTTP/1.1\r\n\r\n".to_owned(), "400 Bad Request"),
        ("GET http:// HTTP/1.1\r\n\r\n".to_owned(), "400 Bad Request"),
        (
            "GET / HTTP/1.1\r\nno header\r\n\r\n".to_owned(),
            "400 Bad Request",
        ),
        (long, "431 Request Header Fields Too Large"),
        (many, "431 Request Header Fields Too Large"),
        (
            framed("Content-Length: 1\r\nContent-Length: 2"),
            "400 Bad Request",
        ),
        (framed("Content-Length: +1"), "400 Bad Request"),
        (
            framed("Transfer-Encoding: gzip, chunked"),
            "400 Bad Request",
        ),
        (
            framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            "400 Bad Request",
        ),
        (
            framed("Transfer-Encoding: chunked\r\nContent-Length: 1"),
            "400 Bad Request",
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "400 Bad Request",
        ),
    ] {
        let mut client = client(echo).await;
        client.send(&head).await;
        let refused =
            format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        assert_eq!(client.hear_all().await, refused, "{head:?}");
        drop(client.socket);
        let ended = client.served.await.unwrap();
        assert!(matches!(ended, Err(WireError::Head(_))), "{head:?}");
    }
}

#[tokio::test]
async fn a_connection_goes_on_only_where_both_ends_agree() {
    for (head, said) in [
        (
            "GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
        (
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
    ] {
        let mut client = client(quick).await;
        client.send(&head.repeat(2)).await;
        assert_eq!(client.hear_all().await, said);
    }
    let mut client = client(quick).await;
    let kept = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok";
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        assert_eq!(client.hear("ok").await, kept);
    }
}

#[tokio::test]
async fn a_body_that_was_not_read_is_passed_over_if_it_is_there_and_ends_the_connection_if_not() {
    let mut there = client(quick).await;
    let request = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
    let last = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    there.send(&[request, last].concat()).await;
    let closes = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    assert_eq!(there.hear_all().await, [&answer("ok"), closes].concat());

    let mut missing = client(quick).await;
    missing
        .send("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nhi")
        .await;
    assert_eq!(missing.hear_all().await, closes);
}

#[tokio::test]
async fn who_is_refused_while_it_sends_hears_the_answer() {
    let mut client = client(quick).await;
    let head = "POST / HTTP/1.1\r\nContent-Length: 600000\r\n\r\n";
    client.send(head).await;
    let heard = client.hear("ok").await;
    assert!(heard.contains("connection: close"));
    // All this would be met by a reset, which also takes away what was not heard yet.
    client.send(&"x".repeat(600_000)).await;
    client.socket.shutdown().await.unwrap();
    assert_eq!(client.hear_all().await, "");
    client.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_asks_before_sending_is_told_to_when_the_body_is_wanted() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut wanted = client(echo).await;
    wanted.send(head).await;
    assert_eq!(
        wanted.hear("\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    wanted.send("hi").await;
    assert_eq!(wanted.hear("POST / hi").await, answer("POST / hi"));

    let mut unwanted = client(quick).await;
    unwanted.send(head).await;
    assert!(unwanted.hear_all().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn what_is_ready_leaves_at_once_and_in_chunks() {
    let (feed, mut client) = fed().await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(
        client.hear("\r\n\r\n").await,
        head,
        "before there is anything"
    );
    for text in ["a", "bcd", &"e".repeat(0x1234), ""] {
        feed.send(Ok(Frame::data(text.to_owned().into())))
            .await
            .unwrap();
        if !text.is_empty() {
            let chunk = format!("{:x}\r\n{text}\r\n", text.len());
            assert_eq!(client.hear(&chunk).await, chunk);
        }
    }
    drop(feed);
    assert_eq!(client.hear("0\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn trailers_that_were_announced_are_sent_to_who_takes_them() {
    for (takes, announces) in [(true, true), (true, false), (false, true)] {
        let (feed, body) = mpsc::channel(8);
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "x-other", "content-length"] {
            trailers.insert(name, "7".parse().unwrap());
        }
        feed.send(Ok(Frame::data("ok".into()))).await.unwrap();
        feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(feed);
        let mut response = Response::new(Fed(body));
        if announces {
            let names = "X-Sum, content-length".parse().unwrap();
            response.headers_mut().insert(TRAILER, names);
        }
        let response = Mutex::new(Some(response));
        let mut client = client(move |_| {
            let response = response.lock().unwrap().take().unwrap();
            async { response }
        })
        .await;
        let te = if takes { "TE: trailers\r\n" } else { "" };
        let request = format!("GET / HTTP/1.1\r\n{te}Connection: close\r\n\r\n");
        client.send(&request).await;
        let heard = client.hear_all().await;
        let (_, body) = heard.split_once("\r\n\r\n").unwrap();
        let sent = match takes && announces {
            true => "x-sum: 7\r\n",
            false => "",
        };
        assert_eq!(body, format!("2\r\nok\r\n0\r\n{sent}\r\n"));
    }
}

#[tokio::test]
async fn an_old_client_is_told_the_end_by_the_connections_own() {
    let (feed, mut client) = fed().await;
    client
        .send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    feed.send(Ok(Frame::data("ok".into()))).await.unwrap();
    drop(feed);
    let whole = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nok";
    assert_eq!(client.hear_all().await, whole);
}

#[tokio::test]
async fn to_an_old_client_an_answer_that_breaks_off_has_no_such_end() {
    let (feed, mut client) = fed().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    feed.send(Ok(Frame::data("half".into()))).await.unwrap();
    client.hear("half").await;
    feed.send(Err(std::io::Error::other("gone"))).await.unwrap();
    let mut piece = [0; 16];
    let reading = client.socket.read(&mut piece);
    let heard = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert_eq!(
        heard.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn some_answers_have_no_body() {
    for (method, status, head) in [
        (
            Method::HEAD,
            200,
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n",
        ),
        (
            Method::GET,
            304,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n",
        ),
        (Method::GET, 204, "HTTP/1.1 204 No Content\r\n"),
    ] {
        let mut client = client(move |_| async move {
            let mut response = Response::new(Full::<Bytes>::from("nine byte"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert("content-length", 9.into());
            response
        })
        .await;
        client
            .send(&format!("{method} / HTTP/1.1\r\nConnection: close\r\n\r\n"))
            .await;
        assert_eq!(
            client.hear_all().await,
            format!("{head}connection: close\r\n\r\n")
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_ended() {
    let (feed, mut client) = fed().await;
    feed.send(Ok(Frame::data("some".into()))).await.unwrap();
    feed.send(Err(std::io::Error::other("no more")))
        .await
        .unwrap();
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    let heard = client.hear_all().await;
    assert!(heard.ends_with("\r\n\r\n4\r\nsome\r\n"), "{heard:?}");
    assert!(matches!(
        client.served.await.unwrap(),
        Err(WireError::Answer(_))
    ));
}

/// A body that says how long it is and does as it likes.
struct Liar(Option<&'static str>, u64);

impl Body for Liar {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

#[tokio::test]
async fn no_answer_is_longer_or_shorter_than_its_head_says() {
    for length in [1, 3] {
        let mut client =
            client(move |_| async move { Response::new(Liar(Some("ok"), length)) }).await;
        client
            .send("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
            .await;
        let heard = client.hear_all().await;
        let (_, body) = heard.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, if length == 1 { "" } else { "ok" });
        assert!(client.served.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn who_goes_away_is_noticed_while_it_waits_and_while_it_is_answered() {
    let (guard, dropped) = oneshot::channel::<()>();
    let guard = Mutex::new(Some(guard));
    let mut waits = client(move |_| {
        let guard = guard.lock().unwrap().take();
        async {
            std::future::pending::<()>().await;
            drop(guard);
            Response::new(Full::<Bytes>::default())
        }
    })
    .await;
    // What it sends meanwhile hides nothing.
    let another = "GET / HTTP/1.1\r\n\r\n";
    waits.send(another).await;
    waits.send(&["\r\n", another].concat()).await;
    drop(waits.socket);
    let ended = waits.served.await.unwrap();
    assert!(matches!(ended, Err(WireError::Closed)));
    assert!(dropped.await.is_err(), "what handled it is gone");

    let (feed, mut answered) = fed().await;
    answered.send("GET / HTTP/1.1\r\n\r\n").await;
    answered.hear("\r\n\r\n").await;
    drop(answered.socket);
    assert!(answered.served.await.unwrap().is_err());
    assert!(feed.is_closed(), "the answer's body is gone");
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_it_does_and_closes_what_rests() {
    let mut rests = client(quick).await;
    rests.send("GET / HTTP/1.1\r\n\r\n").await;
    rests.hear("ok").await;
    rests.stop.cancel();
    assert_eq!(rests.hear_all().await, "");
    rests.served.await.unwrap().unwrap();

    let mut busy = client(echo).await;
    busy.send("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nh")
        .await;
    tokio::task::yield_now().await;
    busy.stop.cancel();
    busy.send("i").await;
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nPOST / hi";
    assert_eq!(busy.hear_all().await, last);
}

#[tokio::test]
async fn silence_has_its_bounds() {
    let soon = Duration::from_millis(20);
    for (header_timeout, idle_timeout, said, heard) in [
        // A connection is opened in order to send a request.
        (soon, PATIENCE, "", ""),
        (soon, PATIENCE, "\r\n", ""),
        (soon, PATIENCE, "GET / HTTP/1.1\r\n", ""),
        (PATIENCE, soon, "GET / HTTP/1.1\r\n\r\n\r\n", "ok"),
    ] {
        let bounds = Bounds {
            header_timeout,
            idle_timeout,
            header_bytes_max: 1024,
        };
        let mut silent = bounded(bounds, quick).await;
        silent.send(said).await;
        assert!(silent.hear_all().await.ends_with(heard), "{said:?}");
        match silent.served.await.unwrap() {
            // Who has asked may have nothing more to ask.
            Ok(()) => assert_eq!(heard, "ok"),
            Err(error) => assert!(matches!(error, WireError::Silent) && heard.is_empty()),
        }
    }
}

#[tokio::test]
async fn who_takes_nothing_is_waited_for_only_so_long() {
    let bounds = Bounds {
        header_timeout: PATIENCE,
        idle_timeout: Duration::from_millis(20),
        header_bytes_max: 1024,
    };
    // More than any socket holds.
    let mut client = bounded(bounds, |_| async {
        Response::new(Full::<Bytes>::from(vec![0; 64 << 20]))
    })
    .await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(matches!(
        client.served.await.unwrap(),
        Err(WireError::Silent)
    ));
}

#[tokio::test]
async fn a_body_that_outlives_its_request_reads_nothing_of_the_next() {
    let kept = Arc::new(Mutex::new(None));
    let keeping = Arc::clone(&kept);
    let mut client = client(move |request: Request<ClientBody>| {
        let earlier = keeping.lock().unwrap().replace(request.into_body());
        async move {
            let text = match earlier {
                Some(mut body) => body.frame().await.unwrap().unwrap_err().to_string(),
                None => "none yet".to_owned(),
            };
            Response::new(Full::<Bytes>::from(text))
        }
    })
    .await;
    let request = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
    client.send(request).await;
    client.hear("none yet").await;
    client.send(request).await;
    client.hear(&WireError::Closed.to_string()).await;
    assert_eq!(
        kept.lock().unwrap().as_ref().unwrap().size_hint().exact(),
        Some(0)
    );
}

#[test]
fn sizes_are_written_in_hexadecimal() {
    for number in [0, 1, 9, 10, 15, 16, 255, 4096, 0xdead_beef, usize::MAX] {
        let mut digits = [0; 2 * size_of::<usize>()];
        let written = hexadecimal(number, &mut digits);
        assert_eq!(written, format!("{number:x}").as_bytes());
    }
}

#[test]
fn the_date_is_todays() {
    let (parts, ()) = Response::new(()).into_parts();
    let asked = Asked {
        method: Method::GET,
        version: Version::HTTP_11,
        trailers: false,
    };
    let said = |()| {
        let head = head::write(&parts, Sent::Nothing, &asked, true);
        let head = String::from_utf8(head.to_vec()).unwrap();
        let date = head.split("date: ").nth(1).unwrap().trim_end().to_owned();
        jiff::fmt::rfc2822::parse(&date).unwrap().timestamp()
    };
    let before = jiff::Timestamp::now().as_second();
    for at in [said(()), said(())] {
        let late = at.as_second() - before;
        assert!((-1..=1).contains(&late), "{late} s off");
    }
}
