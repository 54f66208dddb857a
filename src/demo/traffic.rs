//! Live traffic: the same subscribers, through the real gateway over HTTP. Some leave in mid-answer, some ask for what
//! the provider then fails to give.

mod ask;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::chance::Chance;
use super::world::World;
use ask::Ask;

/// Requests in flight; more are not begun.
const IN_FLIGHT: usize = 128;
/// No request of the demo takes longer.
const LONGEST: Duration = Duration::from_secs(30);

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// Where the traffic goes and how much of it there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    /// The gateway.
    pub(super) gateway: SocketAddr,
    /// Requests a second, on average.
    pub(super) rate: f64,
    /// What chance hangs on.
    pub(super) seed: u64,
}

/// Sends requests at random moments until told to stop, then drops those that are open.
pub(super) async fn run(world: Arc<World>, flow: Flow, stop: CancellationToken) {
    if flow.rate <= 0.0 {
        return;
    }
    let client: HttpClient = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .build_http();
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let crowd = crowd(&world);
    let mut chance = Chance::of(flow.seed, u64::MAX, 0);
    let mut due = Instant::now();
    loop {
        // Moments without memory, as of many people who know nothing of each other. They do not wait for this machine,
        // but what it could not send in time is not sent all at once later.
        let pause = -(1.0 - chance.unit()).ln() / flow.rate;
        due = (due + Duration::from_secs_f64(pause.min(60.0))).max(Instant::now());
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = stop.cancelled() => break,
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let asked = chance
            .pick(&crowd)
            .and_then(|index| world.subscribers.get(*index))
            .and_then(|subscriber| Ask::draw(subscriber, &mut chance));
        let Some(ask) = asked else { continue };
        let (client, stop) = (client.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                _ = tokio::time::timeout(LONGEST, send(&client, flow.gateway, ask)) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// Everybody who is still there, each as often as it asks; the few that ask a thousand times as much as others are held
/// to a share that leaves the others to be seen, and the teams have one that shows what their budgets do.
fn crowd(world: &World) -> Vec<(u32, usize)> {
    let weight = |(index, subscriber): (usize, &super::world::Subscriber)| {
        let habit = subscriber.habit(0).filter(|_| subscriber.until.is_none())?;
        let a_day = habit.a_day * subscriber.eagerness;
        let often = (a_day * 10.0).clamp(2.0, OFTEN) as u32;
        let is_team = subscriber.budget.is_some();
        Some((if is_team { OFTEN as u32 } else { often }, index))
    };
    world
        .subscribers
        .iter()
        .enumerate()
        .filter_map(weight)
        .collect()
}

/// The largest share, beside some twenty for somebody who just chats.
const OFTEN: f64 = 900.0;

/// Sends one request and reads its answer, or as much of it as this client wants. What becomes of it is in the ledger.
async fn send(client: &HttpClient, gateway: SocketAddr, ask: Ask) {
    let leaves_after = ask.leaves_after;
    let Ok(request) = ask.request(gateway) else {
        return;
    };
    let Ok(response) = client.request(request).await else {
        return;
    };
    let mut body = response.into_body();
    let mut frames = 0;
    while let Some(Ok(_)) = body.frame().await {
        frames += 1;
        if leaves_after.is_some_and(|most| frames >= most) {
            return;
        }
    }
}
