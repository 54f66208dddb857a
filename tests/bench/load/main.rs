//! Load and a simulated upstream in one process with one thread, so that both fit on the core that the gateway under
//! test does not use. Hand-written HTTP/1.1 on both sides: what is measured is the gateway, not this.
//!
//! Binds the upstream, prints its port, then reads one command a line from standard input, as JSON, and answers each
//! with one line of JSON. `gateway.py` beside it is the one who asks.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that goes wrong should stop at once; the bytes that it parses are its own"
)]

mod client;
mod upstream;

use std::cell::RefCell;
use std::io::BufRead;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::{Connection, Request};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

/// What to do, against which address, with what request.
#[derive(Clone, Deserialize)]
struct Command {
    target: SocketAddr,
    key: String,
    /// `bench-plain`, or `bench-stream-CHUNKS-MILLISECONDS`: so many chunks with such pauses, 0 for all in one write.
    model: String,
    body_bytes: usize,
    connections: usize,
    #[serde(flatten)]
    load: Load,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Load {
    /// Each connection sends its next request when it has the last answer, for so long.
    ClosedSeconds(f64),
    /// Requests start at fixed moments, whether or not earlier ones are answered; latency counts from the moment at
    /// which a request should have started, so that waiting for a free connection is not omitted.
    Open { per_second: f64, seconds: f64 },
    /// Each connection sends so many requests.
    Each(usize),
}

/// What came of it. Times are in microseconds.
#[derive(Default, Serialize)]
struct Outcome {
    answered: usize,
    failed: usize,
    seconds: f64,
    /// From sending (or from when it should have been sent) to the answer's last byte.
    latency: Percentiles,
    /// From sending to the first event.
    first_event: Percentiles,
    /// From the upstream's write of a chunk to its arrival, first chunks aside.
    chunk_delay: Percentiles,
}

#[derive(Default, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

/// What all connections of one command write into.
#[derive(Default)]
struct Samples {
    latency: Vec<u64>,
    first_event: Vec<u64>,
    chunk_delay: Vec<u64>,
    failed: usize,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (lines, mut commands) = mpsc::channel::<String>(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    LocalSet::new().block_on(&runtime, async move {
        let port = upstream::start().await;
        println!("{port}");
        while let Some(line) = commands.recv().await {
            let command: Command = serde_json::from_str(&line).expect("a command");
            let outcome = run(command).await;
            println!("{}", serde_json::to_string(&outcome).expect("JSON"));
        }
    });
}

async fn run(command: Command) -> Outcome {
    let samples = Rc::new(RefCell::new(Samples::default()));
    let request = Rc::new(Request::new(
        &command.key,
        &command.model,
        command.body_bytes,
    ));
    // A listener's backlog is finite: so many connections are opened at a time.
    let opening = Rc::new(Semaphore::new(64));
    let began = Instant::now();
    let connections: Vec<_> = (0..command.connections)
        .map(|number| {
            let (request, samples) = (Rc::clone(&request), Rc::clone(&samples));
            let (opening, command) = (Rc::clone(&opening), command.clone());
            tokio::task::spawn_local(async move {
                let permit = opening.acquire().await.expect("an open semaphore");
                let mut connection = Connection::open(command.target).await;
                drop(permit);
                drive(&mut connection, &request, &command, number, began, &samples).await;
            })
        })
        .collect();
    for connection in connections {
        connection.await.expect("a connection's task");
    }
    let samples = samples.take();
    Outcome {
        answered: samples.latency.len(),
        failed: samples.failed,
        seconds: began.elapsed().as_secs_f64(),
        latency: percentiles(samples.latency),
        first_event: percentiles(samples.first_event),
        chunk_delay: percentiles(samples.chunk_delay),
    }
}

/// One connection's part of the load.
async fn drive(
    connection: &mut Connection,
    request: &Request,
    command: &Command,
    number: usize,
    began: Instant,
    samples: &RefCell<Samples>,
) {
    match command.load {
        Load::ClosedSeconds(seconds) => {
            let end = began + Duration::from_secs_f64(seconds);
            while Instant::now() < end {
                exchange(connection, request, Instant::now(), samples).await;
            }
        }
        Load::Open {
            per_second,
            seconds,
        } => {
            let gap = command.connections as f64 / per_second;
            let first = gap * number as f64 / command.connections as f64;
            let mut at = first;
            while at < seconds {
                let due = began + Duration::from_secs_f64(at);
                wait_until(due).await;
                exchange(connection, request, due, samples).await;
                at += gap;
            }
        }
        Load::Each(count) => {
            for _ in 0..count {
                exchange(connection, request, Instant::now(), samples).await;
            }
        }
    }
}

/// The runtime's timer has a millisecond's grain: the rest of the way is yielding.
async fn wait_until(due: Instant) {
    let margin = Duration::from_millis(2);
    if let Some(early) = due.checked_sub(margin)
        && early > Instant::now()
    {
        tokio::time::sleep_until(early.into()).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

async fn exchange(
    connection: &mut Connection,
    request: &Request,
    due: Instant,
    samples: &RefCell<Samples>,
) {
    let sent = Instant::now();
    match connection.exchange(request).await {
        Ok(answer) => {
            let mut samples = samples.borrow_mut();
            samples.latency.push(nanoseconds(due.elapsed()));
            if let Some(first) = answer.first_event {
                samples.first_event.push(nanoseconds(first - sent));
            }
            samples.chunk_delay.extend(answer.chunk_delays);
        }
        Err(_) => {
            samples.borrow_mut().failed += 1;
            connection.reopen().await;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn percentiles(mut nanoseconds: Vec<u64>) -> Percentiles {
    nanoseconds.sort_unstable();
    let at = |share: f64| match nanoseconds.len() {
        0 => 0.0,
        count => nanoseconds[((count - 1) as f64 * share) as usize] as f64 / 1000.0,
    };
    Percentiles {
        p50: at(0.5),
        p99: at(0.99),
    }
}
