//! How long the conversations are that a provider keeps: a request that continues one is billed for all of it, though its
//! body does not show it (OpenAI, "Conversation state", seen 2026-05).

use std::sync::{Mutex, PoisonError};

use crate::hash::HashMap;

/// Turns kept in mind, twice: when so many have come, those before them are the older half, and the older half is forgotten.
const KEPT: usize = 25_000;

/// The tokens of conversations up to a turn, by what that turn is continued with: the id of its response, or of the
/// conversation.
#[derive(Debug, Default)]
pub struct Conversations(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    latest: HashMap<Box<str>, u64>,
    older: HashMap<Box<str>, u64>,
}

impl Conversations {
    /// Notes how many tokens a conversation has, its last answer included.
    pub fn note(&self, id: &str, tokens: u64) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.latest.len() >= KEPT && !turns.latest.contains_key(id) {
            turns.older = std::mem::take(&mut turns.latest);
        }
        turns.latest.insert(id.into(), tokens);
    }

    /// How many tokens come before a request that continues from `id`; 0 where that is not known: another gateway had
    /// that turn, or it was long ago.
    pub fn tokens_before(&self, id: Option<&str>) -> u64 {
        let Some(id) = id else { return 0 };
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = turns.latest.get(id).or_else(|| turns.older.get(id));
        known.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_turns_are_kept_and_their_number_is_bounded() {
        let conversations = Conversations::default();
        let id = |number: usize| format!("resp_{number}");
        for number in 0..5 * KEPT {
            conversations.note(&id(number), number as u64);
        }
        conversations.note(&id(5 * KEPT - 1), 7);
        let before = |number| conversations.tokens_before(Some(&id(number)));
        assert_eq!(before(5 * KEPT - 1), 7);
        assert_eq!(before(4 * KEPT), 4 * KEPT as u64);
        assert_eq!((before(1), conversations.tokens_before(None)), (0, 0));
        let turns = conversations.0.lock().unwrap();
        assert!(turns.latest.len() + turns.older.len() <= 2 * KEPT);
    }
}
