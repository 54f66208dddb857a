//! Changes as people write them on a command line or in a query: `gpt-4o=gpt-4.5-preview`, `pro=220`,
//! `pro:cost=150/period`, `60%`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::limits::Cap;
use super::traffic::ModelMap;
use crate::config::{ConfigErrors, FixedEnvironment, prices};
use crate::ids::PlanId;
use crate::money::Money;
use crate::plan::{Amount, Measure, Window};
use crate::price::PriceTable;

/// Another upstream's prices: the text of a price file, as the configuration's `[prices]` names them. `name` stands in
/// what is said about mistakes.
///
/// # Errors
/// Every mistake.
pub fn price_table(name: &str, text: &str) -> Result<Arc<PriceTable>, ConfigErrors> {
    // It names no files and no variables: somebody else's text cannot make them be read.
    prices::table(&[(name, text)], &FixedEnvironment::default()).map(Arc::new)
}

/// What was expected of a change's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

fn expected<T>(text: &str) -> Result<T, Unreadable> {
    Err(Unreadable(text.to_owned()))
}

impl FromStr for ModelMap {
    type Err = Unreadable;
    fn from_str(text: &str) -> Result<ModelMap, Unreadable> {
        match text.split_once('=') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(ModelMap {
                from: from.to_owned(),
                to: to.to_owned(),
            }),
            _ => expected("expected MODEL=MODEL, such as gpt-4o=gpt-4.5-preview"),
        }
    }
}

/// Another price of a plan: `--price PLAN=USD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPrice {
    /// The plan.
    pub plan: PlanId,
    /// What it costs for a period, in US dollars.
    pub usd: Money,
}

impl FromStr for PlanPrice {
    type Err = Unreadable;
    fn from_str(text: &str) -> Result<PlanPrice, Unreadable> {
        let parts = text.rsplit_once('=').and_then(|(plan, usd)| {
            let usd = Money::parse(usd).ok().filter(|usd| !usd.is_negative())?;
            Some((PlanId::parse(plan).ok()?, usd))
        });
        match parts {
            Some((plan, usd)) => Ok(PlanPrice { plan, usd }),
            None => expected("expected PLAN=USD, such as pro=220.00"),
        }
    }
}

impl FromStr for Cap {
    type Err = Unreadable;
    fn from_str(text: &str) -> Result<Cap, Unreadable> {
        let parts = || {
            let (left, per) = text.rsplit_once('/')?;
            let (left, max) = left.rsplit_once('=')?;
            let (plan, on) = left.rsplit_once(':')?;
            let on = Measure::parse(on).filter(|on| *on != Measure::Concurrent)?;
            let max = match on {
                Measure::Cost => {
                    let max = Money::parse(max).ok().filter(|max| !max.is_negative())?;
                    Amount::Money(max)
                }
                _ => Amount::Count(max.parse().ok()?),
            };
            Some(Cap {
                plan: PlanId::parse(plan).ok()?,
                on,
                max,
                per: window(per)?,
            })
        };
        match parts() {
            Some(cap) => Ok(cap),
            None => expected(
                "expected PLAN:on=max/per, such as pro:cost=150/period; on is cost, tokens, input_tokens, output_tokens \
                 or requests; per is minute, hour, day, week, month, period or a duration such as 5h",
            ),
        }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Window::Rolling(length_ms) => format!("{}s", length_ms / 1_000),
            window => NAMED
                .iter()
                .find(|(_, named)| *named == window)
                .map_or_else(String::new, |(name, _)| (*name).to_owned()),
        };
        match self.max {
            Amount::Money(max) => write!(f, "{}:{}={max}/{per}", self.plan, self.on.as_str()),
            Amount::Count(max) => write!(f, "{}:{}={max}/{per}", self.plan, self.on.as_str()),
        }
    }
}

const NAMED: [(&str, Window); 6] = [
    ("minute", Window::Minute),
    ("hour", Window::Hour),
    ("day", Window::Day),
    ("week", Window::Week),
    ("month", Window::Month),
    ("period", Window::Period),
];

fn window(text: &str) -> Option<Window> {
    let named = NAMED.iter().find(|(name, _)| *name == text);
    if let Some((_, window)) = named {
        return Some(*window);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(unit_at)?;
    let unit_ms = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let length_ms = count.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (length_ms > 0).then_some(Window::Rolling(length_ms))
}

/// Reads a share between nothing and all as parts per million: `0.6` or `60%`.
///
/// # Errors
/// [`Unreadable`].
pub fn share_ppm(text: &str) -> Result<u32, Unreadable> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 10_000),
        None => (text, 1_000_000),
    };
    Money::parse(number)
        .ok()
        .and_then(|share| share.mul_ratio(scale, Money::from_usd(1).picos()))
        .and_then(|ppm| u32::try_from(ppm.picos()).ok())
        .filter(|ppm| *ppm <= 1_000_000)
        .map_or_else(|| expected("expected a share such as 0.6 or 60%"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown_the_same() {
        for text in [
            "pro:cost=150.00/period",
            "team:a:tokens=1000000/day",
            "pro:requests=40/18000s",
        ] {
            assert_eq!(text.parse::<Cap>().unwrap().to_string(), text);
        }
        let cap: Cap = "pro:requests=40/5h".parse().unwrap();
        assert_eq!(cap.per, Window::Rolling(18_000_000));
    }

    #[test]
    fn what_is_no_change_says_what_was_expected() {
        for text in [
            "pro",
            "pro:cost=150",
            "pro:cost=-1/day",
            "pro:cost=1/fortnight",
            "pro:concurrent=1/day",
            "pro:tokens=1.5/day",
            "pro:tokens=5/0h",
        ] {
            let error = text.parse::<Cap>().unwrap_err();
            assert!(error.to_string().contains("PLAN:on=max/per"), "{text}");
        }
        assert!("=b".parse::<ModelMap>().is_err());
        assert!("pro=cheap".parse::<PlanPrice>().is_err());
    }

    #[test]
    fn shares_are_decimals_or_percentages() {
        assert_eq!(share_ppm("0.6"), Ok(600_000));
        assert_eq!(share_ppm("62.5%"), Ok(625_000));
        assert!(share_ppm("1.5").is_err() && share_ppm("-0.1").is_err());
    }
}
