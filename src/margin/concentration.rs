//! How unevenly cost is spread over accounts.

use serde::Serialize;

use super::ratio::ratio;
use crate::money::Money;

/// The share of cost of the heaviest accounts, and the Gini coefficient: 0 when all cost the same, towards 1 when one
/// costs everything. Accounts that cost nothing count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Concentration {
    /// The heaviest hundredth (at least one account).
    pub top_1_percent: Option<String>,
    /// The heaviest twentieth.
    pub top_5_percent: Option<String>,
    /// The heaviest tenth.
    pub top_10_percent: Option<String>,
    /// The Gini coefficient.
    pub gini: Option<String>,
}

impl Concentration {
    /// Of these accounts' costs, in any order. All members are `None` where nothing was spent.
    pub fn of(mut costs: Vec<Money>) -> Concentration {
        costs.sort_unstable_by(|a, b| b.cmp(a));
        let total: Money = costs.iter().copied().sum();
        let top = |percent: usize| {
            let heaviest = (costs.len() * percent).div_ceil(100);
            ratio(costs.iter().take(heaviest).copied().sum(), total)
        };
        Concentration {
            top_1_percent: top(1),
            top_5_percent: top(5),
            top_10_percent: top(10),
            gini: gini(&costs, total),
        }
    }
}

/// `Σ (2i − n − 1) xᵢ / (n Σ x)` over the costs in ascending order, `i` from 1.
fn gini(descending: &[Money], total: Money) -> Option<String> {
    let count = i128::try_from(descending.len()).ok()?;
    let weighted = descending
        .iter()
        .rev()
        .zip(1_i128..)
        .try_fold(0_i128, |sum, (cost, i)| {
            sum.checked_add(cost.picos().checked_mul(2 * i - count - 1)?)
        })?;
    let whole = total.picos().checked_mul(count)?;
    ratio(Money::from_picos(weighted), Money::from_picos(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(amounts: &[i64]) -> Vec<Money> {
        amounts.iter().copied().map(Money::from_usd).collect()
    }

    #[test]
    fn equal_accounts_have_no_concentration() {
        let even = Concentration::of(usd(&[5; 20]));
        assert_eq!(even.gini.as_deref(), Some("0.0000"));
        assert_eq!(even.top_5_percent.as_deref(), Some("0.0500"));
        assert_eq!(even.top_10_percent.as_deref(), Some("0.1000"));
    }

    #[test]
    fn one_account_that_costs_everything_has_it_all() {
        let mut amounts = [0; 100];
        amounts[42] = 900;
        let one = Concentration::of(usd(&amounts));
        assert_eq!(one.top_1_percent.as_deref(), Some("1.0000"));
        assert_eq!(one.gini.as_deref(), Some("0.9900"));
    }

    #[test]
    fn nothing_spent_has_no_shares() {
        assert_eq!(Concentration::of(usd(&[0, 0])).gini, None);
        assert_eq!(Concentration::of(Vec::new()).top_1_percent, None);
    }
}
