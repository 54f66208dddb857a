//! `weir advise`: the price, and the limits, that make a plan reach a margin.

use jiff::{SignedDuration, Timestamp};

use super::margin::{Format, RangeArgs, json};
use super::progress::Reading;
use crate::config::Config;
use crate::ids::PlanId;
use crate::ledger::store::Store;
use crate::margin::advise::{Question, advise};
use crate::margin::{self, Books, MarginError};
use crate::money::Money;

/// Finds what would make a plan reach a margin, and proves it on recorded traffic.
#[derive(Clone, Debug, clap::Args)]
pub struct AdviseArgs {
    /// The plan
    #[arg(long, value_name = "ID", value_parser = plan)]
    pub plan: PlanId,
    /// The margin to be reached, in percent of revenue
    #[arg(long, value_name = "PERCENT", value_parser = target, allow_negative_numbers = true)]
    pub target_margin: i32,
    /// The traffic that it is tried on; the last 30 days unless given
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
    args: &AdviseArgs,
    config: &Config,
    store: &dyn Store,
    now: Timestamp,
) -> Result<String, MarginError> {
    let until = args.range.until.unwrap_or(now);
    let month = SignedDuration::from_hours(30 * 24);
    let since = args.range.since.or(until.checked_sub(month).ok());
    let question = Question {
        plan: args.plan.clone(),
        target_ppm: args.target_margin,
        range: margin::range(since, Some(until), now)?,
    };
    let books = Books::read(config, store)?;
    let bar = Reading::new();
    let show = |done, all| bar.show(done, all);
    let advice = advise(store, &books, &config.prices, &question, now, &show)?;
    drop(bar);
    Ok(match args.format {
        Format::Table => margin::advice_table(&advice),
        Format::Json => json(&advice)?,
        Format::Csv => margin::advice_csv(&advice),
    })
}

fn plan(text: &str) -> Result<PlanId, String> {
    PlanId::parse(text).map_err(|error| error.to_string())
}

/// Reads a percentage below 100, with or without `%`, as parts per million.
///
/// # Errors
/// What was expected.
pub fn target(text: &str) -> Result<i32, String> {
    Money::parse(text.strip_suffix('%').unwrap_or(text))
        .ok()
        .and_then(|percent| percent.mul_ratio(10_000, Money::from_usd(1).picos()))
        .and_then(|ppm| i32::try_from(ppm.picos()).ok())
        .filter(|ppm| *ppm < 1_000_000)
        .ok_or_else(|| "expected a percentage below 100, such as 30".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_percentages_of_revenue_below_all_of_it() {
        assert_eq!(target("30"), Ok(300_000));
        assert_eq!(target("12.5%"), Ok(125_000));
        assert_eq!(target("-10"), Ok(-100_000));
        assert!(target("100").is_err() && target("a third").is_err());
    }
}
