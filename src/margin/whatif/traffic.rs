//! Recorded traffic as if other models or another upstream had served it, or more of it had come from the cache.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::Date;

use super::{Changes, WhatIfError};
use crate::ids::ModelName;
use crate::ledger::entry::Outcome;
use crate::ledger::store::{INPUT_BANDS, RollupRow};
use crate::margin::days::date_of;
use crate::plan::ModelPattern;
use crate::price::{PriceRow, PriceTable, PricedModel};
use crate::tokens::Usage;

/// `--map MODEL=MODEL`: what one model served, priced as another.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelMap {
    /// The model whose traffic is meant: a name or glob, compared with what was asked for and what was served. A name
    /// also means every other name of the same entry in the price table.
    pub from: String,
    /// The model whose prices it gets.
    pub to: String,
}

/// Turns rows of the ledger into rows of the what-if.
#[derive(Clone)]
pub(super) struct Traffic<'a> {
    prices: &'a PriceTable,
    /// Another upstream's prices, which come first.
    others: Option<&'a PriceTable>,
    maps: Vec<Mapping>,
    cache_hit_ppm: Option<u32>,
    /// By what was asked for and what was served: which price the row gets.
    known: HashMap<(Option<ModelName>, Option<ModelName>), Option<Target>>,
    notes: Vec<String>,
}

#[derive(Clone)]
struct Mapping {
    pattern: ModelPattern,
    entry: Option<Arc<PricedModel>>,
    target: Target,
}

#[derive(Clone)]
struct Target {
    entry: Arc<PricedModel>,
    /// The name of another model; `None` where the row keeps its own.
    name: Option<ModelName>,
    /// Whether the price is another upstream's.
    is_other: bool,
}

impl<'a> Traffic<'a> {
    /// # Errors
    /// [`WhatIfError::Unpriced`] when a map's target has no price.
    pub(super) fn new(
        prices: &'a PriceTable,
        changes: &'a Changes,
    ) -> Result<Traffic<'a>, WhatIfError> {
        let mut traffic = Traffic {
            prices,
            others: changes.price_table.as_deref(),
            maps: Vec::with_capacity(changes.maps.len()),
            cache_hit_ppm: changes.cache_hit_ppm,
            known: HashMap::new(),
            notes: Vec::new(),
        };
        for map in &changes.maps {
            let (entry, is_other) = traffic
                .priced(&map.to)
                .ok_or_else(|| WhatIfError::Unpriced(map.to.clone()))?;
            traffic.maps.push(Mapping {
                pattern: ModelPattern::new(&map.from),
                entry: prices.model(&map.from).map(Arc::clone),
                target: Target {
                    entry,
                    name: Some(ModelName::new(&map.to)),
                    is_other,
                },
            });
        }
        Ok(traffic)
    }

    /// The prices of a model, and whether they are another upstream's.
    fn priced(&self, model: &str) -> Option<(Arc<PricedModel>, bool)> {
        let of = |table: Option<&PriceTable>, is_other| {
            let entry = table?.model(model)?;
            (!entry.rows.is_empty()).then(|| (Arc::clone(entry), is_other))
        };
        of(self.others, true).or_else(|| of(Some(self.prices), false))
    }

    /// The row as it would have been. A row that no change concerns is given back as it is, cost and all.
    pub(super) fn changed<'r>(&mut self, row: &'r RollupRow) -> Cow<'r, RollupRow> {
        if self.maps.is_empty() && self.others.is_none() && self.cache_hit_ppm.is_none() {
            return Cow::Borrowed(row);
        }
        let Some(target) = self.target(row) else {
            return Cow::Borrowed(row);
        };
        let usage = match self.cache_hit_ppm {
            Some(ppm) => with_cache_hits(&row.sums.usage, ppm),
            None => row.sums.usage,
        };
        if target.name.is_none() && !target.is_other && usage == row.sums.usage {
            return Cow::Borrowed(row);
        }
        let day = date_of(row.start.as_millisecond());
        let Some(price) = self.price_on(&target.entry, day) else {
            return Cow::Borrowed(row);
        };
        let requests = row.sums.requests.saturating_sub(rejected(row));
        let each = input_tokens_in(row.input_band);
        // Sums of a day lie far within 128 bits; a cost that did not would have been refused when it was booked.
        let Ok(cost) = price.cost_of_many(&usage, row.service_tier.as_deref(), requests, each)
        else {
            return Cow::Borrowed(row);
        };
        let mut changed = row.clone();
        changed.sums.usage = usage;
        changed.sums.cost = cost.by_class;
        changed.sums.undiscounted = cost.undiscounted;
        changed.sums.unpriced_requests = 0;
        let before = row.sums.cost.total();
        let scaled = |part: crate::money::Money| {
            let scaled = cost
                .by_class
                .total()
                .mul_ratio(part.picos(), before.picos());
            scaled.unwrap_or(part)
        };
        changed.sums.client_closed_cost = scaled(row.sums.client_closed_cost);
        changed.sums.failed_cost = scaled(row.sums.failed_cost);
        if let Some(name) = &target.name {
            changed.model = Some(name.clone());
            changed.served_model = Some(name.clone());
        }
        Cow::Owned(changed)
    }

    /// Whether any row was priced with another upstream's prices.
    pub(super) fn used_other_prices(&self) -> bool {
        self.known.values().flatten().any(|target| target.is_other)
    }

    /// What the reader of the figures should know.
    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }

    fn target(&mut self, row: &RollupRow) -> Option<Target> {
        let names = (row.model.clone(), row.served_model.clone());
        if let Some(target) = self.known.get(&names) {
            return target.clone();
        }
        let target = self.find(row);
        self.known.insert(names, target.clone());
        target
    }

    fn find(&self, row: &RollupRow) -> Option<Target> {
        let served = row.served_model.as_ref().or(row.model.as_ref())?;
        let own = self.prices.model(served.as_str());
        let mapped = self.maps.iter().find(|map| {
            let matches = |name: &ModelName| map.pattern.matches(name.as_str());
            let same_entry = map
                .entry
                .as_ref()
                .zip(own)
                .is_some_and(|(a, b)| Arc::ptr_eq(a, b));
            same_entry || matches(served) || row.model.as_ref().is_some_and(matches)
        });
        if let Some(map) = mapped {
            return Some(map.target.clone());
        }
        let (entry, is_other) = self
            .priced(served.as_str())
            .or_else(|| self.priced(row.model.as_ref()?.as_str()))?;
        (is_other || self.cache_hit_ppm.is_some()).then_some(Target {
            entry,
            name: None,
            is_other,
        })
    }

    /// The price that held on the day; before a model's first price, its first one.
    fn price_on<'e>(&mut self, entry: &'e PricedModel, day: Date) -> Option<&'e PriceRow> {
        let held = entry.row_on(day);
        if held.is_none() && self.notes.len() < 100 {
            let first = entry.rows.first()?;
            let note = format!(
                "{} had no price before {}: its first price stands for earlier days",
                entry.model, first.from
            );
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        held.or(entry.rows.first())
    }
}

/// Requests that never reached an upstream.
pub(super) fn rejected(row: &RollupRow) -> u64 {
    Outcome::ALL
        .iter()
        .zip(row.sums.outcomes)
        .filter(|(outcome, _)| **outcome == Outcome::Rejected)
        .map(|(_, count)| count)
        .sum()
}

/// An input that lies in the band, as far from its lower edge as it goes.
fn input_tokens_in(band: u8) -> u64 {
    let above_all = INPUT_BANDS.last().map_or(0, |edge| edge + 1);
    INPUT_BANDS
        .get(usize::from(band))
        .copied()
        .unwrap_or(above_all)
}

/// The usage with such a share of its input read from the cache, as far as cache writes, audio and images leave room.
fn with_cache_hits(usage: &Usage, ppm: u32) -> Usage {
    let wanted = u128::from(usage.input_tokens) * u128::from(ppm) / 1_000_000;
    let room = usage
        .input_tokens
        .saturating_sub(usage.cache_write_input_tokens)
        .saturating_sub(usage.audio_input_tokens)
        .saturating_sub(usage.image_input_tokens);
    Usage {
        cache_read_input_tokens: u64::try_from(wanted).unwrap_or(u64::MAX).min(room),
        ..*usage
    }
}
