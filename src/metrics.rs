//! Every metric's name, unit and labels, in one place.
//!
//! Counters of traffic live in one map whose key is the whole tuple of labels, not in the library's `*Vec` types:
//! those file a child under one 64-bit hash of the label values joined without a separator and compare nothing else,
//! so that two tenants' figures can merge. The library still defines the data model and the text format.

mod exposition;
mod histogram;
mod traffic;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub use exposition::{Family, FamilyKind, Sample};
pub use histogram::Histogram;
pub use traffic::{Observation, Totals, TrafficKey};

use traffic::Traffic;

/// All figures that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    traffic: Mutex<Traffic>,
    /// Time that a request spent in the gateway itself, waiting for nobody.
    pub overhead: Histogram,
    /// Time that the ledger's writer needed for a batch.
    pub ledger_write: Arc<Histogram>,
    in_flight: AtomicI64,
    config_reloads: [AtomicU64; 2],
    /// Gauges that a task computes from the ledger and the quotas now and then.
    gauges: ArcSwap<Vec<Family>>,
    /// Names under which the same figures are exported a second time.
    also: Vec<Also>,
}

/// A family of names that dashboards of other makers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Also {
    /// OpenTelemetry's GenAI conventions.
    GenAi,
    /// LiteLLM's metrics.
    LiteLlm,
}

/// Seconds, from a millisecond to five minutes: requests and first tokens.
pub const REQUEST_BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0,
];
/// Seconds, from ten microseconds to a tenth of a second: what the gateway itself adds.
const OVERHEAD_BUCKETS: [f64; 12] = [
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1,
];

impl Metrics {
    /// Nothing counted yet.
    pub fn new(also: Vec<Also>) -> Metrics {
        Metrics {
            traffic: Mutex::new(Traffic::default()),
            overhead: Histogram::new(&OVERHEAD_BUCKETS),
            ledger_write: Arc::new(Histogram::new(&REQUEST_BUCKETS)),
            in_flight: AtomicI64::new(0),
            config_reloads: Default::default(),
            gauges: ArcSwap::default(),
            also,
        }
    }

    /// Counts one finished request.
    pub fn observe(&self, key: TrafficKey, observation: &Observation) {
        self.traffic().observe(key, observation);
    }

    /// Everything observed so far.
    pub fn totals(&self) -> Totals {
        self.traffic().totals.clone()
    }

    /// Counts a request that a limit refused.
    pub fn limit_rejection(&self, plan: &str, on: &'static str, per: &str) {
        self.traffic().limit_rejection(plan, on, per);
    }

    /// Counts a failed call to an upstream.
    pub fn upstream_error(&self, upstream: &str, kind: &'static str) {
        self.traffic().upstream_error(upstream, kind);
    }

    /// Counts an event that has no family of its own in the request path: a warning mark passed, a webhook lost.
    pub fn event(&self, name: &'static str, label: &str) {
        self.traffic().event(name, label);
    }

    /// A request is in flight until the guard is dropped.
    pub fn in_flight(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// How many requests are in flight.
    pub fn in_flight_requests(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a reload of the configuration.
    pub fn config_reload(&self, accepted: bool) {
        let [refused, taken] = &self.config_reloads;
        if accepted { taken } else { refused }.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces the gauges that are computed now and then.
    pub fn set_gauges(&self, gauges: Vec<Family>) {
        self.gauges.store(Arc::new(gauges));
    }

    /// The page, in Prometheus' text format. `live` are gauges read at this moment.
    pub fn render(&self, live: Vec<Family>) -> String {
        let mut families = self.traffic().families(&self.also);
        families.push(self.overhead.family(
            "weir_overhead_seconds",
            "Time that requests spent in the gateway itself",
        ));
        families.push(self.ledger_write.family(
            "weir_ledger_write_seconds",
            "Time to write a batch of entries to the store",
        ));
        families.push(Family::gauge(
            "weir_in_flight_requests",
            "Requests in flight",
            vec![Sample::plain(self.in_flight_requests() as f64)],
        ));
        let [refused, taken] = &self.config_reloads;
        let reloads = [("refused", refused), ("accepted", taken)].map(|(result, count)| {
            Sample::labelled(&[("result", result)], count.load(Ordering::Relaxed) as f64)
        });
        families.push(Family::counter(
            "weir_config_reloads_total",
            "Reloads of the configuration by result",
            reloads.to_vec(),
        ));
        families.push(Family::gauge(
            "weir_build_info",
            "Always 1; the label has the version",
            vec![Sample::labelled(
                &[("version", env!("CARGO_PKG_VERSION"))],
                1.0,
            )],
        ));
        families.extend(live);
        families.extend(self.gauges.load().iter().cloned());
        exposition::render(families)
    }

    fn traffic(&self) -> std::sync::MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct InFlight(Arc<Metrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
