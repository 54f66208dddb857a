//! Which limits a request counts against: compiled once for each snapshot of accounts, read by every request.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Bound, CounterId, Owner};
use crate::account::{Directory, Key, Member};
use crate::ids::{AccountId, KeyId, PlanId};
use crate::period::Billing;
use crate::plan::{Action, Amount, Limit, ModelPattern};

/// One limit with all that is needed to hold a request to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it counts in.
    pub counter: Arc<CounterId>,
    /// The most that a window may hold.
    pub max: Amount,
    /// What happens to a request that would pass it.
    pub then: Action,
    /// Where it was written.
    pub source: RuleSource,
    /// The account at the top of the tree that this limit's account lies in.
    pub root: AccountId,
    /// The plan of the account whose limit it is; for a key's limit, of the key's account.
    pub plan: PlanId,
    /// Models that count; empty means all.
    pub models: Vec<ModelPattern>,
    /// The billing periods of that account.
    pub billing: Billing,
    /// How long a request may wait for room, in milliseconds.
    pub queue_ms: u32,
    /// Marks at which a warning is given, ascending, in parts per million of `max`. A limit that only warns has its
    /// whole maximum among them.
    pub warn_at_ppm: Vec<u32>,
    /// Whether this rule books use in its counter. Of rules that share a counter (say, a warning at 50 dollars and a
    /// stop at 100) only the first one does; all of them check it.
    pub counts: bool,
}

/// Where a limit was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleSource {
    /// In the account's plan.
    Plan,
    /// At the account itself.
    Account,
    /// At the key.
    Key,
}

impl Rule {
    /// Whether requests for a model count.
    pub fn matches(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.matches(model))
    }

    /// The least use, in the measure's units, at which a mark is reached.
    pub fn mark_units(&self, mark_ppm: u32) -> i128 {
        let scaled = self.max.units().saturating_mul(i128::from(mark_ppm));
        // Rounded up, and never zero: no use is no occasion for a warning.
        ((scaled.saturating_add(999_999)) / 1_000_000).max(1)
    }
}

type Rules = Arc<[Arc<Rule>]>;

/// The limits of all accounts and keys of one [`Directory`].
#[derive(Debug, Default)]
pub struct Chains {
    accounts: HashMap<AccountId, Arc<AccountChain>>,
    keys: HashMap<KeyId, Rules>,
}

/// What the requests of one account count against.
#[derive(Debug)]
struct AccountChain {
    lineage: Arc<[AccountId]>,
    /// The rules of the lineage's accounts, from the root down; accounts without limits have none.
    levels: Vec<Rules>,
}

/// What the requests of one account and key count against: cheap to clone.
#[derive(Clone, Debug)]
pub struct Chain {
    account: Arc<AccountChain>,
    key: Option<Rules>,
}

impl Chains {
    /// Compiles the limits of a directory.
    pub fn compile(directory: &Directory) -> Chains {
        let own: HashMap<&AccountId, Rules> = directory
            .members()
            .map(|member| (&member.account.id, account_rules(member)))
            .collect();
        let accounts = directory
            .members()
            .map(|member| {
                let levels = member.lineage.iter().filter_map(|id| own.get(id));
                let chain = AccountChain {
                    lineage: Arc::clone(&member.lineage),
                    levels: levels.filter(|rules| !rules.is_empty()).cloned().collect(),
                };
                (member.account.id.clone(), Arc::new(chain))
            })
            .collect();
        let keys = directory
            .keys()
            .filter(|key| !key.limits.is_empty())
            .filter_map(|key| {
                let member = directory.member(&key.account)?;
                Some((key.id.clone(), key_rules(key, member)))
            })
            .collect();
        Chains { accounts, keys }
    }

    /// What the requests of an account and key count against; `None` for an account that the directory does not have.
    pub fn chain(&self, account: &AccountId, key: &KeyId) -> Option<Chain> {
        Some(Chain {
            account: Arc::clone(self.accounts.get(account)?),
            key: self.keys.get(key).cloned(),
        })
    }

    /// The rules of an account and all of its ancestors, from the root down: what a report on it shows.
    pub fn account_rules(&self, account: &AccountId) -> impl Iterator<Item = &Arc<Rule>> {
        let chain = self.accounts.get(account);
        chain
            .into_iter()
            .flat_map(|chain| chain.levels.iter().flat_map(|rules| rules.iter()))
    }

    /// Every rule once, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let accounts = self.accounts.iter().flat_map(|(id, chain)| {
            let own = chain.levels.last().filter(|rules| owned_by(rules, id));
            own.into_iter().flat_map(|rules| rules.iter())
        });
        accounts.chain(self.keys.values().flat_map(|rules| rules.iter()))
    }

    /// The rules that a request of the past counts against: of the accounts and the key that it counted against then,
    /// for the model that it asked for. For rebuilding counters from the ledger.
    pub fn rules_of<'a>(
        &'a self,
        lineage: &'a [AccountId],
        key: Option<&KeyId>,
        model: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Rule>> {
        let accounts = lineage.iter().filter_map(|id| {
            let rules = self.accounts.get(id)?.levels.last()?;
            owned_by(rules, id).then_some(rules)
        });
        let key = key.and_then(|key| self.keys.get(key));
        accounts
            .chain(key)
            .flat_map(|rules| rules.iter())
            .filter(move |rule| rule.counts && rule.matches(model))
    }

    /// The counting rules whose counter and window `older` did not have at `now`: a limit that is new, or a billing
    /// period that begins on another day. Their use so far must be read from the ledger.
    pub fn new_since(&self, older: &Chains, now: Timestamp) -> Vec<Arc<Rule>> {
        let windows = |chains: &Chains| {
            chains
                .rules()
                .filter(|rule| rule.counts && rule.counter.per().is_some())
                .map(|rule| {
                    (
                        Arc::clone(&rule.counter),
                        Bound::new(rule, now).cell,
                        Arc::clone(rule),
                    )
                })
                .collect::<Vec<_>>()
        };
        let known: std::collections::HashSet<_> = windows(older)
            .into_iter()
            .map(|(counter, cell, _)| (counter, cell))
            .collect();
        windows(self)
            .into_iter()
            .filter(|(counter, cell, _)| !known.contains(&(Arc::clone(counter), *cell)))
            .map(|(_, _, rule)| rule)
            .collect()
    }
}

impl Chain {
    /// The account at the top of the tree.
    pub fn root(&self) -> Option<&AccountId> {
        self.account.lineage.first()
    }

    /// The accounts that a request counts against, from the root down.
    pub fn lineage(&self) -> &Arc<[AccountId]> {
        &self.account.lineage
    }

    /// The rules that a request for `model` counts against: from the root down, the key's own last.
    pub fn rules<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Arc<Rule>> {
        self.account
            .levels
            .iter()
            .chain(&self.key)
            .flat_map(|rules| rules.iter())
            .filter(move |rule| rule.matches(model))
    }

    /// These rules at a moment.
    pub fn bounds(&self, model: &str, now: Timestamp) -> Vec<Bound> {
        self.rules(model)
            .map(|rule| Bound::new(rule, now))
            .collect()
    }
}

fn owned_by(rules: &Rules, id: &AccountId) -> bool {
    let owner = rules.first().map(|rule| rule.counter.owner());
    matches!(owner, Some(Owner::Account(account)) if account == id)
}

fn account_rules(member: &Member) -> Rules {
    let plan = member
        .plan
        .limits
        .iter()
        .map(|limit| (limit, RuleSource::Plan));
    let own = member
        .account
        .limits
        .iter()
        .map(|limit| (limit, RuleSource::Account));
    compile(
        Owner::Account(member.account.id.clone()),
        member,
        plan.chain(own),
    )
}

fn key_rules(key: &Key, member: &Member) -> Rules {
    let limits = key.limits.iter().map(|limit| (limit, RuleSource::Key));
    compile(Owner::Key(key.id.clone()), member, limits)
}

fn compile<'a>(
    owner: Owner,
    member: &Member,
    limits: impl Iterator<Item = (&'a Limit, RuleSource)>,
) -> Rules {
    let billing = Billing {
        since: member.account.since,
        period: member.plan.period,
    };
    let root = member.lineage.first().unwrap_or(&member.account.id);
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for (limit, source) in limits {
        let mut models: Vec<String> = limit.models.iter().map(ModelPattern::pattern).collect();
        models.sort_unstable();
        models.dedup();
        let counter = CounterId::new(owner.clone(), limit.on, limit.per, models.join(",").into());
        let same = rules.iter().find(|rule| *rule.counter == counter);
        let (counter, counts) = match same {
            Some(rule) => (Arc::clone(&rule.counter), false),
            None => (Arc::new(counter), true),
        };
        let mut warn_at_ppm = limit.warn_at_ppm.clone();
        if limit.then == Action::Warn {
            warn_at_ppm.push(1_000_000);
        }
        warn_at_ppm.sort_unstable();
        warn_at_ppm.dedup();
        rules.push(Arc::new(Rule {
            counter,
            max: limit.max,
            then: limit.then.clone(),
            source,
            root: root.clone(),
            plan: member.plan.id.clone(),
            models: limit.models.clone(),
            billing,
            queue_ms: limit.queue_ms,
            warn_at_ppm,
            counts,
        }));
    }
    rules.into()
}
