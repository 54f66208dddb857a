//! Which plan each account has, and on which terms, from when on: recorded whenever it changes, so that reports split
//! revenue by time. A gateway records what it takes into force, a change by hand records itself.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::account::Directory;
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{AccountChange, AccountEvent, PlanEvent, Store, StoreError};
use crate::plan::{Account, Plan};

/// Records all that is not recorded yet of a directory that is in force from `now` on.
///
/// # Errors
/// When the store does not answer.
pub fn record(store: &dyn Store, directory: &Directory, now: Timestamp) -> Result<(), StoreError> {
    let mut terms: HashMap<PlanId, Plan> = HashMap::new();
    for event in store.plan_events()? {
        terms.insert(event.terms.id.clone(), event.terms);
    }
    let plans: Vec<PlanEvent> = directory
        .plans()
        .filter_map(|plan| plan_event(terms.get(&plan.id), plan, now))
        .collect();
    if !plans.is_empty() {
        store.add_plan_events(&plans)?;
    }
    let mut known: HashMap<AccountId, AccountChange> = HashMap::new();
    for event in store.account_events()? {
        if matches!(event.change, AccountChange::Plan { .. }) {
            known.insert(event.account, event.change);
        }
    }
    let accounts: Vec<AccountEvent> = directory
        .members()
        .filter_map(|member| {
            let account = &member.account;
            account_event(known.get(&account.id), account, now)
        })
        .collect();
    if accounts.is_empty() {
        return Ok(());
    }
    store.add_account_events(&accounts)
}

/// Records the plan of one account, unless it is the one that was recorded last.
///
/// # Errors
/// When the store does not answer.
pub(super) fn record_account(
    store: &dyn Store,
    account: &Account,
    now: Timestamp,
) -> Result<(), StoreError> {
    let known = store.account_events_of(&account.id)?;
    let mut plans = known.iter().rev().map(|event| &event.change);
    let last = plans.find(|change| matches!(change, AccountChange::Plan { .. }));
    match account_event(last, account, now) {
        Some(event) => store.add_account_events(&[event]),
        None => Ok(()),
    }
}

/// Records the terms of one plan, unless they are the ones that were recorded last.
///
/// # Errors
/// When the store does not answer.
pub(super) fn record_plan(
    store: &dyn Store,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), StoreError> {
    let known = store.plan_events()?;
    let last = known.iter().rev().find(|event| event.terms.id == plan.id);
    match plan_event(last.map(|event| &event.terms), plan, now) {
        Some(event) => store.add_plan_events(&[event]),
        None => Ok(()),
    }
}

fn account_event(
    last: Option<&AccountChange>,
    account: &Account,
    now: Timestamp,
) -> Option<AccountEvent> {
    let change = AccountChange::Plan {
        plan: account.plan.clone(),
        since: account.since,
    };
    // Its first plan holds from its first day on; a changed one from now on.
    let at = match last {
        Some(last) if *last == change => return None,
        Some(_) => now,
        None => Offset::UTC
            .to_timestamp(account.since.at(0, 0, 0, 0))
            .unwrap_or(now),
    };
    Some(AccountEvent {
        account: account.id.clone(),
        at,
        change,
    })
}

fn plan_event(last: Option<&Plan>, plan: &Plan, now: Timestamp) -> Option<PlanEvent> {
    let terms = plan.terms();
    (last != Some(&terms)).then_some(PlanEvent { at: now, terms })
}
