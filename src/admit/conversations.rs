//! The conversations that providers keep: which upstream has one, and how long it is. A request that continues one is billed
//! for all of it, though its body does not show it (OpenAI, "Conversation state", seen 2026-05), and no other upstream knows it.

use std::sync::{Mutex, PoisonError};

use crate::hash::HashMap;
use crate::ids::{AccountId, UpstreamId};

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

/// A conversation up to a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its tokens; 0 where they are not known: it has not ended yet, or reported none.
    pub tokens: u64,
    /// Who keeps it.
    pub upstream: UpstreamId,
}

/// The latest turns of conversations.
#[derive(Debug, Default)]
pub struct Conversations(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    latest: HashMap<TurnId, Turn>,
    older: HashMap<TurnId, Turn>,
}

impl Conversations {
    /// Notes a turn, its last answer included.
    pub fn note(&self, id: TurnId, turn: Turn) {
        let mut forgotten = HashMap::default();
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.latest.len() >= KEPT && !turns.latest.contains_key(&id) {
            let older = std::mem::take(&mut turns.latest);
            forgotten = std::mem::replace(&mut turns.older, older);
        }
        turns.latest.insert(id, turn);
        // They are many: not while others wait.
        drop(turns);
        drop(forgotten);
    }

    /// The turn that a request continues or asks for. `None` where it is not known: another gateway had it, or it was long
    /// ago.
    pub fn turn(&self, id: &TurnId) -> Option<Turn> {
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = turns.latest.get(id).or_else(|| turns.older.get(id));
        known.cloned()
    }

    /// How many tokens come before a request that continues a turn; 0 where that is not known.
    pub fn tokens_before(&self, id: &TurnId) -> u64 {
        self.turn(id).map_or(0, |turn| turn.tokens)
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
        let kept = |tokens: usize| Turn {
            tokens: tokens as u64,
            upstream: "openai".into(),
        };
        for number in 0..5 * KEPT {
            conversations.note(turn("a", number), kept(number));
        }
        conversations.note(turn("a", 5 * KEPT - 1), kept(7));
        let before = |account, number| conversations.tokens_before(&turn(account, number));
        assert_eq!(before("a", 5 * KEPT - 1), 7);
        assert_eq!(before("a", 4 * KEPT), 4 * KEPT as u64);
        assert_eq!(before("a", 1), 0, "long ago");
        assert_eq!(before("b", 5 * KEPT - 1), 0, "another account's");
        let turns = conversations.0.lock().unwrap();
        assert!(turns.latest.len() + turns.older.len() <= 2 * KEPT);
    }
}
