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
use crate::margin::tally::Part;
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
    known: HashMap<(Option<ModelName>, Option<ModelName>), Found>,
    /// What each map met, in their order.
    met: Vec<Met>,
    notes: Vec<String>,
}

/// What a map met in the traffic of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    /// No traffic of its model.
    Nothing,
    /// Only traffic that an earlier map takes.
    Taken,
    /// Traffic that it maps.
    Traffic,
}

/// What becomes of the rows of one model.
#[derive(Clone)]
struct Found {
    target: Option<Target>,
    /// The positions of the maps that fit; the first is applied.
    maps: Vec<usize>,
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
            met: vec![Met::Nothing; changes.maps.len()],
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
    pub(super) fn changed<'r>(&mut self, row: &'r RollupRow, part: Part) -> Cow<'r, RollupRow> {
        if self.maps.is_empty() && self.others.is_none() && self.cache_hit_ppm.is_none() {
            return Cow::Borrowed(row);
        }
        let Some(target) = self.target(row, part) else {
            return Cow::Borrowed(row);
        };
        let usage = match self.cache_hit_ppm {
            Some(ppm) => with_cache_hits(&row.sums.usage, ppm),
            None => row.sums.usage,
        };
        // A correction on its own belongs to an entry that gets its price anew, with what was corrected in it.
        let is_correction = row.sums.requests == 0;
        if target.name.is_none() && !target.is_other && usage == row.sums.usage && !is_correction {
            return Cow::Borrowed(row);
        }
        let day = date_of(row.start.as_millisecond());
        let Some(price) = self.price_on(&target.entry, day) else {
            return Cow::Borrowed(row);
        };
        let requests = row.sums.requests.saturating_sub(rejected(row));
        let each = self.input_tokens_each(&target.entry.model, price, row, requests);
        // Sums of a day lie far within 128 bits; a cost that did not would have been refused when it was booked.
        let Ok(cost) = price.cost_of_many(&usage, row.service_tier.as_deref(), requests, each)
        else {
            return Cow::Borrowed(row);
        };
        // Their tokens, where there are any, are not those of all the requests of a day.
        let pieces = |price: &PriceRow| price.rates.image.or(price.rates.second).is_some();
        let own = row.served_model.as_ref().or(row.model.as_ref());
        let own = own.and_then(|model| self.prices.model(model.as_str())?.row_on(day));
        let has_pieces = row.sums.usage.images > 0 || row.sums.usage.audio_seconds > 0;
        if has_pieces && own.is_some_and(pieces) && !pieces(price) {
            let note = format!(
                "{} has no price for sound or images by the piece: requests that are billed so are left as they were",
                target.entry.model
            );
            if self.notes.len() < 100 && !self.notes.contains(&note) {
                self.notes.push(note);
            }
            return Cow::Borrowed(row);
        }
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
        let mut targets = self
            .known
            .values()
            .filter_map(|found| found.target.as_ref());
        targets.any(|target| target.is_other)
    }

    /// What each map met, in their order.
    pub(super) fn met(&self) -> &[Met] {
        &self.met
    }

    /// What the reader of the figures should know.
    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }

    fn target(&mut self, row: &RollupRow, part: Part) -> Option<Target> {
        let names = (row.model.clone(), row.served_model.clone());
        if !self.known.contains_key(&names) {
            let found = self.find(row);
            self.known.insert(names.clone(), found);
        }
        let found = self.known.get(&names)?;
        if part == Part::Within {
            let mut what = Met::Traffic;
            for map in &found.maps {
                if let Some(met) = self.met.get_mut(*map) {
                    *met = what.max(*met);
                }
                what = Met::Taken;
            }
        }
        found.target.clone()
    }

    fn find(&self, row: &RollupRow) -> Found {
        let Some(served) = row.served_model.as_ref().or(row.model.as_ref()) else {
            return Found {
                target: None,
                maps: Vec::new(),
            };
        };
        let own = self.prices.model(served.as_str());
        let fits = |map: &Mapping| {
            let matches = |name: &ModelName| map.pattern.matches(name.as_str());
            let same_entry = map
                .entry
                .as_ref()
                .zip(own)
                .is_some_and(|(a, b)| Arc::ptr_eq(a, b));
            same_entry || matches(served) || row.model.as_ref().is_some_and(matches)
        };
        let fitting = || self.maps.iter().enumerate().filter(|(_, map)| fits(map));
        let target = match fitting().next() {
            Some((_, map)) => Some(map.target.clone()),
            None => self
                .priced(served.as_str())
                .or_else(|| self.priced(row.model.as_ref()?.as_str()))
                .filter(|(_, is_other)| *is_other || self.cache_hit_ppm.is_some())
                .map(|(entry, is_other)| Target {
                    entry,
                    name: None,
                    is_other,
                }),
        };
        Found {
            target,
            maps: fitting().map(|(position, _)| position).collect(),
        }
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

    /// The input of a request that stands for all of the row. The row's band says on which side of a threshold its
    /// requests lie, unless the threshold is within the band: then their average has to do.
    fn input_tokens_each(
        &mut self,
        model: &str,
        price: &PriceRow,
        row: &RollupRow,
        requests: u64,
    ) -> u64 {
        let band = usize::from(row.input_band);
        let lower = band.checked_sub(1).and_then(|below| INPUT_BANDS.get(below));
        let lower = lower.copied().unwrap_or(0);
        let upper = INPUT_BANDS.get(band).copied().unwrap_or(u64::MAX);
        let tier = row.service_tier.as_deref();
        let of_tier = tier.and_then(|tier| price.tier(tier));
        let of_tier = of_tier.map_or(&[][..], |tier| &tier.above);
        let within = price
            .above
            .iter()
            .chain(of_tier)
            .map(|above| above.input_tokens)
            .find(|threshold| lower < *threshold && *threshold < upper)
            .filter(|_| row.sums.usage.input_tokens > 0);
        let Some(threshold) = within else {
            return upper;
        };
        let note = format!(
            "{model} has another price above {threshold} input tokens, and the ledger's sums do not say which requests \
             were longer: they are priced at their average size"
        );
        if self.notes.len() < 100 && !self.notes.contains(&note) {
            self.notes.push(note);
        }
        // Rounded up, it is above a threshold exactly where the average is.
        let average = row.sums.usage.input_tokens.div_ceil(requests.max(1));
        average.clamp(lower + 1, upper)
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
