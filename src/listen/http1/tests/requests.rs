//! What a client may ask, and how it may send it.

use super::*;

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
