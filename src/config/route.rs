//! `[[routes]]`: which models go to which upstreams.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{Names, nearest, quoted};
use super::reader::Table;
use super::upstream::Upstream;
use super::value::Value;
use crate::dialect::Endpoint;
use crate::ids::{ModelName, UpstreamId};
use crate::plan::ModelPattern;

/// One route; the first that matches serves a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Names or globs of models, at least one.
    pub models: Vec<ModelPattern>,
    /// Groups of upstreams in the order in which they are tried, none empty; a group is balanced by weight.
    ///
    /// Upstreams of equal `priority` form a group, lower priorities first; those without a priority follow one by one as
    /// listed.
    pub groups: Vec<Vec<RouteTarget>>,
    /// What a model is called upstream.
    pub rename: BTreeMap<ModelName, ModelName>,
    /// The only endpoints it serves, by the ledger's names; `None` is all.
    pub endpoints: Option<Vec<Arc<str>>>,
}

/// An upstream of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    /// The upstream; it exists.
    pub upstream: UpstreamId,
    /// Its share of the group, at least 1.
    pub weight: u32,
}

impl Route {
    /// Whether the route serves a model at an endpoint.
    pub fn matches(&self, model: &str, endpoint: &Endpoint) -> bool {
        let endpoint_fits = self
            .endpoints
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| **name == *endpoint.as_str()));
        endpoint_fits && self.models.iter().any(|pattern| pattern.matches(model))
    }
}

impl Route {
    /// Reads one `[[routes]]` table; its models join `served`.
    pub(super) fn read(
        table: &Table<'_>,
        names: &Names,
        upstreams: &[Upstream],
        served: &mut Vec<ModelPattern>,
    ) -> Option<Route> {
        let models = table.need("models", MODELS);
        let listed = table.need("upstreams", UPSTREAMS);
        let rename = table.optional("rename", rename).unwrap_or_default();
        let endpoints = table.optional("endpoints", endpoints);
        let models = models.map(|value| patterns(&value));
        served.extend(models.iter().flatten().cloned());
        let groups = listed.map(|value| groups(&value, names, upstreams));
        Some(Route {
            models: models?,
            groups: groups?,
            rename,
            endpoints,
        })
    }
}

fn patterns(value: &Value<'_>) -> Vec<ModelPattern> {
    let items = value.items(MODELS).unwrap_or_default();
    if value.is_array() && items.is_empty() {
        value.refuse(format!("is empty, expected {MODELS}"));
    }
    items.iter().filter_map(Value::pattern).collect()
}

/// Upstreams as they are listed, with priority and weight: of their own in this route, or as their block says.
fn groups(value: &Value<'_>, names: &Names, upstreams: &[Upstream]) -> Vec<Vec<RouteTarget>> {
    let items = value.items(UPSTREAMS).unwrap_or_default();
    if value.is_array() && items.is_empty() {
        value.refuse(format!("is empty, expected {UPSTREAMS}"));
    }
    let mut ranked: BTreeMap<u32, Vec<RouteTarget>> = BTreeMap::new();
    let mut unranked = Vec::new();
    let mut seen: Vec<UpstreamId> = Vec::new();
    for item in &items {
        let Some((upstream, weight, priority)) = target(item, names) else {
            continue;
        };
        if seen.contains(&upstream) {
            item.refuse(format!(
                "{} is listed twice, expected once",
                quoted(upstream.as_str())
            ));
            continue;
        }
        seen.push(upstream.clone());
        let block = upstreams.iter().find(|block| block.id == upstream);
        let target = RouteTarget {
            weight: weight.or(block.map(|block| block.weight)).unwrap_or(1),
            upstream,
        };
        match priority.or(block.and_then(|block| block.priority)) {
            Some(priority) => ranked.entry(priority).or_default().push(target),
            None => unranked.push(vec![target]),
        }
    }
    ranked.into_values().chain(unranked).collect()
}

/// `"openai"` or `{ id = "openai", weight = 3, priority = 1 }`.
fn target(value: &Value<'_>, names: &Names) -> Option<(UpstreamId, Option<u32>, Option<u32>)> {
    let (id, weight, priority) = if value.is_table() {
        let table = value.table(UPSTREAM)?;
        let id = table.need("id", "the id of an upstream");
        let weight = table.optional("weight", |value| value.small_count(1..=1_000_000));
        let priority = table.optional("priority", |value| value.small_count(0..=1_000_000));
        (id?, weight, priority)
    } else {
        (value.clone(), None, None)
    };
    let text = id.text(UPSTREAM)?;
    names
        .refer(&id, text)
        .then(|| (text.into(), weight, priority))
}

fn rename(value: &Value<'_>) -> Option<BTreeMap<ModelName, ModelName>> {
    let table = value.table("a table such as { \"gpt-4.5-preview\" = \"gpt-4.1\" }")?;
    let mut renamed = BTreeMap::new();
    for (key, from, to) in table.entries() {
        if from.is_empty() || from.len() > ModelName::MAX_BYTES || from.contains(['*', '?']) {
            key.refuse("is not one model's name, expected the name that clients ask for");
            continue;
        }
        if let Some(to) = to.model_name() {
            renamed.insert(ModelName::new(from), to);
        }
    }
    Some(renamed)
}

fn endpoints(value: &Value<'_>) -> Option<Vec<Arc<str>>> {
    let items = value.items(ENDPOINTS)?;
    if items.is_empty() {
        value.refuse(format!("is empty, expected {ENDPOINTS}"));
    }
    let mut endpoints: Vec<Arc<str>> = Vec::new();
    for item in &items {
        let Some(name) = item.text("an endpoint's name such as \"messages\"") else {
            continue;
        };
        // Any path has a name; one that is almost a metered endpoint's is a slip.
        let known = METERED.contains(&name);
        let named = name.split('.').all(|segment| {
            !segment.is_empty()
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-')
        });
        match nearest(name, METERED.into_iter()) {
            Some(meant) if !known => {
                item.refuse(format!("is {}, did you mean {meant:?}?", quoted(name)))
            }
            _ if !named => {
                item.wrong::<()>(name, "an endpoint's name such as \"chat.completions\"");
            }
            _ => endpoints.push(name.into()),
        }
    }
    Some(endpoints)
}

const MODELS: &str = "an array of models' names or globs such as [\"gpt-*\"]";
const UPSTREAMS: &str = "an array of upstreams' ids";
const UPSTREAM: &str = "an upstream's id or a table such as { id = \"openai\", weight = 2 }";
const ENDPOINTS: &str = "an array of endpoints' names such as [\"messages\"]";
const METERED: [&str; 8] = [
    "chat.completions",
    "completions",
    "responses",
    "responses.compact",
    "embeddings",
    "messages",
    "messages.count_tokens",
    "models",
];
