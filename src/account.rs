//! The account tree and its keys, as one immutable snapshot.
//!
//! The request path reads a [`Directory`] and nothing else about accounts; a change (configuration,
//! admin API, command line, another gateway) builds a new one and swaps it in whole.

use std::sync::Arc;

use jiff::Timestamp;

use crate::hash::HashMap;
use crate::ids::{AccountId, KeyId, PlanId};
use crate::plan::{Account, Limit, ModelPattern, Plan};
use crate::secret::KeyDigest;

/// A client's key. Its secret is not here, only the keyed digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name.
    pub id: KeyId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// The digest under which it is found.
    pub digest: KeyDigest,
    /// The models it may use; empty means all.
    pub models: Vec<ModelPattern>,
    /// The networks it may be used from; empty means all.
    pub networks: Vec<ipnet::IpNet>,
    /// When it ends (also the end of the overlap of a rotation).
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Limits of its own.
    pub limits: Vec<Limit>,
}

/// An account with its plan and ancestors resolved, ready for the request path.
#[derive(Debug)]
pub struct Member {
    /// The account.
    pub account: Account,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The account's ancestors from the root down, the account itself last: what one request counts against.
    pub lineage: Arc<[AccountId]>,
}

/// Plans, accounts and keys at one moment.
#[derive(Debug, Default)]
pub struct Directory {
    plans: HashMap<PlanId, Arc<Plan>>,
    members: HashMap<AccountId, Arc<Member>>,
    keys: HashMap<KeyDigest, Arc<Key>>,
}

/// What keeps plans, accounts and keys from forming a directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// An account names a plan that does not exist.
    #[error("account {account}: there is no plan {plan}")]
    NoSuchPlan {
        /// The account.
        account: AccountId,
        /// What it names.
        plan: PlanId,
    },
    /// An account names a parent that does not exist.
    #[error("account {account}: there is no account {parent} to be its parent")]
    NoSuchParent {
        /// The account.
        account: AccountId,
        /// What it names.
        parent: AccountId,
    },
    /// An account is its own ancestor.
    #[error("account {0} is its own ancestor")]
    Circle(AccountId),
    /// A tree deeper than [`Directory::MAX_DEPTH`].
    #[error("account {0} lies deeper than {max} levels", max = Directory::MAX_DEPTH)]
    TooDeep(AccountId),
    /// A key names an account that does not exist.
    #[error("key {key}: there is no account {account}")]
    NoSuchAccount {
        /// The key.
        key: KeyId,
        /// What it names.
        account: AccountId,
    },
}

impl Directory {
    /// The deepest account tree that is accepted.
    pub const MAX_DEPTH: usize = 16;

    /// Builds the tree. What does not fit is left out and named, so that one bad row in a shared store cannot
    /// stop a gateway; a configuration file with such an error is refused before it comes here.
    pub fn build(
        plans: impl IntoIterator<Item = Plan>,
        accounts: impl IntoIterator<Item = Account>,
        keys: impl IntoIterator<Item = Key>,
    ) -> (Directory, Vec<DirectoryError>) {
        let plans: HashMap<PlanId, Arc<Plan>> = plans
            .into_iter()
            .map(|plan| (plan.id.clone(), Arc::new(plan)))
            .collect();
        let accounts: HashMap<AccountId, Account> = accounts
            .into_iter()
            .map(|account| (account.id.clone(), account))
            .collect();
        let mut errors = Vec::new();
        let mut members = HashMap::with_capacity_and_hasher(accounts.len(), Default::default());
        for account in accounts.values() {
            match member(account, &accounts, &plans) {
                Ok(member) => {
                    members.insert(account.id.clone(), Arc::new(member));
                }
                Err(error) => errors.push(error),
            }
        }
        let mut by_digest = HashMap::default();
        for key in keys {
            if members.contains_key(&key.account) {
                by_digest.insert(key.digest, Arc::new(key));
            } else {
                errors.push(DirectoryError::NoSuchAccount {
                    key: key.id,
                    account: key.account,
                });
            }
        }
        (
            Directory {
                plans,
                members,
                keys: by_digest,
            },
            errors,
        )
    }

    /// The key of that digest.
    pub fn key(&self, digest: &KeyDigest) -> Option<&Arc<Key>> {
        self.keys.get(digest)
    }

    /// The account of that name, with plan and ancestors.
    pub fn member(&self, account: &AccountId) -> Option<&Arc<Member>> {
        self.members.get(account)
    }

    /// The plan of that name.
    pub fn plan(&self, plan: &PlanId) -> Option<&Arc<Plan>> {
        self.plans.get(plan)
    }

    /// All accounts, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// All plans, in no order.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values()
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values()
    }
}

fn member(
    account: &Account,
    accounts: &HashMap<AccountId, Account>,
    plans: &HashMap<PlanId, Arc<Plan>>,
) -> Result<Member, DirectoryError> {
    let plan = plans
        .get(&account.plan)
        .ok_or_else(|| DirectoryError::NoSuchPlan {
            account: account.id.clone(),
            plan: account.plan.clone(),
        })?;
    let mut lineage = vec![account.id.clone()];
    let mut at = account;
    while let Some(parent) = &at.parent {
        if lineage.contains(parent) {
            return Err(DirectoryError::Circle(account.id.clone()));
        }
        if lineage.len() >= Directory::MAX_DEPTH {
            return Err(DirectoryError::TooDeep(account.id.clone()));
        }
        at = accounts
            .get(parent)
            .ok_or_else(|| DirectoryError::NoSuchParent {
                account: at.id.clone(),
                parent: parent.clone(),
            })?;
        lineage.push(parent.clone());
    }
    lineage.reverse();
    Ok(Member {
        account: account.clone(),
        plan: Arc::clone(plan),
        lineage: lineage.into(),
    })
}
