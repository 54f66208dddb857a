//! The share of a slot that its limits let through, of money, tokens and requests.

use crate::money::Money;

/// `served / whole` of a slot, less than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) served: i128,
    pub(super) whole: i128,
}

/// Parts of a request, of [`WHOLE`].
pub(super) type Parts = u64;

/// A request in parts.
pub(super) const WHOLE: Parts = 1 << 40;

impl Share {
    /// Whether it is the tighter one.
    pub(super) fn is_less_than(self, other: Share) -> bool {
        // Cost shares are in pico-dollars: cross products of two slots could leave 128 bits, so they are compared at 2⁻⁶⁰.
        let scaled = |share: Share| {
            let unit = 1_i128 << 60;
            share.served.checked_mul(unit).map_or_else(
                || share.served / (share.whole / unit).max(1),
                |product| product / share.whole.max(1),
            )
        };
        scaled(self) < scaled(other)
    }

    pub(super) fn of_money(self, money: Money) -> Money {
        money
            .mul_ratio(self.served, self.whole)
            .unwrap_or(Money::ZERO)
    }

    pub(super) fn of_count(self, count: u64) -> u64 {
        let served = i128::from(count).saturating_mul(self.served) / self.whole.max(1);
        u64::try_from(served).unwrap_or(0)
    }

    /// Whole requests, and the parts of one that are left.
    pub(super) fn of_requests(self, requests: u64) -> (u64, Parts) {
        let whole = self.whole.max(1);
        let served = i128::from(requests).saturating_mul(self.served);
        let parts = (served % whole).saturating_mul(i128::from(WHOLE)) / whole;
        (
            u64::try_from(served / whole).unwrap_or(0),
            Parts::try_from(parts).unwrap_or(0).min(WHOLE - 1),
        )
    }
}
