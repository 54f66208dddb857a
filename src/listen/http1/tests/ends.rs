//! How a connection ends: by either side's will, by silence, or told to stop.

use super::*;

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
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let (feed, body) = mpsc::channel(1);
        let body = Mutex::new(Some(body));
        let mut client = bounded(bounds.clone(), move |_| {
            let body = body.lock().unwrap().take().unwrap();
            async { Response::new(Fed(body)) }
        })
        .await;
        client.send(&format!("GET / {version}\r\n\r\n")).await;
        // More than any socket holds.
        let large = Frame::data(vec![0; 64 << 20].into());
        feed.send(Ok(large)).await.unwrap();
        drop(feed);
        let served = client.served.await.unwrap();
        assert!(matches!(served, Err(WireError::Silent)));
        // An old client has nothing else by which it could know that something is missing.
        let heard = client.socket.read_to_end(&mut Vec::new()).await;
        assert_eq!(heard.is_err(), version == "HTTP/1.0", "{heard:?}");
    }
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
