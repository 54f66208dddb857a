//! A histogram without locks or labels.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::{Family, FamilyKind, Sample};

/// Counts of durations by bucket, and their sum.
#[derive(Debug)]
pub struct Histogram {
    /// Upper edges in seconds, ascending.
    edges: &'static [f64],
    /// One count for each edge, and one for what is above the last.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Histogram {
    /// An empty histogram with these upper edges, in seconds, ascending.
    pub fn new(edges: &'static [f64]) -> Histogram {
        let counts = (0..=edges.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram {
            edges,
            counts,
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.edges.partition_point(|edge| *edge < seconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// As a family of one unlabelled histogram.
    pub fn family(&self, name: &'static str, help: &'static str) -> Family {
        Family {
            name: name.into(),
            help: help.into(),
            kind: FamilyKind::Histogram,
            samples: vec![self.sample(Vec::new())],
        }
    }

    /// As one sample with labels.
    pub fn sample(&self, labels: Vec<(&'static str, String)>) -> Sample {
        let sum = self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        let counts = self.counts.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed)).collect();
        Sample::histogram(labels, self.edges, counts, sum)
    }
}
