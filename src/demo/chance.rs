//! Chance that repeats: the same seed, subscriber and day always give the same draws, whatever was drawn before.
//!
//! Floats are allowed here: they make counts of tokens and moments, never money.

/// A source of draws.
#[derive(Clone, Debug)]
pub(super) struct Chance(fastrand::Rng);

impl Chance {
    /// The draws of one subscriber on one day.
    pub(super) fn of(seed: u64, subscriber: u64, day: u64) -> Chance {
        let mixed = mix(mix(mix(seed) ^ subscriber) ^ day);
        Chance(fastrand::Rng::with_seed(mixed))
    }

    /// From 0 inclusive to 1 exclusive.
    pub(super) fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// A whole number below `end`; 0 where that is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.0.u64(0..end) }
    }

    /// Whether a thing happens that happens so often in a thousand.
    pub(super) fn permille(&mut self, often: u32) -> bool {
        self.0.u32(0..1000) < often
    }

    /// Log-normal: half of all draws lie below the median, a few far above it.
    pub(super) fn around(&mut self, median: f64, spread: f64) -> f64 {
        median * (spread * self.normal()).exp()
    }

    /// Poisson: how many of many rare things happen.
    pub(super) fn count(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let end = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > end {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// One of several, each as likely as its weight says; `None` where all weights are 0.
    pub(super) fn pick<'a, T>(&mut self, weighted: &'a [(u32, T)]) -> Option<&'a T> {
        let total: u64 = weighted.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut rest = self.below(total);
        weighted.iter().find_map(|(weight, one)| {
            let weight = u64::from(*weight);
            if rest < weight {
                return Some(one);
            }
            rest -= weight;
            None
        })
    }

    /// Bytes for an id.
    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// The finaliser of SplitMix64: neighbouring seeds give unrelated streams.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_subscriber_and_day_give_the_same_draws_and_others_do_not() {
        let draws = |seed, subscriber, day| -> Vec<u64> {
            let mut chance = Chance::of(seed, subscriber, day);
            (0..8).map(|_| chance.below(1_000_000)).collect()
        };
        assert_eq!(draws(1, 2, 3), draws(1, 2, 3));
        for other in [
            draws(2, 2, 3),
            draws(1, 3, 3),
            draws(1, 2, 4),
            draws(1, 3, 2),
        ] {
            assert_ne!(draws(1, 2, 3), other);
        }
    }

    #[test]
    fn counts_and_sizes_lie_round_their_means_and_medians() {
        let mut chance = Chance::of(7, 0, 0);
        for mean in [0.0, 0.5, 12.0, 300.0] {
            let total: u64 = (0..2000).map(|_| chance.count(mean)).sum();
            let drawn = total as f64 / 2000.0;
            assert!((drawn - mean).abs() <= 0.1 + mean * 0.05, "{mean}: {drawn}");
        }
        let below = (0..2000)
            .filter(|_| chance.around(500.0, 1.0) < 500.0)
            .count();
        assert!((900..1100).contains(&below), "{below}");
    }

    #[test]
    fn weights_are_kept_and_nothing_is_picked_of_nothing() {
        let mut chance = Chance::of(7, 0, 0);
        let weighted = [(9, 'a'), (0, 'b'), (1, 'c')];
        let picked: Vec<char> = (0..1000)
            .filter_map(|_| chance.pick(&weighted).copied())
            .collect();
        assert_eq!(picked.len(), 1000);
        assert!(!picked.contains(&'b'));
        let often = picked.iter().filter(|one| **one == 'a').count();
        assert!((850..950).contains(&often), "{often}");
        assert_eq!(chance.pick(&[(0, 'x')]), None);
    }
}
