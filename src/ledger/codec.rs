//! Entries and sums as bytes: what the journal's records and the SQLite rollups hold.
//!
//! Integers are variable-length (seven bits a byte, lowest first; signed ones in zigzag), texts carry their length.
//! Classes that are zero take one bit. There are no tags for later members: a file of another layout says so in its
//! header, never in a record.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use super::entry::{Entry, Outcome};
use crate::ids::{AccountId, KeyId, ModelName, PlanId, RequestId, UpstreamId};
use crate::money::Money;
use crate::price::{CostByClass, PricedBy};
use crate::tokens::{Usage, UsageSource};

/// Adds an entry to `out`. Its id stands first (16 bytes), then its start (8 bytes, milliseconds): see [`key`].
pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(entry.id.0.as_bytes());
    out.extend_from_slice(&entry.started_at.as_millisecond().to_le_bytes());
    put_signed(out, entry.ended_at.as_millisecond().into());
    put(out, entry.lineage.len() as u64);
    for account in entry.lineage.iter() {
        put_text(out, account.as_str());
    }
    put_text(out, entry.key.as_str());
    put_text(out, entry.plan.as_str());
    put_text(out, &entry.endpoint);
    put_option(out, entry.model.as_ref().map(ModelName::as_str));
    put_option(out, entry.served_model.as_ref().map(ModelName::as_str));
    put_option(out, entry.upstream.as_ref().map(UpstreamId::as_str));
    put_option(out, entry.service_tier.as_deref());
    put(out, entry.status.into());
    out.push(entry.outcome.code());
    put_option(out, entry.reason.as_deref());
    out.push(entry.streamed.into());
    put_usage(out, &entry.usage);
    out.push(entry.usage_source.code());
    put_cost(out, &entry.cost);
    put_signed(out, entry.undiscounted.picos());
    put(out, entry.priced_by.len() as u64);
    for priced in &entry.priced_by {
        put_text(out, &priced.model);
        put_signed(out, date_code(priced.from).into());
    }
    put(out, entry.first_token_ms.map_or(0, |ms| u64::from(ms) + 1));
    put(out, entry.duration_ms.into());
    out.push(entry.retries);
    put_option(out, entry.end_user.as_deref());
    put(out, entry.tags.len() as u64);
    for (name, value) in &entry.tags {
        put_text(out, name);
        put_text(out, value);
    }
    match entry.corrects {
        Some(id) => {
            out.push(1);
            out.extend_from_slice(id.0.as_bytes());
        }
        None => out.push(0),
    }
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub(super) fn decode(bytes: &[u8]) -> Option<Entry> {
    let mut from = Reader { rest: bytes };
    let id = RequestId(uuid::Uuid::from_bytes(from.array()?));
    let started_at = moment(i64::from_le_bytes(from.array()?))?;
    let ended_at = moment(i64::try_from(from.signed()?).ok()?)?;
    let lineage: Vec<AccountId> = from.list(|from| Some(from.shared()?.into()))?;
    let entry = Entry {
        id,
        started_at,
        ended_at,
        lineage: lineage.into(),
        key: KeyId::from(from.text()?),
        plan: PlanId::from(from.text()?),
        endpoint: from.shared()?,
        model: from.option()?.map(ModelName::new),
        served_model: from.option()?.map(ModelName::new),
        upstream: from.option()?.map(UpstreamId::from),
        service_tier: from.option()?.map(Arc::from),
        status: u16::try_from(from.number()?).ok()?,
        outcome: Outcome::of_code(from.byte()?)?,
        reason: from.option()?.map(Arc::from),
        streamed: from.byte()? != 0,
        usage: from.usage()?,
        usage_source: UsageSource::of_code(from.byte()?)?,
        cost: from.cost()?,
        undiscounted: Money::from_picos(from.signed()?),
        priced_by: from.list(|from| {
            Some(PricedBy {
                model: from.shared()?,
                from: date_of_code(i32::try_from(from.signed()?).ok()?)?,
            })
        })?,
        first_token_ms: match from.number()? {
            0 => None,
            more => Some(u32::try_from(more - 1).ok()?),
        },
        duration_ms: u32::try_from(from.number()?).ok()?,
        retries: from.byte()?,
        end_user: from.option()?.map(Arc::from),
        tags: from.list(|from| Some((from.shared()?, from.shared()?)))?,
        corrects: match from.byte()? {
            0 => None,
            _ => Some(RequestId(uuid::Uuid::from_bytes(from.array()?))),
        },
    };
    from.rest.is_empty().then_some(entry)
}

/// The place of an encoded entry in the ledger's order, `(started_at in milliseconds, id)`, without reading the rest.
pub(super) fn key(bytes: &[u8]) -> Option<(i64, RequestId)> {
    let mut from = Reader { rest: bytes };
    let id = RequestId(uuid::Uuid::from_bytes(from.array()?));
    Some((i64::from_le_bytes(from.array()?), id))
}

/// A moment from its milliseconds since 1970.
pub(super) fn moment(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

/// A day as a readable integer: 2025-03-01 is 20250301.
pub(super) fn date_code(date: Date) -> i32 {
    let magnitude = i32::from(date.month()) * 100 + i32::from(date.day());
    let years = i32::from(date.year()) * 10_000;
    if years < 0 {
        years - magnitude
    } else {
        years + magnitude
    }
}

/// The day that [`date_code`] made this of.
pub(super) fn date_of_code(code: i32) -> Option<Date> {
    let rest = (code % 10_000).abs();
    Date::new(
        i16::try_from(code / 10_000).ok()?,
        i8::try_from(rest / 100).ok()?,
        i8::try_from(rest % 100).ok()?,
    )
    .ok()
}

pub(super) fn put(out: &mut Vec<u8>, number: u64) {
    put_wide(out, number.into());
}

pub(super) fn put_signed(out: &mut Vec<u8>, number: i128) {
    put_wide(out, ((number << 1) ^ (number >> 127)).cast_unsigned());
}

#[inline]
fn put_wide(out: &mut Vec<u8>, number: u128) {
    match u8::try_from(number) {
        // Most are 0.
        Ok(byte) if byte < 0x80 => out.push(byte),
        _ => put_several(out, number),
    }
}

fn put_several(out: &mut Vec<u8>, number: u128) {
    // Nearly all numbers fit in 64 bits, where shifts are one instruction.
    if let Ok(mut number) = u64::try_from(number) {
        while number >= 0x80 {
            out.push((number as u8) | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
        return;
    }
    let mut number = number;
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Absent is 0; a text is its length plus one, then its bytes.
fn put_option(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            put(out, text.len() as u64 + 1);
            out.extend_from_slice(text.as_bytes());
        }
    }
}

pub(super) fn put_usage(out: &mut Vec<u8>, usage: &Usage) {
    let counts = usage.counts();
    put(out, mask(&counts, |count| *count != 0));
    for count in counts.into_iter().filter(|count| *count != 0) {
        put(out, count);
    }
}

pub(super) fn put_cost(out: &mut Vec<u8>, cost: &CostByClass) {
    let amounts = cost.amounts();
    put(out, mask(&amounts, |amount| *amount != Money::ZERO));
    for amount in amounts.into_iter().filter(|amount| *amount != Money::ZERO) {
        put_signed(out, amount.picos());
    }
}

fn mask<T>(values: &[T], present: impl Fn(&T) -> bool) -> u64 {
    values
        .iter()
        .enumerate()
        .filter(|(_, value)| present(value))
        .fold(0, |mask, (at, _)| mask | 1 << at)
}

/// Takes values from the front of a slice; every method is `None` past its end.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        u64::try_from(self.wide()?).ok()
    }

    pub(super) fn signed(&mut self) -> Option<i128> {
        let wide = self.wide()?;
        Some((wide >> 1).cast_signed() ^ -(wide & 1).cast_signed())
    }

    fn wide(&mut self) -> Option<u128> {
        let mut number = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            number |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn shared(&mut self) -> Option<Arc<str>> {
        self.text().map(Arc::from)
    }

    /// The outer `None` is the end of the slice, the inner one an absent text.
    fn option(&mut self) -> Option<Option<&'a str>> {
        match usize::try_from(self.number()?).ok()? {
            0 => Some(None),
            more => Some(Some(std::str::from_utf8(self.bytes(more - 1)?).ok()?)),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        // Each item takes at least one byte: a damaged count cannot make us reserve memory for it.
        let mut items = Vec::with_capacity(count.min(self.rest.len()));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    pub(super) fn usage(&mut self) -> Option<Usage> {
        let mask = self.number()?;
        let mut counts = [0; Usage::CLASSES];
        for (at, count) in counts.iter_mut().enumerate() {
            if mask & (1 << at) != 0 {
                *count = self.number()?;
            }
        }
        Some(Usage::from_counts(counts))
    }

    pub(super) fn cost(&mut self) -> Option<CostByClass> {
        let mask = self.number()?;
        let mut amounts = [Money::ZERO; 8];
        for (at, amount) in amounts.iter_mut().enumerate() {
            if mask & (1 << at) != 0 {
                *amount = Money::from_picos(self.signed()?);
            }
        }
        Some(CostByClass::from_amounts(amounts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::{any_entry, sample};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_entry_survives_the_journal(entry in any_entry()) {
            let mut bytes = Vec::new();
            encode(&entry, &mut bytes);
            prop_assert_eq!(key(&bytes), Some((entry.started_at.as_millisecond(), entry.id)));
            prop_assert_eq!(decode(&bytes), Some(entry));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn signed_numbers_of_any_size_survive(number in any::<i128>()) {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, number);
            prop_assert_eq!(Reader { rest: &bytes }.signed(), Some(number));
        }
    }

    #[test]
    fn an_entry_that_was_cut_is_not_read() {
        let mut bytes = Vec::new();
        encode(&sample(1), &mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn days_are_readable_integers() {
        let day = jiff::civil::date(2025, 3, 1);
        assert_eq!(date_code(day), 20_250_301);
        for day in [day, jiff::civil::date(-44, 3, 15), Date::MAX, Date::MIN] {
            assert_eq!(date_of_code(date_code(day)), Some(day));
        }
    }
}
