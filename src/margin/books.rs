//! Who had which plan when: the accounts' side of the books, from the directory and the account events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::civil::Date;

use super::MarginError;
use super::days::midnight_ms;
use super::tenure::Tenure;
use super::terms::{self, PlanHistory, RecordedTerms};
use crate::config::{Config, Currency};
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{AccountChange, AccountEvent, Store};
use crate::money::Money;
use crate::period::{Billing, WindowSpan};
use crate::plan::{Account, Plan};

/// Plans, accounts and what happened to them: all that revenue depends on.
#[derive(Clone, Debug, Default)]
pub struct Books {
    accounts: Vec<AccountBook>,
    plans: HashMap<PlanId, PlanHistory>,
    notes: Vec<String>,
}

/// One account's history.
#[derive(Clone, Debug)]
pub struct AccountBook {
    /// Its name.
    pub id: AccountId,
    /// Facts about it, for reports by tag.
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// The plans that it had, in order of time, without overlap.
    pub tenures: Vec<Tenure>,
    /// What it was paid back, with the moment (milliseconds since 1970).
    pub refunds: Vec<(i64, Money)>,
    /// From when it was on which plan, in order of time; never empty. A plan that it left on its first day, or whose
    /// terms nobody knows any more, is here and in no tenure: what was paid back for it counts all the same.
    plans: Vec<(i64, PlanId)>,
}

impl Books {
    /// Puts the history of every account together.
    ///
    /// An account without events has had its present plan since its `since`. The first plan holds from its `since`, a
    /// later one from the moment of the change (or from its own `since`, if that lies later); an event that changes
    /// neither plan nor `since` says nothing. The account's `until` ends everything. Where a plan's terms changed, what is
    /// earned is split at that moment. An account that left its file keeps what it paid until a gateway saw it gone, in
    /// its plan's currency.
    ///
    /// # Errors
    /// [`MarginError::NoRate`] when a plan is priced in a currency without a rate table.
    pub fn new(
        plans: impl IntoIterator<Item = impl Into<PlanHistory>>,
        accounts: impl IntoIterator<Item = Account>,
        events: &[AccountEvent],
        currencies: &[Currency],
    ) -> Result<Books, MarginError> {
        let plans: HashMap<PlanId, PlanHistory> = plans
            .into_iter()
            .map(Into::into)
            .map(|plan: PlanHistory| (plan.present().id.clone(), plan))
            .collect();
        let rates: HashMap<&str, Arc<Currency>> = currencies
            .iter()
            .map(|currency| (&*currency.code, Arc::new(currency.clone())))
            .collect();
        let mut by_account: HashMap<&AccountId, Vec<&AccountEvent>> = HashMap::new();
        for event in events {
            by_account.entry(&event.account).or_default().push(event);
        }
        let mut books = Books {
            plans,
            ..Books::default()
        };
        for account in accounts {
            let mut events = by_account.remove(&account.id).unwrap_or_default();
            events.sort_by_key(|event| event.at);
            let book = books.history(account, &events, &rates)?;
            books.accounts.push(book);
        }
        for (id, mut events) in by_account {
            events.sort_by_key(|event| event.at);
            if let Some(account) = books.gone(id, &events) {
                let book = books.history(account, &events, &rates)?;
                books.accounts.push(book);
            }
        }
        books.accounts.sort_by(|a, b| a.id.cmp(&b.id));
        books.notes.sort();
        books.notes.dedup();
        Ok(books)
    }

    /// The books of the accounts and plans of a configuration and a store. What the file declares comes before what the
    /// store has of the same name.
    ///
    /// # Errors
    /// See [`MarginError`].
    pub fn read(config: &Config, store: &dyn Store) -> Result<Books, MarginError> {
        let stored = store.stored()?;
        let plans = stored.plans.into_iter().chain(config.plans.iter().cloned());
        let known: HashSet<&AccountId> =
            config.accounts.iter().map(|account| &account.id).collect();
        let others = stored
            .accounts
            .into_iter()
            .filter(|account| !known.contains(&account.id));
        let accounts = config.accounts.iter().cloned().chain(others);
        let mut terms = RecordedTerms::default();
        store.plan_events(&mut |event| terms.add(event))?;
        Books::new(
            PlanHistory::of(plans, terms),
            accounts,
            &store.account_events()?,
            &config.currencies,
        )
    }

    /// All accounts, by name.
    pub fn accounts(&self) -> &[AccountBook] {
        &self.accounts
    }

    /// The history of an account.
    pub fn account(&self, id: &AccountId) -> Option<&AccountBook> {
        let position = self
            .accounts
            .binary_search_by(|book| book.id.cmp(id))
            .ok()?;
        self.accounts.get(position)
    }

    /// The plan of that name, as it stands now.
    pub fn plan(&self, plan: &str) -> Option<&Arc<Plan>> {
        self.plans.get(plan).map(PlanHistory::present)
    }

    /// What a reader of the figures should know: plans and accounts that no longer exist, and left no end.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The same books with another price of one plan, in US dollars, as if it had always been that.
    ///
    /// # Errors
    /// [`MarginError::NoSuchPlan`].
    pub fn with_price(&self, plan: &PlanId, price: Money) -> Result<Books, MarginError> {
        let old = self
            .plans
            .get(plan)
            .ok_or_else(|| MarginError::NoSuchPlan(plan.clone()))?;
        let mut books = self.clone();
        // Accounts share their terms, which `self` keeps where they are.
        let mut known: HashMap<*const Plan, Arc<Plan>> = HashMap::new();
        for tenure in books.accounts.iter_mut().flat_map(|book| &mut book.tenures) {
            if tenure.plan.id == *plan {
                let repriced = known
                    .entry(Arc::as_ptr(&tenure.plan))
                    .or_insert_with(|| Arc::new(terms::priced(&tenure.plan, price)));
                tenure.plan = Arc::clone(repriced);
                tenure.currency = None;
            }
        }
        books.plans.insert(plan.clone(), old.with_price(price));
        Ok(books)
    }

    /// An account that is in no file and no store any more, as its events have it; `None` where they do not say when it
    /// ended, which is noted.
    fn gone(&mut self, id: &AccountId, events: &[&AccountEvent]) -> Option<Account> {
        let mut changes = events.iter().rev().map(|event| &event.change);
        let (plan, since) = changes.clone().find_map(|change| match change {
            AccountChange::Plan { plan, since } => Some((plan.clone(), *since)),
            AccountChange::Closed | AccountChange::Refund(_) => None,
        })?;
        let last = changes.find(|change| !matches!(change, AccountChange::Refund(_)));
        if last != Some(&AccountChange::Closed) {
            self.notes.push(format!(
                "account {id} is no longer configured, and nothing says when it ended: what it paid is not in the revenue; \
                 declare it again, with its last day as `until`"
            ));
            return None;
        }
        Some(Account {
            id: id.clone(),
            plan,
            parent: None,
            since,
            until: None,
            name: None,
            currency: None,
            tags: Vec::new(),
            limits: Vec::new(),
        })
    }

    fn history(
        &mut self,
        account: Account,
        events: &[&AccountEvent],
        rates: &HashMap<&str, Arc<Currency>>,
    ) -> Result<AccountBook, MarginError> {
        let mut turns = Turns::default();
        let mut refunds = Vec::new();
        for event in events {
            let at = event.at.as_millisecond();
            match &event.change {
                AccountChange::Plan { plan, since } => turns.plan(at, plan, *since),
                AccountChange::Refund(amount) => refunds.push((at, *amount)),
                AccountChange::Closed => turns.close(at),
            }
        }
        if turns.all.is_empty() {
            turns.plan(i64::MIN, &account.plan, account.since);
            if let Some(closed) = events
                .iter()
                .rev()
                .find(|event| event.change == AccountChange::Closed)
            {
                turns.close(closed.at.as_millisecond());
            }
        }
        let end = account.until.map_or(i64::MAX, midnight_ms);
        let mut tenures = Vec::with_capacity(turns.all.len());
        let mut on_plans: Vec<(i64, PlanId)> = Vec::with_capacity(turns.all.len());
        for turn in turns.all {
            if on_plans.is_empty() || turn.from < turn.to.min(end) {
                on_plans.push((turn.from, turn.plan.clone()));
            }
            let Some(plan) = self.plans.get(&turn.plan) else {
                self.notes.push(format!(
                    "plan {} no longer exists: what accounts paid for it is unknown and not in the revenue",
                    turn.plan
                ));
                continue;
            };
            let span = WindowSpan {
                start_ms: turn.from,
                end_ms: turn.to.min(end),
            };
            for held in plan.within(span) {
                tenures.push(Tenure {
                    currency: currency(held.terms, account.currency.as_ref(), rates)?,
                    plan: Arc::clone(held.terms),
                    billing: Billing {
                        since: turn.since,
                        period: held.terms.period,
                    },
                    span: held.span,
                    renewed: held.renewed,
                });
            }
        }
        Ok(AccountBook {
            id: account.id,
            tags: account.tags,
            tenures,
            refunds,
            plans: on_plans,
        })
    }
}

/// The rates of the currency in which an account pays; its own comes before the plan's.
fn currency(
    plan: &Plan,
    own: Option<&Arc<str>>,
    rates: &HashMap<&str, Arc<Currency>>,
) -> Result<Option<Arc<Currency>>, MarginError> {
    let code = own.unwrap_or(&plan.currency);
    if &**code == "USD" || plan.price == Money::ZERO {
        return Ok(None);
    }
    match rates.get(&**code) {
        Some(currency) => Ok(Some(Arc::clone(currency))),
        None => Err(MarginError::NoRate {
            plan: plan.id.clone(),
            currency: Arc::clone(code),
        }),
    }
}

impl AccountBook {
    /// The stretches of time in which it had a plan.
    pub fn tenures_on<'a>(&'a self, plan: &'a str) -> impl Iterator<Item = &'a Tenure> {
        self.tenures
            .iter()
            .filter(move |tenure| tenure.plan.id.as_str() == plan)
    }

    /// The plan that it had at a moment, or last before it.
    pub fn plan_at(&self, at_ms: i64) -> Option<&str> {
        self.plans
            .iter()
            .rev()
            .find(|(from_ms, _)| *from_ms <= at_ms)
            .or(self.plans.first())
            .map(|(_, plan)| plan.as_str())
    }

    /// What it had paid until a moment for the plans that it had, refunds not taken off. `None` where a plan charges for
    /// use beyond its quota: only the ledger knows what that came to.
    pub fn paid_until(&self, at_ms: i64) -> Option<Money> {
        let so_far = WindowSpan {
            start_ms: i64::MIN,
            end_ms: at_ms.saturating_add(1),
        };
        self.tenures
            .iter()
            .map(|tenure| {
                let known = tenure.plan.overage.is_none();
                known.then(|| tenure.payments(so_far).sum())
            })
            .sum()
    }
}

/// Plans in the order in which an account had them.
#[derive(Default)]
struct Turns {
    all: Vec<Turn>,
    open: bool,
}

struct Turn {
    plan: PlanId,
    since: Date,
    from: i64,
    to: i64,
}

impl Turns {
    fn plan(&mut self, at: i64, plan: &PlanId, since: Date) {
        let start = midnight_ms(since);
        let from = match self.all.last_mut() {
            None => start,
            Some(last) if self.open && last.plan == *plan && last.since == since => return,
            Some(last) => {
                let from = at.max(start).max(last.from);
                if self.open {
                    last.to = from;
                }
                from.max(last.to)
            }
        };
        self.all.push(Turn {
            plan: plan.clone(),
            since,
            from,
            to: i64::MAX,
        });
        self.open = true;
    }

    fn close(&mut self, at: i64) {
        if let Some(last) = self.all.last_mut().filter(|_| self.open) {
            last.to = at.max(last.from);
            self.open = false;
        }
    }
}
