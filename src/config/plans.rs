//! `[[plans]]`, their limits, and `[[currencies]]`.

use std::sync::Arc;

use jiff::civil::Date;

use crate::money::Money;

/// What a currency is worth, day by day. US dollars need no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency {
    /// The ISO 4217 code, upper case.
    pub code: Arc<str>,
    /// Its rates, ascending by day, at least one.
    pub rates: Vec<ExchangeRate>,
}

/// An exchange rate from a day on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// The first day (UTC) on which it holds.
    pub from: Date,
    /// What one unit of the currency costs in US dollars, above zero.
    pub usd: Money,
}

impl Currency {
    /// What one unit costs in US dollars on a day; days before the first rate have the first.
    pub fn usd_on(&self, day: Date) -> Option<Money> {
        self.rates
            .iter()
            .rev()
            .find(|rate| rate.from <= day)
            .or(self.rates.first())
            .map(|rate| rate.usd)
    }
}
