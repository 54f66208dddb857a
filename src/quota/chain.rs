//! Which limits a request counts against: compiled once for each snapshot of accounts, read by every request.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;

use super::{Bound, CounterId, Owner};
use crate::account::{Directory, Key, Member};
use crate::ids::{AccountId, KeyId, PlanId};
use crate::period::Billing;
use crate::plan::{Action, Amount, Limit, Measure, ModelPattern, Window};

/// One account's limit with all that is needed to hold a request to it.
///
/// What its text says lies in [`Terms`], which all accounts of a plan share: with a hundred thousand accounts, what one
/// request reads of its own limits then is a few cache lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it counts in.
    pub counter: Arc<CounterId>,
    /// What it says.
    pub terms: Arc<Terms>,
    /// The account at the top of the tree that this limit's account lies in.
    pub root: AccountId,
    /// The billing periods of that account.
    pub billing: Billing,
    /// Where counters in memory keep its counter.
    pub(super) place: Place,
}

/// What a limit says, whoever it holds for.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// What it measures.
    pub on: Measure,
    /// The window; `None` for concurrency.
    pub per: Option<Window>,
    /// The most that a window may hold.
    pub max: Amount,
    /// What happens to a request that would pass it.
    pub then: Action,
    /// Where it was written.
    pub source: RuleSource,
    /// The plan of the account whose limit it is; for a key's limit, of the key's account.
    pub plan: PlanId,
    /// Models that count; empty means all.
    pub models: Vec<ModelPattern>,
    /// How long a request may wait for room, in milliseconds.
    pub queue_ms: u32,
    /// Where warnings are given, ascending. A limit that only warns has its whole maximum among them.
    pub marks: Vec<Mark>,
    /// Whether this rule books use in its counter. Of rules that share a counter (say, a warning at 50 dollars and a
    /// stop at 100) only the first one does; all of them check it.
    pub counts: bool,
}

/// A point of a limit at which a warning is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// In parts per million of the limit's maximum.
    pub ppm: u32,
    /// The least use, in the measure's units, at which it is reached. Rounded up, and never zero: no use is no occasion
    /// for a warning.
    pub units: i128,
}

/// A number by which a keeper of counters finds a rule's counter again; it may be out of date, or another keeper's, and so
/// is only ever tried first. It is no part of what a rule says.
#[derive(Debug)]
pub(super) struct Place(AtomicU32);

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

/// A rule is read as what it says.
impl Deref for Rule {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Terms {
    /// Whether requests for a model count.
    pub fn matches(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.matches(model))
    }

    pub(super) fn is_rolling(&self) -> bool {
        matches!(self.per, Some(Window::Rolling(_)))
    }

    /// The length of a rolling window; 0 for others.
    pub(super) fn rolling_ms(&self) -> i64 {
        match self.per {
            Some(Window::Rolling(length_ms)) => i64::try_from(length_ms).unwrap_or(i64::MAX),
            _ => 0,
        }
    }
}

impl Mark {
    fn new(ppm: u32, max: Amount) -> Mark {
        let scaled = max.units().saturating_mul(i128::from(ppm));
        let units = (scaled.saturating_add(999_999) / 1_000_000).max(1);
        Mark { ppm, units }
    }
}

impl Place {
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, place: u32) {
        self.0.store(place, Ordering::Relaxed);
    }
}

impl Default for Place {
    fn default() -> Place {
        Place(AtomicU32::new(u32::MAX))
    }
}

impl Clone for Place {
    fn clone(&self) -> Place {
        Place(AtomicU32::new(self.get()))
    }
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
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
    /// The rules of the lineage's accounts, from the root down.
    rules: Box<[Arc<Rule>]>,
    /// Where the account's own begin.
    own: usize,
}

impl AccountChain {
    fn own(&self) -> &[Arc<Rule>] {
        self.rules.get(self.own..).unwrap_or_default()
    }
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
        let mut of_plans: HashMap<&PlanId, Vec<Arc<Terms>>> = HashMap::new();
        let own: HashMap<&AccountId, Vec<Arc<Rule>>> = directory
            .members()
            .map(|member| {
                let plan = &member.plan;
                let of_plan = of_plans
                    .entry(&plan.id)
                    .or_insert_with(|| terms(&plan.limits, RuleSource::Plan, &plan.id, &[]));
                (&member.account.id, account_rules(member, of_plan))
            })
            .collect();
        let accounts = directory
            .members()
            .map(|member| {
                let (id, lineage) = (&member.account.id, &member.lineage);
                let levels = lineage.iter().filter_map(|id| own.get(id));
                let rules: Box<[Arc<Rule>]> = levels.flatten().cloned().collect();
                let own = rules.len() - own.get(id).map_or(0, Vec::len);
                let lineage = Arc::clone(lineage);
                let chain = AccountChain {
                    lineage,
                    rules,
                    own,
                };
                (id.clone(), Arc::new(chain))
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
        chain.into_iter().flat_map(|chain| chain.rules.iter())
    }

    /// Every rule once, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let accounts = self.accounts.values().flat_map(|chain| chain.own());
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
        let accounts = lineage.iter().filter_map(|id| self.accounts.get(id));
        let key = key.and_then(|key| self.keys.get(key));
        accounts
            .flat_map(|chain| chain.own())
            .chain(key.into_iter().flat_map(|rules| rules.iter()))
            .filter(move |rule| rule.counts && rule.matches(model))
    }

    /// The counting rules whose counter and window `older` did not have at `now`: a limit that is new, or a billing
    /// period that begins on another day. With counters that lie by tree it is also one of an account that moved into
    /// another. Their use so far must be read from the ledger.
    pub fn new_since(&self, older: &Chains, by_tree: bool, now: Timestamp) -> Vec<Arc<Rule>> {
        let counting = |chains: &'_ Chains| -> Vec<Arc<Rule>> {
            let counts = |rule: &&Arc<Rule>| rule.counts && rule.counter.per().is_some();
            chains.rules().filter(counts).cloned().collect()
        };
        let place = |rule: &Arc<Rule>| {
            let root = by_tree.then(|| rule.root.clone());
            (Arc::clone(&rule.counter), Bound::new(rule, now).cell, root)
        };
        let known: HashSet<_> = counting(older).iter().map(place).collect();
        let mut new = counting(self);
        new.retain(|rule| !known.contains(&place(rule)));
        new
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
        let of_key = self.key.iter().flat_map(|rules| rules.iter());
        self.account
            .rules
            .iter()
            .chain(of_key)
            .filter(move |rule| rule.matches(model))
    }

    /// These rules at a moment.
    pub fn bounds(&self, model: &str, now: Timestamp) -> Vec<Bound> {
        let most = self.account.rules.len() + self.key.as_ref().map_or(0, |rules| rules.len());
        let mut bounds = Vec::with_capacity(most);
        bounds.extend(self.rules(model).map(|rule| Bound::new(rule, now)));
        bounds
    }
}

/// The plan's terms come first; the account's own follow.
fn account_rules(member: &Member, of_plan: &[Arc<Terms>]) -> Vec<Arc<Rule>> {
    let account = &member.account;
    let own = terms(
        &account.limits,
        RuleSource::Account,
        &member.plan.id,
        of_plan,
    );
    let owner = Owner::Account(account.id.clone());
    rules(&owner, member, of_plan.iter().chain(&own))
}

fn key_rules(key: &Key, member: &Member) -> Rules {
    let terms = terms(&key.limits, RuleSource::Key, &member.plan.id, &[]);
    rules(&Owner::Key(key.id.clone()), member, terms.iter()).into()
}

/// What limits say. `before` are those of the same owner that were compiled before: they may count already.
fn terms(
    limits: &[Limit],
    source: RuleSource,
    plan: &PlanId,
    before: &[Arc<Terms>],
) -> Vec<Arc<Terms>> {
    let mut all = before.to_vec();
    for limit in limits {
        let mut models = limit.models.clone();
        models.sort_unstable_by_key(ModelPattern::pattern);
        models.dedup();
        let mut warn_at_ppm = limit.warn_at_ppm.clone();
        if limit.then == Action::Warn {
            warn_at_ppm.push(1_000_000);
        }
        warn_at_ppm.sort_unstable();
        warn_at_ppm.dedup();
        let marks = warn_at_ppm.iter().map(|ppm| Mark::new(*ppm, limit.max));
        let same = |other: &Arc<Terms>| {
            (other.on, other.per, &other.models) == (limit.on, limit.per, &models)
        };
        all.push(Arc::new(Terms {
            counts: !all.iter().any(same),
            on: limit.on,
            per: limit.per,
            max: limit.max,
            then: limit.then.clone(),
            source,
            plan: plan.clone(),
            queue_ms: limit.queue_ms,
            marks: marks.collect(),
            models,
        }));
    }
    all.split_off(before.len())
}

fn rules<'a>(
    owner: &Owner,
    member: &Member,
    terms: impl Iterator<Item = &'a Arc<Terms>>,
) -> Vec<Arc<Rule>> {
    let billing = Billing {
        since: member.account.since,
        period: member.plan.period,
    };
    let root = member.lineage.first().unwrap_or(&member.account.id);
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for terms in terms {
        let models: Vec<String> = terms.models.iter().map(ModelPattern::pattern).collect();
        let models = models.join(",").into();
        let counter = CounterId::new(owner.clone(), terms.on, terms.per, models);
        let same = rules.iter().find(|rule| *rule.counter == counter);
        let counter = same.map_or_else(|| Arc::new(counter), |rule| Arc::clone(&rule.counter));
        rules.push(Arc::new(Rule {
            counter,
            terms: Arc::clone(terms),
            root: root.clone(),
            billing,
            place: Place::default(),
        }));
    }
    rules
}
