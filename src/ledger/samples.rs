//! Entries for tests and benches: one that looks like a real request, and arbitrary ones.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::entry::{Entry, Outcome};
use crate::ids::{AccountId, ModelName, RequestId};
use crate::money::Money;
use crate::price::{CostByClass, PricedBy};
use crate::tokens::{Usage, UsageSource};

/// 2025-03-01T00:00:00Z.
pub(crate) const MARCH_MS: i64 = 1_740_787_200_000;

/// The id of a request that began at this moment, another for each `number`.
pub(crate) fn id_at(started_at: Timestamp, number: u64) -> RequestId {
    let ms = u128::from(started_at.as_millisecond().unsigned_abs());
    RequestId(uuid::Uuid::from_u128(
        ms << 80 | 0x7000_8000_0000_0000_0000 | u128::from(number),
    ))
}

/// A completed request, different for each `number`: another id, account, key and second.
pub(crate) fn sample(number: u64) -> Entry {
    let started_at =
        Timestamp::from_millisecond(MARCH_MS + i64::try_from(number).unwrap() * 1000).unwrap();
    Entry {
        id: id_at(started_at, number),
        started_at,
        ended_at: started_at + jiff::SignedDuration::from_millis(1250),
        lineage: [
            AccountId::from("acme"),
            AccountId::from(format!("acme-{}", number % 10).as_str()),
        ]
        .into(),
        key: format!("key-{}", number % 10).as_str().into(),
        plan: "pro".into(),
        endpoint: "chat.completions".into(),
        model: Some("gpt-4o".into()),
        served_model: Some("gpt-4o-2024-08-06".into()),
        upstream: Some("openai".into()),
        service_tier: Some("default".into()),
        status: 200,
        outcome: Outcome::Completed,
        reason: None,
        streamed: number.is_multiple_of(2),
        usage: Usage {
            input_tokens: 1000 + number,
            cache_read_input_tokens: 500,
            output_tokens: 200,
            reasoning_output_tokens: 50,
            ..Usage::default()
        },
        usage_source: UsageSource::Reported,
        cost: CostByClass {
            input: times(2_500_000, 500 + number),
            cache_read_input: times(1_250_000, 500),
            output: times(10_000_000, 150),
            reasoning_output: times(10_000_000, 50),
            ..CostByClass::default()
        },
        undiscounted: times(2_500_000, 1000 + number) + times(10_000_000, 200),
        priced_by: vec![PricedBy {
            model: "gpt-4o".into(),
            from: jiff::civil::date(2024, 10, 2),
        }],
        first_token_ms: Some(320),
        duration_ms: 1250,
        retries: 0,
        end_user: None,
        tags: vec![("feature".into(), "search".into())],
        corrects: None,
    }
}

fn times(picos: i128, count: u64) -> Money {
    Money::from_picos(picos).checked_mul(count).unwrap()
}

/// Any entry that the ledger must keep: every member absent or extreme at times.
pub(crate) fn any_entry() -> impl Strategy<Value = Entry> {
    let ids = (
        any::<u128>(),
        proptest::option::weighted(0.2, any::<u128>()),
    );
    let times = (
        -2_000_000_000_000_i64..4_000_000_000_000,
        0_i64..1_000_000_000,
        proptest::option::of(any::<u32>()),
        any::<u32>(),
    );
    let names = (
        proptest::collection::vec("[a-z0-9._:@-]{1,12}", 1..4),
        "[a-z]{1,8}",
        "[a-z]{1,8}",
        proptest::sample::select(vec!["chat.completions", "messages", "other"]),
    );
    let optional = (
        proptest::option::of("[^\\p{Cc}]{1,20}"),
        proptest::option::of("[^\\p{Cc}]{1,20}"),
        proptest::option::of("[a-z]{1,8}"),
        proptest::option::of("[a-z]{1,8}"),
        proptest::option::of("[^\\p{Cc}]{0,40}"),
        proptest::option::of("[^\\p{Cc}]{0,40}"),
    );
    let figures = (
        proptest::array::uniform15(proptest::prop_oneof![
            3 => Just(0_u64),
            2 => 0_u64..1_000_000_000,
        ]),
        proptest::array::uniform9(proptest::prop_oneof![
            3 => Just(0_i128),
            2 => -1_000_000_000_000_000_i128..1_000_000_000_000_000,
            1 => -Money::MAX.picos() / 9..Money::MAX.picos() / 9,
        ]),
    );
    let rest = (
        any::<u16>(),
        proptest::sample::select(Outcome::ALL.to_vec()),
        proptest::sample::select(UsageSource::ALL.to_vec()),
        any::<bool>(),
        any::<u8>(),
        proptest::collection::vec(
            ("[a-z0-9*.-]{1,10}", 2020_i16..2030, 1_i8..=12, 1_i8..=28),
            0..3,
        ),
        proptest::collection::vec(("[a-z]{1,6}", "[^\\p{Cc}]{0,10}"), 0..3),
    );
    (ids, times, names, optional, figures, rest).prop_map(
        |(ids, times, names, optional, figures, rest)| {
            let started_at = Timestamp::from_millisecond(times.0).unwrap();
            let (counts, [undiscounted, amounts @ ..]) = figures;
            let lineage: Vec<AccountId> = names.0.iter().map(|id| id.as_str().into()).collect();
            let shared = |text: Option<String>| text.map(Arc::from);
            // A tag is given once: the JSON form is an object.
            let mut tags: Vec<(Arc<str>, Arc<str>)> = Vec::new();
            for (name, value) in rest.6 {
                if !tags.iter().any(|(known, _)| **known == *name) {
                    tags.push((name.into(), value.into()));
                }
            }
            Entry {
                id: RequestId(uuid::Uuid::from_u128(ids.0)),
                started_at,
                ended_at: started_at + jiff::SignedDuration::from_millis(times.1),
                lineage: lineage.into(),
                key: names.1.as_str().into(),
                plan: names.2.as_str().into(),
                endpoint: names.3.into(),
                model: optional.0.as_deref().map(ModelName::new),
                served_model: optional.1.as_deref().map(ModelName::new),
                upstream: optional.2.as_deref().map(Into::into),
                service_tier: shared(optional.3),
                status: rest.0,
                outcome: rest.1,
                reason: shared(optional.4),
                streamed: rest.3,
                usage: Usage::from_counts(counts),
                usage_source: rest.2,
                cost: CostByClass::from_amounts(amounts.map(Money::from_picos)),
                undiscounted: Money::from_picos(undiscounted),
                priced_by: rest
                    .5
                    .into_iter()
                    .map(|(model, year, month, day)| PricedBy {
                        model: model.into(),
                        from: jiff::civil::date(year, month, day),
                    })
                    .collect(),
                first_token_ms: times.2,
                duration_ms: times.3,
                retries: rest.4,
                end_user: shared(optional.5),
                tags,
                corrects: ids.1.map(|id| RequestId(uuid::Uuid::from_u128(id))),
            }
        },
    )
}
