//! How the cost of accounts is spread: buckets of equal width whose edges are round numbers, so that a person can read
//! them, with the last one open upwards.

use serde::Serialize;

use crate::margin::Row;
use crate::money::Money;

/// Accounts by what they cost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    /// What the account in the middle brought.
    pub(super) typical_revenue: Money,
    /// Ascending, without gaps.
    pub(super) buckets: Vec<Bucket>,
}

/// Accounts whose cost lies between two edges.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bucket {
    /// The lower edge, inclusive.
    from_usd: Money,
    /// The upper edge, exclusive; `None` is no edge.
    to_usd: Option<Money>,
    /// How many.
    accounts: u64,
    /// Of these, whose margin is below zero.
    loss_making_accounts: u64,
    /// What they cost together.
    cost_usd: Money,
    /// Their margins, added up.
    margin_usd: Money,
}

/// About so many buckets up to four times what an account brings: what lies beyond is one bucket.
const BUCKETS: i128 = 32;

/// Sorts accounts by cost.
pub(super) fn of(rows: &[&Row]) -> Spread {
    let typical_revenue = middle(rows.iter().map(|row| row.revenue_usd).collect());
    let most = rows
        .iter()
        .map(|row| row.cost_usd)
        .max()
        .unwrap_or_default();
    let scale = if typical_revenue > Money::ZERO {
        most.min(typical_revenue.saturating_mul(4))
    } else {
        most
    };
    let width = round_width(scale.picos() / BUCKETS + 1);
    let count = usize::try_from(scale.picos().max(0) / width + 1).unwrap_or(1);
    let edge = |at: usize| Money::from_picos(width.saturating_mul(at as i128));
    let mut buckets: Vec<Bucket> = (0..count)
        .map(|at| Bucket {
            from_usd: edge(at),
            to_usd: (at + 1 < count).then(|| edge(at + 1)),
            accounts: 0,
            loss_making_accounts: 0,
            cost_usd: Money::ZERO,
            margin_usd: Money::ZERO,
        })
        .collect();
    for row in rows {
        let at = usize::try_from(row.cost_usd.picos().max(0) / width).unwrap_or(usize::MAX);
        if let Some(bucket) = buckets.get_mut(at.min(count - 1)) {
            bucket.accounts += 1;
            bucket.loss_making_accounts += u64::from(row.margin_usd.is_negative());
            bucket.cost_usd += row.cost_usd;
            bucket.margin_usd += row.margin_usd;
        }
    }
    Spread {
        typical_revenue,
        buckets,
    }
}

/// The next of 1, 2 or 5 times a power of ten, at least a millionth of a dollar.
fn round_width(least: i128) -> i128 {
    let mut width: i128 = 1_000_000;
    let factors = [2, 5, 10];
    while width < least {
        let step = factors.iter().map(|factor| width.saturating_mul(*factor));
        match step.into_iter().find(|step| *step >= least) {
            Some(found) => return found,
            None => width = width.saturating_mul(10),
        }
    }
    width
}

fn middle(mut amounts: Vec<Money>) -> Money {
    amounts.sort_unstable();
    amounts.get(amounts.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_round() {
        let dollars = |text: &str| Money::parse(text).unwrap().picos();
        for (least, width) in [
            ("0", "0.000001"),
            ("0.3", "0.5"),
            ("1", "1"),
            ("1.01", "2"),
            ("7", "10"),
            ("25.01", "50"),
        ] {
            assert_eq!(round_width(dollars(least)), dollars(width), "{least}");
        }
    }

    #[test]
    fn no_accounts_make_one_empty_bucket() {
        let spread = of(&[]);
        assert_eq!(spread.buckets.len(), 1);
        assert_eq!(spread.typical_revenue, Money::ZERO);
    }
}
