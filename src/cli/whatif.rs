//! `weir whatif`: the recorded traffic under other models, another upstream's prices, other plan prices, limits or cache
//! hits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::margin::{Format, RangeArgs, json};
use super::progress::Reading;
use crate::config::Config;
use crate::ledger::store::Store;
use crate::margin::whatif::limits::Cap;
use crate::margin::whatif::spoken::{PlanPrice, price_table, share_ppm};
use crate::margin::whatif::traffic::ModelMap;
use crate::margin::whatif::{Changes, what_if};
use crate::margin::{self, Books, By, MarginError};
use crate::price::PriceTable;

/// Shows what recorded traffic would have cost and brought under other terms.
#[derive(Clone, Debug, clap::Args)]
pub struct WhatIfArgs {
    /// Traffic of one model at the price of another: gpt-4o=gpt-4.5-preview (may be repeated)
    #[arg(long, value_name = "MODEL=MODEL")]
    pub map: Vec<ModelMap>,
    /// Another upstream's prices, as a price file: what it prices would have cost that much
    #[arg(long, value_name = "FILE")]
    pub price_table: Option<PathBuf>,
    /// Another price of a plan, in US dollars a period: pro=220.00 (may be repeated)
    #[arg(long, value_name = "PLAN=USD")]
    pub price: Vec<PlanPrice>,
    /// A limit that the plan's accounts would have had: pro:cost=150/period (may be repeated)
    #[arg(long, value_name = "PLAN:ON=MAX/PER")]
    pub limit: Vec<Cap>,
    /// The share of input tokens read from the cache: 0.6 or 60%
    #[arg(long, value_name = "SHARE", value_parser = share_ppm)]
    pub cache_hit: Option<u32>,
    /// What the rows are
    #[arg(long, value_enum, default_value = "plan")]
    pub by: By,
    /// The time range; the current calendar month up to now unless given
    #[command(flatten)]
    pub range: RangeArgs,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// Runs the command; the text is what goes to standard output.
///
/// # Errors
/// See [`MarginError`].
pub fn run(
    args: &WhatIfArgs,
    config: &Config,
    store: &dyn Store,
    now: Timestamp,
) -> Result<String, MarginError> {
    let range = args.range.resolve(now)?;
    let books = Books::read(config, store)?;
    let changes = Changes {
        maps: args.map.clone(),
        price_table: args.price_table.as_deref().map(read_prices).transpose()?,
        plan_prices: args
            .price
            .iter()
            .map(|price| (price.plan.clone(), price.usd))
            .collect(),
        limits: args.limit.clone(),
        cache_hit_ppm: args.cache_hit,
    };
    let bar = Reading::new();
    let show = |done, all| bar.show(done, all);
    let prices = &config.prices;
    let report = what_if(store, &books, prices, &changes, args.by, range, now, &show)?;
    drop(bar);
    Ok(match args.format {
        Format::Table => margin::what_if_table(&report),
        Format::Json => json(&report)?,
        Format::Csv => margin::what_if_csv(&report),
    })
}

fn read_prices(path: &Path) -> Result<Arc<PriceTable>, MarginError> {
    let text = std::fs::read_to_string(path).map_err(|error| MarginError::File {
        path: path.to_owned(),
        error,
    })?;
    price_table(&path.display().to_string(), &text).map_err(MarginError::PriceTable)
}
