//! How much output requests without a stated maximum have needed: by account and model.

use std::sync::{Mutex, PoisonError};

use crate::hash::HashMap;
use crate::ids::{AccountId, ModelName};

/// Whose habit: an account's requests to a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Habit {
    /// The account.
    pub account: AccountId,
    /// The model.
    pub model: ModelName,
}

/// What is assumed of an account's first requests to a model, in output tokens.
pub(super) const FIRST: u64 = 2048;

/// The least that is reserved of an answer whose size is not known.
pub(super) const LEAST: u64 = 256;

/// Accounts and models kept in mind; the map starts anew when it is full, which costs only estimates.
const KEPT: usize = 50_000;
/// Counts are halved when one reaches this, so that the latest weeks weigh most.
const WEIGHT: u16 = 1000;
/// Buckets by powers of two.
const BUCKETS: usize = 24;

/// How often answers of each size came, by powers of two.
type Sizes = [u16; BUCKETS];

/// Sizes of answers by account and model.
#[derive(Debug, Default)]
pub struct Habits(Mutex<HashMap<Habit, Sizes>>);

impl Habits {
    /// Notes the size of an answer in output tokens.
    pub fn note(&self, habit: &Habit, output_tokens: u64) {
        let mut habits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !habits.contains_key(habit) {
            if habits.len() >= KEPT {
                habits.clear();
            }
            habits.insert(habit.clone(), [0; BUCKETS]);
        }
        let Some(sizes) = habits.get_mut(habit) else {
            return;
        };
        let bucket = (u64::BITS - output_tokens.leading_zeros()) as usize;
        if let Some(count) = sizes.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
            if *count >= WEIGHT {
                sizes.iter_mut().for_each(|count| *count /= 2);
            }
        }
    }

    /// What 98 of 100 answers needed, rounded up to a power of two and never below `LEAST`; `None` without enough of them.
    pub fn usual(&self, habit: &Habit) -> Option<u64> {
        let habits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = habits.get(habit)?;
        let all: u32 = sizes.iter().map(|count| u32::from(*count)).sum();
        if all < 5 {
            return None;
        }
        let mut within = 0;
        let bucket = sizes.iter().position(|count| {
            within += u32::from(*count);
            within * 50 >= all * 49
        })?;
        Some((1_u64 << bucket.min(BUCKETS - 1)).max(LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_is_a_bound_that_nearly_all_answers_kept() {
        let habits = Habits::default();
        let habit = Habit {
            account: "a".into(),
            model: "m".into(),
        };
        assert_eq!(habits.usual(&habit), None);
        for _ in 0..99 {
            habits.note(&habit, 700);
        }
        habits.note(&habit, 100_000);
        assert_eq!(habits.usual(&habit), Some(1024));
    }
}
