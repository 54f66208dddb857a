//! The shipped price table against public price lists, and against the history that made headlines.
//!
//! The lists are not part of the repository; where they are absent, the tests that need them say so and pass.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod explained;
mod headlines;
mod imports;
mod public_lists;
mod sanity;

use std::path::PathBuf;

use jiff::civil::Date;
use weir::config::ProcessEnvironment;
use weir::config::prices::{SHIPPED, table};
use weir::money::Money;
use weir::price::{Class, PriceTable, PricedModel, Rates};

/// The table that Weir comes with.
fn shipped() -> PriceTable {
    match table(&[("config/prices.toml", SHIPPED)], &ProcessEnvironment) {
        Ok(table) => table,
        Err(errors) => panic!("{errors}"),
    }
}

/// Where the public lists are, if they are anywhere.
fn data() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("WEIR_SHARED").map_or(beside, PathBuf::from);
    let data = shared.join("data");
    if data.is_dir() {
        return Some(data);
    }
    println!("skipped: no public price lists in {}", data.display());
    None
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

/// The price of a class, or of the class that contains it: what a token of it costs.
fn effective(rates: &Rates, class: Class) -> Option<Money> {
    let container = match class {
        Class::CacheReadInput | Class::CacheWriteInput | Class::AudioInput | Class::ImageInput => {
            Some(Class::Input)
        }
        Class::CacheWrite1hInput => Some(Class::CacheWriteInput),
        Class::ReasoningOutput | Class::AudioOutput | Class::ImageOutput => Some(Class::Output),
        _ => None,
    };
    let own = rates.class(class);
    own.or_else(|| container.and_then(|container| effective(rates, container)))
}

/// The rates that an entry names for a service tier and a threshold on a day.
fn rates(entry: &PricedModel, on: Date, tier: Option<&str>, above: u64) -> Option<Rates> {
    let row = entry.row_on(on)?;
    let (own, thresholds) = match tier {
        None => (&row.rates, &row.above),
        Some(tier) => {
            let tier = row.tiers.get(tier)?;
            (&tier.rates, &tier.above)
        }
    };
    if above == 0 {
        return Some(own.clone());
    }
    let found = thresholds.iter().find(|tier| tier.input_tokens == above)?;
    Some(found.rates.clone())
}
