//! Families and samples, and their text.

use prometheus::proto::{self, MetricType};
use prometheus::{Encoder, TextEncoder};

/// One metric family: what `# HELP` and `# TYPE` describe.
#[derive(Clone, Debug)]
pub struct Family {
    /// The name.
    pub name: String,
    /// What it means, with its unit.
    pub help: String,
    /// Its type.
    pub kind: FamilyKind,
    /// Its samples; a family without any still prints HELP and TYPE.
    pub samples: Vec<Sample>,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// One sample.
#[derive(Clone, Debug)]
pub struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    Histogram {
        edges: &'static [f64],
        counts: Vec<u64>,
        sum: f64,
    },
}

impl Family {
    /// A counter family.
    pub fn counter(name: &str, help: &str, samples: Vec<Sample>) -> Family {
        Family {
            name: name.into(),
            help: help.into(),
            kind: FamilyKind::Counter,
            samples,
        }
    }

    /// A gauge family.
    pub fn gauge(name: &str, help: &str, samples: Vec<Sample>) -> Family {
        Family {
            name: name.into(),
            help: help.into(),
            kind: FamilyKind::Gauge,
            samples,
        }
    }

    /// A histogram family.
    pub fn histogram(name: &str, help: &str, samples: Vec<Sample>) -> Family {
        Family {
            name: name.into(),
            help: help.into(),
            kind: FamilyKind::Histogram,
            samples,
        }
    }
}

impl Sample {
    /// A number without labels.
    pub fn plain(value: f64) -> Sample {
        Sample {
            labels: Vec::new(),
            value: Value::Number(value),
        }
    }

    /// A number with labels.
    pub fn labelled(labels: &[(&'static str, &str)], value: f64) -> Sample {
        let labels = labels
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Sample {
            labels,
            value: Value::Number(value),
        }
    }

    /// Counts for each bucket (not cumulative; one more than edges) and the sum of what was observed.
    pub fn histogram(
        labels: Vec<(&'static str, String)>,
        edges: &'static [f64],
        counts: Vec<u64>,
        sum: f64,
    ) -> Sample {
        Sample {
            labels,
            value: Value::Histogram { edges, counts, sum },
        }
    }

    fn proto(&self, kind: FamilyKind) -> proto::Metric {
        let mut metric = proto::Metric::default();
        let labels = self.labels.iter().map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        });
        metric.set_label(labels.collect());
        match &self.value {
            Value::Number(value) if kind == FamilyKind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(*value);
                metric.set_counter(counter);
            }
            Value::Number(value) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(*value);
                metric.set_gauge(gauge);
            }
            Value::Histogram { edges, counts, sum } => {
                let mut cumulative = 0;
                let mut histogram = proto::Histogram::default();
                let buckets = edges.iter().zip(counts).map(|(edge, count)| {
                    cumulative += count;
                    let mut bucket = proto::Bucket::default();
                    bucket.set_upper_bound(*edge);
                    bucket.set_cumulative_count(cumulative);
                    bucket
                });
                histogram.set_bucket(buckets.collect());
                histogram.set_sample_count(counts.iter().sum());
                histogram.set_sample_sum(*sum);
                metric.set_histogram(histogram);
            }
        }
        metric
    }
}

/// The families' text, sorted by name.
pub(super) fn render(mut families: Vec<Family>) -> String {
    families.sort_by(|a, b| a.name.cmp(&b.name));
    let encoder = TextEncoder::new();
    let mut page = Vec::new();
    for family in families {
        let kind = match family.kind {
            FamilyKind::Counter => MetricType::COUNTER,
            FamilyKind::Gauge => MetricType::GAUGE,
            FamilyKind::Histogram => MetricType::HISTOGRAM,
        };
        if family.samples.is_empty() {
            // The encoder refuses a family without samples.
            let word = format!("{kind:?}").to_lowercase();
            page.extend(
                format!(
                    "# HELP {0} {1}\n# TYPE {0} {word}\n",
                    family.name, family.help
                )
                .bytes(),
            );
            continue;
        }
        let mut proto = proto::MetricFamily::default();
        proto.set_metric(
            family
                .samples
                .iter()
                .map(|sample| sample.proto(family.kind))
                .collect(),
        );
        proto.set_name(family.name);
        proto.set_help(family.help);
        proto.set_field_type(kind);
        if let Err(error) = encoder.encode(&[proto], &mut page) {
            tracing::error!(%error, "a metric family could not be written");
        }
    }
    String::from_utf8(page).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_samples_still_has_help_and_type() {
        let page = render(vec![Family::counter("weir_x_total", "What x is", vec![])]);
        assert_eq!(
            page,
            "# HELP weir_x_total What x is\n# TYPE weir_x_total counter\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_in_the_text() {
        let sample = Sample::histogram(vec![], &[0.1, 1.0], vec![2, 3, 4], 7.5);
        let page = render(vec![Family::histogram("weir_y_seconds", "y", vec![sample])]);
        assert!(
            page.contains("weir_y_seconds_bucket{le=\"1\"} 5\n"),
            "{page}"
        );
        assert!(
            page.contains("weir_y_seconds_bucket{le=\"+Inf\"} 9\n"),
            "{page}"
        );
        assert!(page.contains("weir_y_seconds_sum 7.5\n"), "{page}");
    }
}
