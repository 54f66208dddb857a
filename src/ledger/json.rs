//! An entry as JSON: one object a line in exports, the same object in the admin API.
//!
//! The members are those of the interface page, money as decimal strings, absent facts `null`. Beside them stand
//! `ancestors` (the accounts above `account` at the time, from the root down), `cost` (by class; the sum is `cost_usd`),
//! `undiscounted_usd`, `retries` and `corrects`, so that an exported entry can be read back whole.

use std::fmt;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Outcome};
use crate::ids::{AccountId, KeyId, ModelName, PlanId, RequestId, UpstreamId};
use crate::money::Money;
use crate::price::{CostByClass, PricedBy};
use crate::tokens::{Usage, UsageSource};

/// Writes an entry as one JSON object, without a line break.
///
/// # Errors
/// The writer's.
pub fn write(entry: &Entry, out: impl io::Write) -> io::Result<()> {
    serde_json::to_writer(out, &Json::from(entry)).map_err(io::Error::from)
}

/// Reads an entry that [`write()`] wrote. Members that older exports do not have may be absent: without `cost` the whole
/// `cost_usd` counts as `other`, without `ancestors` the account has none.
///
/// # Errors
/// What is wrong, with its place.
pub fn read(json: &[u8]) -> Result<Entry, serde_json::Error> {
    let json: Json = serde_json::from_slice(json)?;
    json.try_into().map_err(serde::de::Error::custom)
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Json::from(self).serialize(serializer)
    }
}

/// The object's members, in their order.
#[derive(Serialize, Deserialize)]
struct Json {
    id: RequestId,
    started_at: Moment,
    ended_at: Moment,
    account: Option<AccountId>,
    #[serde(default)]
    ancestors: Vec<AccountId>,
    key: KeyId,
    plan: PlanId,
    endpoint: Arc<str>,
    model: Option<ModelName>,
    served_model: Option<ModelName>,
    upstream: Option<UpstreamId>,
    service_tier: Option<Arc<str>>,
    status: u16,
    outcome: OutcomeName,
    reason: Option<Arc<str>>,
    streamed: bool,
    usage: Usage,
    usage_source: UsageSource,
    cost_usd: Money,
    #[serde(default)]
    cost: Option<CostByClass>,
    #[serde(default)]
    undiscounted_usd: Option<Money>,
    priced_by: Option<OneOrMore>,
    first_token_ms: Option<u32>,
    duration_ms: u32,
    #[serde(default)]
    retries: u8,
    end_user: Option<Arc<str>>,
    tags: Tags,
    #[serde(default)]
    corrects: Option<RequestId>,
}

impl From<&Entry> for Json {
    fn from(entry: &Entry) -> Json {
        let (account, ancestors) = match entry.lineage.split_last() {
            Some((account, ancestors)) => (Some(account.clone()), ancestors.to_vec()),
            None => (None, Vec::new()),
        };
        Json {
            id: entry.id,
            started_at: Moment(entry.started_at),
            ended_at: Moment(entry.ended_at),
            account,
            ancestors,
            key: entry.key.clone(),
            plan: entry.plan.clone(),
            endpoint: Arc::clone(&entry.endpoint),
            model: entry.model.clone(),
            served_model: entry.served_model.clone(),
            upstream: entry.upstream.clone(),
            service_tier: entry.service_tier.clone(),
            status: entry.status,
            outcome: OutcomeName(entry.outcome),
            reason: entry.reason.clone(),
            streamed: entry.streamed,
            usage: entry.usage,
            usage_source: entry.usage_source,
            cost_usd: entry.cost_usd(),
            cost: Some(entry.cost),
            undiscounted_usd: Some(entry.undiscounted),
            priced_by: OneOrMore::from(&entry.priced_by),
            first_token_ms: entry.first_token_ms,
            duration_ms: entry.duration_ms,
            retries: entry.retries,
            end_user: entry.end_user.clone(),
            tags: Tags(entry.tags.clone()),
            corrects: entry.corrects,
        }
    }
}

impl TryFrom<Json> for Entry {
    type Error = &'static str;

    fn try_from(json: Json) -> Result<Entry, &'static str> {
        let cost = json.cost.unwrap_or(CostByClass {
            other: json.cost_usd,
            ..CostByClass::default()
        });
        if cost.total() != json.cost_usd {
            return Err("`cost_usd` is not the sum of `cost`");
        }
        let lineage: Vec<AccountId> = json.ancestors.into_iter().chain(json.account).collect();
        Ok(Entry {
            id: json.id,
            started_at: json.started_at.0,
            ended_at: json.ended_at.0,
            lineage: lineage.into(),
            key: json.key,
            plan: json.plan,
            endpoint: json.endpoint,
            model: json.model,
            served_model: json.served_model,
            upstream: json.upstream,
            service_tier: json.service_tier,
            status: json.status,
            outcome: json.outcome.0,
            reason: json.reason,
            streamed: json.streamed,
            usage: json.usage,
            usage_source: json.usage_source,
            undiscounted: json.undiscounted_usd.unwrap_or(json.cost_usd),
            cost,
            priced_by: json.priced_by.map_or_else(Vec::new, OneOrMore::into_vec),
            first_token_ms: json.first_token_ms,
            duration_ms: json.duration_ms,
            retries: json.retries,
            end_user: json.end_user,
            tags: json.tags.0,
            corrects: json.corrects,
        })
    }
}

/// RFC 3339 with milliseconds.
struct Moment(Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&rfc3339(self.0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        Timestamp::deserialize(deserializer).map(Moment)
    }
}

/// A moment as RFC 3339 with milliseconds, in UTC.
pub(super) fn rfc3339(moment: Timestamp) -> impl fmt::Display {
    // jiff cuts what is finer, as the stores do.
    std::fmt::from_fn(move |f| write!(f, "{moment:.3}"))
}

struct OutcomeName(Outcome);

impl Serialize for OutcomeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for OutcomeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OutcomeName, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Outcome::parse(&name)
            .map(OutcomeName)
            .ok_or_else(|| serde::de::Error::custom(format!("no outcome is called {name:?}")))
    }
}

/// One price row as an object, several as a list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(PricedBy),
    More(Vec<PricedBy>),
}

impl OneOrMore {
    fn from(rows: &[PricedBy]) -> Option<OneOrMore> {
        match rows {
            [] => None,
            [one] => Some(OneOrMore::One(one.clone())),
            more => Some(OneOrMore::More(more.to_vec())),
        }
    }

    fn into_vec(self) -> Vec<PricedBy> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

/// Tags as an object, in the order in which they were given.
struct Tags(Vec<(Arc<str>, Arc<str>)>);

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_pairs(&self.0, serializer)
    }
}

fn serialize_pairs<S: Serializer>(
    pairs: &[(Arc<str>, Arc<str>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Tags;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Tags(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Tags as the text that stores keep: a JSON object, or nothing.
pub(super) fn tags_to_text(tags: &[(Arc<str>, Arc<str>)]) -> Option<String> {
    (!tags.is_empty()).then(|| serde_json::to_string(&Tags(tags.to_vec())).unwrap_or_default())
}

/// The tags of such a text.
pub(super) fn tags_of_text(text: &str) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    serde_json::from_str::<Tags>(text).ok().map(|tags| tags.0)
}

/// Price rows as the text that stores keep: `gpt-4o@2024-10-02`, several in a JSON list; nothing for unpriced.
pub(super) fn priced_by_to_text(rows: &[PricedBy]) -> Option<String> {
    (!rows.is_empty()).then(|| serde_json::to_string(rows).unwrap_or_default())
}

/// The price rows of such a text.
pub(super) fn priced_by_of_text(text: &str) -> Option<Vec<PricedBy>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::{any_entry, sample};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_survives_json(entry in any_entry()) {
            let mut line = Vec::new();
            write(&entry, &mut line).unwrap();
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(read(&line).unwrap(), entry);
        }
    }

    #[test]
    fn the_object_has_the_members_of_the_interface_page() {
        let mut entry = sample(1);
        entry.started_at = "2025-03-01T10:00:00.1239Z".parse().unwrap();
        let value = serde_json::to_value(&entry).unwrap();
        assert_eq!(value["started_at"], "2025-03-01T10:00:00.123Z");
        assert_eq!(value["account"], "acme-1");
        assert_eq!(value["cost_usd"], "0.0038775");
        assert_eq!(value["outcome"], "completed");
        assert_eq!(value["usage_source"], "reported");
        assert_eq!(value["usage"]["cache_read_input_tokens"], 500);
        assert_eq!(value["usage"]["cache_write_1h_input_tokens"], 0);
        assert_eq!(
            value["priced_by"],
            serde_json::json!({ "model": "gpt-4o", "from": "2024-10-02" })
        );
        assert_eq!(value["tags"], serde_json::json!({ "feature": "search" }));
        assert!(value["end_user"].is_null() && value["corrects"].is_null());
    }

    #[test]
    fn an_unpriced_entry_is_priced_by_null_and_several_rows_are_a_list() {
        let mut entry = sample(1);
        let row = entry.priced_by[0].clone();
        entry.priced_by = Vec::new();
        assert!(serde_json::to_value(&entry).unwrap()["priced_by"].is_null());
        entry.priced_by = vec![row.clone(), row];
        assert_eq!(
            serde_json::to_value(&entry).unwrap()["priced_by"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }
}
