//! What an answer is on the wire.

use super::*;

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
