//! What a store must do, whichever database is beneath: SQLite or PostgreSQL.
//!
//! All methods block; they are called from the ledger's writer thread, the blocking pool or the command line,
//! never from the request path.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use super::entry::{Entry, Outcome};
pub use super::rollup::Sums;
use crate::ids::{AccountId, KeyId, ModelName, PlanId, RequestId, UpstreamId};
use crate::money::Money;
use crate::secret::KeyDigest;

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or opened just now; the same call may go through later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What it holds cannot be read.
    #[error("the store is damaged or of another make: {0}")]
    Damaged(String),
    /// The call makes no sense there: an id taken twice, an account that is not there.
    #[error("{0}")]
    Refused(String),
    /// Somebody else has made a change since what this one was decided on.
    #[error(
        "somebody else changed accounts, keys or plans at the same moment: nothing was changed here, try again"
    )]
    Overtaken,
}

/// How many of the `known` migrations a store of schema version `found` has had.
///
/// # Errors
/// [`StoreError::Refused`]: the store was made by a newer weir.
pub(super) fn migrations_done(found: i64, known: usize) -> Result<usize, StoreError> {
    usize::try_from(found)
        .ok()
        .filter(|version| *version <= known)
        .ok_or_else(|| {
            StoreError::Refused(format!(
                "the store has schema version {found}, this weir knows versions up to {known}: use a newer weir"
            ))
        })
}

/// A half-open stretch of time: `since` inclusive, `until` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The first moment.
    pub since: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
}

/// Which entries are wanted. Entries are ordered by `(started_at, id)`.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// Started at or after.
    pub since: Option<Timestamp>,
    /// Started before.
    pub until: Option<Timestamp>,
    /// Of this account itself (not its descendants).
    pub account: Option<AccountId>,
    /// Of this key.
    pub key: Option<KeyId>,
    /// Asked for or served this model.
    pub model: Option<ModelName>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// Only entries after this one in the order.
    pub after: Option<RequestId>,
    /// Newest first.
    pub descending: bool,
}

impl EntryFilter {
    /// Whether an entry passes: all members but the order's (`after`, `descending`).
    pub fn passes(&self, entry: &Entry) -> bool {
        let started_ms = entry.started_at.as_millisecond();
        let is = |name: &Option<ModelName>, model: &ModelName| name.as_ref() == Some(model);
        self.since
            .is_none_or(|since| started_ms >= since.as_millisecond())
            && self
                .until
                .is_none_or(|until| started_ms < until.as_millisecond())
            && self
                .account
                .as_ref()
                .is_none_or(|account| entry.account() == Some(account))
            && self.key.as_ref().is_none_or(|key| entry.key == *key)
            && self
                .model
                .as_ref()
                .is_none_or(|model| is(&entry.model, model) || is(&entry.served_model, model))
            && self.outcome.is_none_or(|outcome| entry.outcome == outcome)
    }
}

/// Sums over entries that agree in all of these members: the rows that reports read.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupRow {
    /// The start of the stretch (an hour or a day, see [`Grain`]).
    pub start: Timestamp,
    /// As in the entries.
    pub lineage: Arc<[AccountId]>,
    /// As in the entries.
    pub plan: PlanId,
    /// As in the entries; empty at [`Grain::Day`].
    pub key: Option<KeyId>,
    /// The model that was asked for.
    pub model: Option<ModelName>,
    /// The model that was served.
    pub served_model: Option<ModelName>,
    /// As in the entries; `None` at [`Grain::Day`].
    pub upstream: Option<UpstreamId>,
    /// The tier that the upstream says it served.
    pub service_tier: Option<Arc<str>>,
    /// The band of `input_tokens` that the requests fall in, see [`input_band`]: prices with a long-context tier can
    /// then be applied to sums.
    pub input_band: u8,
    /// What was used and what it cost.
    pub sums: Sums,
}

impl RollupRow {
    /// The row, at [`Grain::Hour`], that a single entry makes.
    pub fn of(entry: &Entry) -> RollupRow {
        const HOUR_MS: i64 = 3_600_000;
        let started_ms = entry.started_at.as_millisecond();
        let hour_ms = started_ms - started_ms.rem_euclid(HOUR_MS);
        RollupRow {
            start: Timestamp::from_millisecond(hour_ms).unwrap_or(entry.started_at),
            lineage: Arc::clone(&entry.lineage),
            plan: entry.plan.clone(),
            key: Some(entry.key.clone()),
            model: entry.model.clone(),
            served_model: entry.served_model.clone(),
            upstream: entry.upstream.clone(),
            service_tier: entry.service_tier.clone(),
            input_band: input_band(entry.usage.input_tokens),
            sums: Sums::of(entry),
        }
    }
}

/// Upper edges (inclusive) of the bands of `input_tokens` in rollups: the thresholds of the long-context tiers in use.
/// Band 0 is up to the first edge; the last band is everything above the last edge.
pub const INPUT_BANDS: [u64; 4] = [128_000, 200_000, 256_000, 272_000];

/// The band that a request of so many `input_tokens` falls in: the count of [`INPUT_BANDS`] that it exceeds.
pub fn input_band(input_tokens: u64) -> u8 {
    INPUT_BANDS
        .iter()
        .map(|edge| u8::from(input_tokens > *edge))
        .sum()
}

/// How fine rollup rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// By hour, with every member: for windows, and for reports by key and upstream.
    Hour,
    /// By day, with all that a price depends on (served model, tier, band) but without key and upstream: for margins
    /// over long ranges and for what-if, since prices change by the day.
    Day,
}

/// An account, key or plan made by hand: through the admin API or the command line. What the configuration
/// file declares is not in here, but its history is (see [`AccountEvent`]).
#[derive(Clone, Debug, PartialEq)]
pub struct StoredKey {
    /// The key.
    pub key: crate::account::Key,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What happened to an account that changes revenue: plan changes split it by time, refunds reduce it.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountEvent {
    /// The account.
    pub account: AccountId,
    /// From when.
    pub at: Timestamp,
    /// What.
    pub change: AccountChange,
}

/// See [`AccountEvent`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountChange {
    /// It has this plan from then on (also its first one), with periods counted from `since`.
    Plan {
        /// The plan.
        plan: PlanId,
        /// The first day of the billing period.
        since: Date,
    },
    /// It was paid back this much, in US dollars.
    Refund(Money),
    /// It ended.
    Closed,
}

/// A plan's terms from a moment on. The first ones that were recorded hold for all time before, too.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanEvent {
    /// From when.
    pub at: Timestamp,
    /// The terms, as [`crate::plan::Plan::terms`] gives them.
    pub terms: crate::plan::Plan,
}

/// One line of the audit log: a change through the admin API or the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Who: a role and where it came from (`admin api 127.0.0.1`, `cli`).
    pub actor: String,
    /// What: `account.create`, `key.revoke`, `reprice`, …
    pub action: String,
    /// On what.
    pub subject: String,
    /// Details as JSON; never a secret.
    pub detail: String,
}

/// What an operator made by hand, all at once, and the version it has.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Grows with each change: gateways poll it to see that something changed.
    pub version: u64,
    /// Plans, as the TOML or JSON of the configuration's own format is parsed by [`crate::config`].
    pub plans: Vec<crate::plan::Plan>,
    /// Accounts.
    pub accounts: Vec<crate::plan::Account>,
    /// Keys, revoked ones included.
    pub keys: Vec<StoredKey>,
    /// Keys revoked by their digest: also those that the configuration file declares.
    pub revocations: Vec<Revocation>,
}

/// A key that was revoked, wherever it was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// Its name.
    pub key: KeyId,
    /// The digest under which it is found.
    pub digest: KeyDigest,
    /// When.
    pub at: Timestamp,
}

/// A database that holds the ledger and what operators made by hand.
pub trait Store: Send + Sync {
    /// Brings the schema up to date. Safe to run from several processes at once.
    fn migrate(&self) -> Result<(), StoreError>;

    /// Writes entries and their rollups in one transaction. An entry whose id is already there is left alone, so a
    /// batch may be given again after a failure: the same entry, or another that began in the same millisecond (an id that says
    /// a time has but one). Returns how many were new.
    fn append(&self, entries: &[Entry]) -> Result<usize, StoreError>;

    /// As [`Store::append`], for a batch that has time: on a busy core others have their turn while it is written.
    fn append_in_turns(&self, entries: &[Entry]) -> Result<usize, StoreError> {
        self.append(entries)
    }

    /// Returns when everything appended so far would survive a loss of power. Called twice a second, or more often, and before
    /// journal files are deleted; also the moment for the database's own upkeep.
    fn make_durable(&self) -> Result<(), StoreError>;

    /// Calls `each` for every entry that passes, in order, until it returns `false`.
    fn scan(
        &self,
        filter: &EntryFilter,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), StoreError>;

    /// Calls `each` for every rollup row that starts within the range, in no promised order. The range is cut to whole
    /// rows by the caller: at [`Grain::Day`] its edges must be UTC midnights, at [`Grain::Hour`] full hours.
    fn rollup(
        &self,
        grain: Grain,
        range: TimeRange,
        each: &mut dyn FnMut(&RollupRow),
    ) -> Result<(), StoreError>;

    /// How many entries there are, roughly and fast.
    fn approximate_entries(&self) -> Result<u64, StoreError>;

    /// The server's own secret for hashing keys, made on first use.
    fn pepper(&self) -> Result<Vec<u8>, StoreError>;

    /// The version of what operators made by hand; cheap.
    fn stored_version(&self) -> Result<u64, StoreError>;

    /// Plans, accounts and keys that operators made by hand.
    fn stored(&self) -> Result<Stored, StoreError>;

    /// Creates or replaces a plan. What was decided on the store's state of some version (see [`Stored::version`]) says so as
    /// `based_on`: it is refused where somebody has made another change since.
    fn put_plan(
        &self,
        plan: &crate::plan::Plan,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError>;

    /// Creates or replaces an account; `based_on` as in [`Store::put_plan`].
    fn put_account(
        &self,
        account: &crate::plan::Account,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError>;

    /// Creates or replaces a key; `based_on` as in [`Store::put_plan`].
    fn put_key(
        &self,
        key: &StoredKey,
        based_on: Option<u64>,
        audit: &AuditLine,
    ) -> Result<(), StoreError>;

    /// Revokes a key that the store or the configuration file knows; a key of the file is revoked by its digest.
    fn revoke_key(
        &self,
        key: &KeyId,
        digest: &KeyDigest,
        at: Timestamp,
        audit: &AuditLine,
    ) -> Result<(), StoreError>;

    /// What happened to accounts, oldest first.
    fn account_events(&self) -> Result<Vec<AccountEvent>, StoreError>;

    /// What happened to one account, oldest first.
    fn account_events_of(&self, account: &AccountId) -> Result<Vec<AccountEvent>, StoreError>;

    /// Records what happened to accounts.
    fn add_account_events(&self, events: &[AccountEvent]) -> Result<(), StoreError>;

    /// Shows each of the terms that plans had, oldest first.
    fn plan_events(&self, each: &mut dyn FnMut(PlanEvent)) -> Result<(), StoreError>;

    /// Records which terms plans have.
    fn add_plan_events(&self, events: &[PlanEvent]) -> Result<(), StoreError>;

    /// The audit log, newest first.
    fn audit(&self, limit: usize) -> Result<Vec<AuditLine>, StoreError>;

    /// Adds a line to the audit log.
    fn add_audit(&self, line: &AuditLine) -> Result<(), StoreError>;
}
