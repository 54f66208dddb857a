//! How long the conversations are that a provider keeps: a request that continues one is billed for all of it, though its
//! body does not show it (OpenAI, "Conversation state", seen 2026-05).

use std::sync::{Mutex, PoisonError};

use crate::hash::HashMap;
use crate::ids::AccountId;

/// Turns kept in mind, twice: when so many have come, those before them are the older half, and the older half is forgotten.
const KEPT: usize = 25_000;

/// What a turn is continued with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TurnId {
    /// Whose turn it was: what others say of an id is not to count.
    pub account: AccountId,
    /// The id of its response, or of the conversation.
    pub id: Box<str>,
}

/// The tokens of conversations up to a turn.
#[derive(Debug, Default)]
pub struct Conversations(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    latest: HashMap<TurnId, u64>,
    older: HashMap<TurnId, u64>,
}

impl Conversations {
    /// Notes how many tokens a conversation has, its last answer included.
    pub fn note(&self, turn: TurnId, tokens: u64) {
        let mut forgotten = HashMap::default();
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.latest.len() >= KEPT && !turns.latest.contains_key(&turn) {
            let older = std::mem::take(&mut turns.latest);
            forgotten = std::mem::replace(&mut turns.older, older);
        }
        turns.latest.insert(turn, tokens);
        // They are many: not while others wait.
        drop(turns);
        drop(forgotten);
    }

    /// How many tokens come before a request that continues a turn; 0 where that is not known: another gateway had it, it did
    /// not report its usage, or it was long ago.
    pub fn tokens_before(&self, turn: &TurnId) -> u64 {
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = turns.latest.get(turn).or_else(|| turns.older.get(turn));
        known.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_turns_are_kept_and_their_number_is_bounded() {
        let conversations = Conversations::default();
        let turn = |account: &str, number: usize| TurnId {
            account: account.into(),
            id: format!("resp_{number}").into(),
        };
        for number in 0..5 * KEPT {
            conversations.note(turn("a", number), number as u64);
        }
        conversations.note(turn("a", 5 * KEPT - 1), 7);
        let before = |account, number| conversations.tokens_before(&turn(account, number));
        assert_eq!(before("a", 5 * KEPT - 1), 7);
        assert_eq!(before("a", 4 * KEPT), 4 * KEPT as u64);
        assert_eq!(before("a", 1), 0, "long ago");
        assert_eq!(before("b", 5 * KEPT - 1), 0, "another account's");
        let turns = conversations.0.lock().unwrap();
        assert!(turns.latest.len() + turns.older.len() <= 2 * KEPT);
    }
}
