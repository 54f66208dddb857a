//! How limits stand: what is used, what is held, when they reset. The list of `weir limits` and of the admin API.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::account::Directory;
use crate::config::spoken;
use crate::ids::{AccountId, KeyId};
use crate::quota::chain::{Chains, Rule};
use crate::quota::{Bound, CounterState, Owner};

/// One limit of an account, or of one of its keys, in its present window.
#[derive(Clone, Debug, Serialize)]
pub struct LimitState {
    /// Whose limit it is, or whose key's.
    pub account: Option<AccountId>,
    /// The key that it holds for; without, it holds for the account.
    pub key: Option<KeyId>,
    /// What it measures.
    pub on: &'static str,
    /// Its window; `None` for concurrency.
    pub per: Option<String>,
    /// The only models that count; all if there are none.
    pub models: Vec<String>,
    /// The most that it allows: money as a decimal string, else a count. `used` and `reserved` likewise.
    pub max: Value,
    /// What was used in this window.
    pub used: Value,
    /// What open requests hold.
    pub reserved: Value,
    /// When the window ends.
    pub resets_at: Option<Timestamp>,
}

impl LimitState {
    /// A limit with what its counter holds.
    pub fn new(
        directory: &Directory,
        rule: &Arc<Rule>,
        state: &CounterState,
        now: Timestamp,
    ) -> LimitState {
        let (counter, on) = (&rule.counter, rule.counter.on());
        let (account, key) = match counter.owner() {
            Owner::Account(account) => (Some(account.clone()), None),
            Owner::Key(key) => {
                let own = directory.keys().find(|known| known.id == *key);
                (own.map(|own| own.account.clone()), Some(key.clone()))
            }
        };
        let models = counter.models().split(',');
        let end_ms = Bound::new(rule, now).window.end_ms;
        LimitState {
            account,
            key,
            on: on.as_str(),
            per: counter.per().map(|per| per.to_string()),
            models: models
                .filter(|model| !model.is_empty())
                .map(str::to_owned)
                .collect(),
            max: spoken::show_amount(rule.max),
            used: spoken::show_units(on, state.used),
            reserved: spoken::show_units(on, state.reserved),
            resets_at: counter
                .per()
                .and_then(|_| Timestamp::from_millisecond(end_ms).ok()),
        }
    }
}

/// The limits of all accounts and keys, or those that the requests of one account count against, each with a name that
/// gives them an order: several limits may share a counter.
pub fn named(chains: &Chains, account: Option<&AccountId>) -> Vec<(String, Arc<Rule>)> {
    let name = |rule: &Arc<Rule>| {
        let name = format!("{} {} {:?}", rule.counter, rule.max.units(), rule.then);
        (name, Arc::clone(rule))
    };
    let mut rules: Vec<_> = match account {
        None => chains.rules().map(name).collect(),
        Some(account) => chains.account_rules(account).map(name).collect(),
    };
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    rules
}
