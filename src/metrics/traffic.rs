//! Sums of finished requests by their whole tuple of labels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::exposition::{Family, Sample};
use super::{Also, Histogram, REQUEST_BUCKETS};
use crate::hash::HashMap;
use crate::ids::{PlanId, UpstreamId};
use crate::ledger::Outcome;
use crate::money::Money;
use crate::tokens::Usage;

/// The labels of one finished request. Every member comes from a closed set: models that the price table or a route
/// names (else `other`), configured upstreams and plans, known endpoints (else `other`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrafficKey {
    /// The endpoint, `other` for paths without a name of their own.
    pub endpoint: Arc<str>,
    /// The served model, `other` when neither the price table nor a route names it.
    pub model: Arc<str>,
    /// The upstream, if the request went to one.
    pub upstream: Option<UpstreamId>,
    /// The account's plan.
    pub plan: PlanId,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, as the client got it.
    pub status: u16,
}

/// What one finished request adds.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// Tokens by class.
    pub usage: Usage,
    /// Exact cost.
    pub cost: Money,
    /// Whether something was used that no price covers.
    pub unpriced: bool,
    /// From head to end.
    pub duration: Duration,
    /// From head to the first token.
    pub first_token: Option<Duration>,
}

/// A bound on all tuples together: labels are closed sets, yet plans and models may be many.
const MAX_SERIES: usize = 20_000;

#[derive(Debug, Default)]
struct Sums {
    requests: u64,
    unpriced: u64,
    usage: Usage,
    cost: Money,
}

/// Everything that was observed since the start, whatever its labels: what a look at the present is made of.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Finished requests.
    pub requests: u64,
    /// Of these, refused by the gateway.
    pub rejected: u64,
    /// Of these, failed at an upstream or cut short by the gateway.
    pub failed: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Exact cost.
    pub cost: Money,
    /// Durations by bucket, see [`REQUEST_BUCKETS`].
    pub durations: [u64; REQUEST_BUCKETS.len() + 1],
    /// Times to the first token by bucket, see [`REQUEST_BUCKETS`].
    pub first_tokens: [u64; REQUEST_BUCKETS.len() + 1],
}

impl Totals {
    fn add(&mut self, key: &TrafficKey, observation: &Observation) {
        self.requests += 1;
        self.rejected += u64::from(key.outcome == Outcome::Rejected);
        let failed = [Outcome::UpstreamFailed, Outcome::Interrupted];
        self.failed += u64::from(failed.contains(&key.outcome));
        self.input_tokens += observation.usage.input_tokens;
        self.output_tokens += observation.usage.output_tokens;
        self.cost += observation.cost;
        for (counts, duration) in [
            (&mut self.durations, Some(observation.duration)),
            (&mut self.first_tokens, observation.first_token),
        ] {
            let Some(duration) = duration else { continue };
            let seconds = duration.as_secs_f64();
            let bucket = REQUEST_BUCKETS.partition_point(|edge| *edge < seconds);
            if let Some(count) = counts.get_mut(bucket) {
                *count += 1;
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) totals: Totals,
    sums: HashMap<TrafficKey, Sums>,
    durations: HashMap<Arc<str>, Histogram>,
    first_tokens: HashMap<Arc<str>, Histogram>,
    limit_rejections: BTreeMap<(String, &'static str, String), u64>,
    upstream_errors: BTreeMap<(String, &'static str), u64>,
    events: BTreeMap<(&'static str, String), u64>,
}

impl Traffic {
    pub(super) fn observe(&mut self, key: TrafficKey, observation: &Observation) {
        self.totals.add(&key, observation);
        for (histograms, duration) in [
            (&mut self.durations, Some(observation.duration)),
            (&mut self.first_tokens, observation.first_token),
        ] {
            let Some(duration) = duration else { continue };
            if !histograms.contains_key(&key.endpoint) {
                histograms.insert(Arc::clone(&key.endpoint), Histogram::new(&REQUEST_BUCKETS));
            }
            if let Some(histogram) = histograms.get(&key.endpoint) {
                histogram.observe(duration);
            }
        }
        let key = if self.sums.len() >= MAX_SERIES && !self.sums.contains_key(&key) {
            TrafficKey {
                endpoint: "other".into(),
                model: "other".into(),
                plan: "other".into(),
                ..key
            }
        } else {
            key
        };
        let sums = self.sums.entry(key).or_default();
        sums.requests += 1;
        sums.unpriced += u64::from(observation.unpriced);
        sums.usage += observation.usage;
        sums.cost += observation.cost;
    }

    pub(super) fn limit_rejection(&mut self, plan: &str, on: &'static str, per: &str) {
        if self.limit_rejections.len() < MAX_SERIES {
            *self
                .limit_rejections
                .entry((plan.to_owned(), on, per.to_owned()))
                .or_default() += 1;
        }
    }

    pub(super) fn upstream_error(&mut self, upstream: &str, kind: &'static str) {
        *self
            .upstream_errors
            .entry((upstream.to_owned(), kind))
            .or_default() += 1;
    }

    pub(super) fn event(&mut self, name: &'static str, label: &str) {
        if self.events.len() < MAX_SERIES {
            *self.events.entry((name, label.to_owned())).or_default() += 1;
        }
    }

    pub(super) fn families(&self, also: &[Also]) -> Vec<Family> {
        let mut families = vec![
            self.requests(),
            self.tokens(
                "weir_tokens_total",
                "Tokens by class; totals contain their parts",
            ),
            self.cost("weir_cost_usd_total", "Cost of requests in US dollars"),
            self.unpriced(),
            histograms(
                "weir_request_duration_seconds",
                "Time from a request's head to its end",
                &self.durations,
            ),
            histograms(
                "weir_first_token_seconds",
                "Time from a request's head to its first token",
                &self.first_tokens,
            ),
            Family::counter(
                "weir_limit_rejections_total",
                "Requests that a limit refused",
                self.limit_rejections
                    .iter()
                    .map(|((plan, on, per), count)| {
                        Sample::labelled(&[("plan", plan), ("on", on), ("per", per)], *count as f64)
                    })
                    .collect(),
            ),
            Family::counter(
                "weir_upstream_errors_total",
                "Failed calls to an upstream by kind",
                self.upstream_errors
                    .iter()
                    .map(|((upstream, kind), count)| {
                        Sample::labelled(&[("upstream", upstream), ("kind", kind)], *count as f64)
                    })
                    .collect(),
            ),
            Family::counter(
                "weir_events_total",
                "Rare events by name: limit warnings, webhooks not delivered, answers that could not be metered",
                self.events
                    .iter()
                    .map(|((name, label), count)| {
                        Sample::labelled(&[("event", name), ("subject", label)], *count as f64)
                    })
                    .collect(),
            ),
        ];
        if also.contains(&Also::GenAi) {
            families.extend(self.gen_ai());
        }
        if also.contains(&Also::LiteLlm) {
            families.extend(self.litellm());
        }
        families
    }

    fn requests(&self) -> Family {
        let samples = self.sums.iter().map(|(key, sums)| {
            let status = key.status.to_string();
            let labels = [
                ("endpoint", &*key.endpoint),
                ("model", &*key.model),
                ("upstream", upstream(key)),
                ("plan", key.plan.as_str()),
                ("outcome", key.outcome.as_str()),
                ("status", &status),
            ];
            Sample::labelled(&labels, sums.requests as f64)
        });
        Family::counter(
            "weir_requests_total",
            "Requests by how they ended",
            samples.collect(),
        )
    }

    /// Sums of one figure by model, upstream and plan.
    fn by_model<T: Default>(&self, add: impl Fn(&mut T, &Sums)) -> BTreeMap<(&str, &str, &str), T> {
        let mut grouped = BTreeMap::new();
        for (key, sums) in &self.sums {
            add(
                grouped
                    .entry((&*key.model, upstream(key), key.plan.as_str()))
                    .or_default(),
                sums,
            );
        }
        grouped
    }

    fn tokens(&self, name: &str, help: &str) -> Family {
        let grouped = self.by_model(|usage: &mut Usage, sums| *usage += sums.usage);
        let samples = grouped.iter().flat_map(|((model, upstream, plan), usage)| {
            usage
                .classes()
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(class, count)| {
                    let labels = [
                        ("model", *model),
                        ("upstream", *upstream),
                        ("plan", *plan),
                        ("class", class),
                    ];
                    Sample::labelled(&labels, count as f64)
                })
        });
        Family::counter(name, help, samples.collect())
    }

    fn cost(&self, name: &str, help: &str) -> Family {
        let grouped = self.by_model(|cost: &mut Money, sums| *cost += sums.cost);
        let samples = grouped.iter().map(|((model, upstream, plan), cost)| {
            Sample::labelled(
                &[("model", model), ("upstream", upstream), ("plan", plan)],
                cost.to_f64(),
            )
        });
        Family::counter(name, help, samples.collect())
    }

    fn unpriced(&self) -> Family {
        let mut by_model: BTreeMap<&str, u64> = BTreeMap::new();
        for (key, sums) in self.sums.iter().filter(|(_, sums)| sums.unpriced > 0) {
            *by_model.entry(&key.model).or_default() += sums.unpriced;
        }
        let samples = by_model
            .iter()
            .map(|(model, count)| Sample::labelled(&[("model", model)], *count as f64));
        Family::counter(
            "weir_unpriced_requests_total",
            "Requests that no price covers",
            samples.collect(),
        )
    }

    /// OpenTelemetry's GenAI counters (semantic-conventions-genai, `gen-ai-token-metrics.md`, read in November 2026),
    /// spelt as the OpenTelemetry-to-Prometheus mapping spells them.
    fn gen_ai(&self) -> Vec<Family> {
        type Pick = fn(&Usage) -> u64;
        let counters: [(&str, &str, Pick); 5] = [
            ("input_tokens", "Input tokens, cached ones included", |u| {
                u.input_tokens
            }),
            ("output_tokens", "Output tokens, reasoning included", |u| {
                u.output_tokens
            }),
            (
                "cache_read_input_tokens",
                "Of the input, read from a cache",
                |u| u.cache_read_input_tokens,
            ),
            (
                "cache_write_input_tokens",
                "Of the input, written to a cache",
                |u| u.cache_write_input_tokens,
            ),
            ("reasoning_output_tokens", "Of the output, reasoning", |u| {
                u.reasoning_output_tokens
            }),
        ];
        let grouped = self.by_model(|usage: &mut Usage, sums| *usage += sums.usage);
        let family = |(name, help, pick): &(&str, &str, Pick)| {
            let samples = grouped
                .iter()
                .map(|((model, upstream, _), usage)| ((*model, *upstream), pick(usage)));
            let mut summed: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for (labels, count) in samples {
                *summed.entry(labels).or_default() += count;
            }
            let samples = summed.iter().map(|((model, upstream), count)| {
                let labels = [
                    ("gen_ai_response_model", *model),
                    ("gen_ai_provider_name", *upstream),
                ];
                Sample::labelled(&labels, *count as f64)
            });
            Family::counter(
                &format!("gen_ai_client_inference_usage_{name}_total"),
                help,
                samples.collect(),
            )
        };
        counters.iter().map(family).collect()
    }

    /// LiteLLM's names (`litellm/types/integrations/prometheus.py`, read in November 2026); its teams are our plans.
    fn litellm(&self) -> Vec<Family> {
        type Pick = fn(&Sums) -> f64;
        let counters: [(&str, &str, Pick); 6] = [
            ("litellm_spend_metric_total", "Spend in US dollars", |s| {
                s.cost.to_f64()
            }),
            (
                "litellm_total_tokens_metric_total",
                "Input and output tokens",
                |s| s.usage.total_tokens() as f64,
            ),
            ("litellm_input_tokens_metric_total", "Input tokens", |s| {
                s.usage.input_tokens as f64
            }),
            ("litellm_output_tokens_metric_total", "Output tokens", |s| {
                s.usage.output_tokens as f64
            }),
            (
                "litellm_proxy_total_requests_metric_total",
                "Requests",
                |s| s.requests as f64,
            ),
            (
                "litellm_proxy_failed_requests_metric_total",
                "Requests that failed",
                |_| 0.0,
            ),
        ];
        let grouped = self.by_model(|total: &mut Sums, sums| {
            total.requests += sums.requests;
            total.usage += sums.usage;
            total.cost += sums.cost;
        });
        let mut failed: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (key, sums) in self
            .sums
            .iter()
            .filter(|(key, _)| key.outcome != Outcome::Completed)
        {
            *failed.entry((&key.model, key.plan.as_str())).or_default() += sums.requests;
        }
        let family = |(name, help, pick): &(&str, &str, Pick)| {
            let mut by_team: BTreeMap<(&str, &str), f64> = BTreeMap::new();
            if name.contains("failed") {
                by_team.extend(
                    failed
                        .iter()
                        .map(|(labels, count)| (*labels, *count as f64)),
                );
            } else {
                for ((model, _, plan), sums) in &grouped {
                    *by_team.entry((model, plan)).or_default() += pick(sums);
                }
            }
            let samples = by_team.iter().map(|((model, team), value)| {
                Sample::labelled(
                    &[("model", model), ("team", team), ("team_alias", team)],
                    *value,
                )
            });
            Family::counter(name, help, samples.collect())
        };
        counters.iter().map(family).collect()
    }
}

fn upstream(key: &TrafficKey) -> &str {
    key.upstream.as_ref().map_or("none", UpstreamId::as_str)
}

fn histograms(name: &str, help: &str, by_endpoint: &HashMap<Arc<str>, Histogram>) -> Family {
    let samples = by_endpoint
        .iter()
        .map(|(endpoint, histogram)| histogram.sample(vec![("endpoint", endpoint.to_string())]));
    Family::histogram(name, help, samples.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_that_join_to_the_same_text_stay_apart() {
        let mut traffic = Traffic::default();
        for (model, plan) in [("ab", "c"), ("a", "bc")] {
            let key = TrafficKey {
                endpoint: "messages".into(),
                model: model.into(),
                upstream: None,
                plan: plan.into(),
                outcome: Outcome::Completed,
                status: 200,
            };
            traffic.observe(
                key,
                &Observation {
                    cost: Money::from_usd(1),
                    ..Observation::default()
                },
            );
        }
        assert_eq!(traffic.cost("x", "x").samples.len(), 2);
    }
}
