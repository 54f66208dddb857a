//! Which plan each account has, and on which terms, from when on: recorded whenever it changes, so that reports split
//! revenue by time. A gateway records what it takes into force, a change by hand records itself.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::account::Directory;
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{AccountChange, AccountEvent, PlanEvent, Store, StoreError};
use crate::plan::{Account, Plan};

/// Records what is not recorded yet of a directory that comes into force at `now`. Only what it has otherwise than the
/// one that was in force before it: a gateway whose file did not change does not undo what another gateway's file did.
/// An account that the older one had and this one has not has ended: it is not known otherwise, once its file forgets it.
///
/// # Errors
/// When the store does not answer.
pub fn record(
    store: &dyn Store,
    directory: &Directory,
    older: Option<&Directory>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let plans: Vec<&Plan> = directory
        .plans()
        .map(|plan| &**plan)
        .filter(|plan| {
            let was = older.and_then(|older| older.plan(&plan.id));
            was.is_none_or(|was| was.terms() != plan.terms())
        })
        .collect();
    record_plans(store, &plans, now)?;
    let accounts: Vec<&Account> = directory
        .members()
        .map(|member| &member.account)
        .filter(|account| {
            let was = older.and_then(|older| older.member(&account.id));
            was.is_none_or(|was| {
                (&was.account.plan, was.account.since) != (&account.plan, account.since)
            })
        })
        .collect();
    let before = older.into_iter().flat_map(Directory::members);
    let gone: Vec<&AccountId> = before
        .map(|member| &member.account.id)
        .filter(|id| directory.member(id).is_none())
        .collect();
    record_accounts(store, &accounts, &gone, now)
}

fn record_accounts(
    store: &dyn Store,
    accounts: &[&Account],
    gone: &[&AccountId],
    now: Timestamp,
) -> Result<(), StoreError> {
    if accounts.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let mut known: HashMap<AccountId, AccountChange> = HashMap::new();
    for event in store.account_events()? {
        if says_plan(&event.change) {
            known.insert(event.account, event.change);
        }
    }
    let ended = gone.iter().filter(|id| {
        let last = known.get(**id);
        last.is_some_and(|last| *last != AccountChange::Closed)
    });
    let ended = ended.map(|id| AccountEvent {
        account: AccountId::clone(id),
        at: now,
        change: AccountChange::Closed,
    });
    let events: Vec<AccountEvent> = accounts
        .iter()
        .filter_map(|account| account_event(known.get(&account.id), account, now))
        .chain(ended)
        .collect();
    if events.is_empty() {
        return Ok(());
    }
    store.add_account_events(&events)
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
    let mut changes = known.iter().rev().map(|event| &event.change);
    let last = changes.find(|change| says_plan(change));
    match account_event(last, account, now) {
        Some(event) => store.add_account_events(&[event]),
        None => Ok(()),
    }
}

/// Records the terms of plans, unless they are the ones that were recorded last.
///
/// # Errors
/// When the store does not answer.
pub(super) fn record_plans(
    store: &dyn Store,
    plans: &[&Plan],
    now: Timestamp,
) -> Result<(), StoreError> {
    if plans.is_empty() {
        return Ok(());
    }
    // Only the last terms of each: a price that often changes has a long history.
    let mut known: HashMap<PlanId, Plan> = HashMap::new();
    store.plan_events(&mut |event| {
        known.insert(event.terms.id.clone(), event.terms);
    })?;
    let events: Vec<PlanEvent> = plans
        .iter()
        .filter_map(|plan| plan_event(known.get(&plan.id), plan, now))
        .collect();
    if events.is_empty() {
        return Ok(());
    }
    store.add_plan_events(&events)
}

/// Whether a change says which plan an account has, or that it has none any more.
fn says_plan(change: &AccountChange) -> bool {
    matches!(change, AccountChange::Plan { .. } | AccountChange::Closed)
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
        // It was closed by hand, and is known still.
        Some(AccountChange::Closed) if account.until.is_some() => return None,
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
