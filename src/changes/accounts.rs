//! Accounts: create, change, close, pay back.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use super::{ChangeError, Changes, Kind, history, today, unfit};
use crate::account::Directory;
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{AccountChange, AccountEvent};
use crate::money::Money;
use crate::plan::{Account, Limit};

/// An account to be made.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    /// Its name.
    pub id: String,
    /// Its plan.
    pub plan: String,
    /// The account above it.
    pub parent: Option<String>,
    /// The first day of its first billing period; today without.
    pub since: Option<Date>,
    /// A name for people.
    pub name: Option<String>,
    /// The currency in which it pays, where that is not the plan's own.
    pub currency: Option<String>,
    /// Facts for reports.
    pub tags: Vec<(String, String)>,
    /// Limits of its own.
    pub limits: Vec<Limit>,
}

/// What is to change about an account; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct AccountPatch {
    /// Its plan.
    pub plan: Option<String>,
    /// The account above it; an empty name puts it at the top.
    pub parent: Option<String>,
    /// A name for people; an empty one takes it away.
    pub name: Option<String>,
    /// All facts for reports.
    pub tags: Option<Vec<(String, String)>>,
    /// All limits of its own.
    pub limits: Option<Vec<Limit>>,
}

impl Changes<'_> {
    /// Makes an account.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn create_account(&self, new: NewAccount) -> Result<Account, ChangeError> {
        let id = AccountId::parse(&new.id).map_err(|error| unfit("id", error.to_string()))?;
        if self.directory.member(&id).is_some() {
            return Err(ChangeError::Taken {
                kind: Kind::Account,
                id: new.id,
            });
        }
        let parent = match new.parent.as_deref().filter(|parent| !parent.is_empty()) {
            Some(parent) => Some(self.fitting_parent(&id, parent)?),
            None => None,
        };
        let account = Account {
            plan: self.known_plan(&new.plan)?,
            parent,
            since: new.since.unwrap_or_else(today),
            until: None,
            currency: match new.currency {
                Some(code) => Some(self.known_currency(&code)?),
                None => None,
            },
            name: match new.name.as_deref().filter(|name| !name.is_empty()) {
                Some(name) => Some(short_text("name", name)?),
                None => None,
            },
            tags: tags(new.tags)?,
            limits: new.limits,
            id,
        };
        self.put(&account, "account.create")?;
        history::record_account(self.store, &account, Timestamp::now())?;
        Ok(account)
    }

    /// Changes an account. The change holds from the next request on; another plan splits its revenue by time.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn change_account(&self, id: &str, patch: AccountPatch) -> Result<Account, ChangeError> {
        let old = self.made_by_hand(id)?;
        let mut account = old.clone();
        if let Some(plan) = patch.plan {
            account.plan = self.known_plan(&plan)?;
        }
        if let Some(parent) = patch.parent {
            account.parent = match parent.as_str() {
                "" => None,
                parent => Some(self.fitting_parent(&account.id, parent)?),
            };
        }
        if let Some(name) = patch.name {
            account.name = match name.as_str() {
                "" => None,
                name => Some(short_text("name", name)?),
            };
        }
        if let Some(given) = patch.tags {
            account.tags = tags(given)?;
        }
        if let Some(limits) = patch.limits {
            account.limits = limits;
        }
        if account.plan != old.plan {
            // What it had until now, should nobody have recorded that yet.
            history::record_account(self.store, old, Timestamp::now())?;
        }
        self.put(&account, "account.change")?;
        history::record_account(self.store, &account, Timestamp::now())?;
        Ok(account)
    }

    /// Ends an account today: it no longer pays, and its keys no longer work.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn close_account(&self, id: &str) -> Result<Account, ChangeError> {
        let old = self.made_by_hand(id)?;
        if old.until.is_some_and(|until| until <= today()) {
            return Ok(old.clone());
        }
        let account = Account {
            until: Some(today()),
            ..old.clone()
        };
        self.put(&account, "account.close")?;
        self.record(&account.id, AccountChange::Closed)?;
        Ok(account)
    }

    /// Records that money was paid back to an account: its revenue is less from now on.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn refund(&self, id: &str, amount: Money) -> Result<Timestamp, ChangeError> {
        let account = self.account(id)?.id.clone();
        if amount <= Money::ZERO {
            return Err(unfit("amount_usd", "a refund is above zero"));
        }
        let at = self.record(&account, AccountChange::Refund(amount))?;
        let audit = self.audit("account.refund", id, &json!({ "amount_usd": amount }));
        self.store.add_audit(&audit)?;
        Ok(at)
    }

    fn put(&self, account: &Account, action: &str) -> Result<(), ChangeError> {
        let detail = json!({
            "plan": account.plan,
            "parent": account.parent,
            "since": account.since.to_string(),
            "until": account.until.map(|day| day.to_string()),
            "name": account.name,
            "limits": account.limits.len(),
        });
        let audit = self.audit(action, account.id.as_str(), &detail);
        Ok(self
            .store
            .put_account(account, Some(self.version), &audit)?)
    }

    fn record(&self, account: &AccountId, change: AccountChange) -> Result<Timestamp, ChangeError> {
        let at = Timestamp::now();
        let event = AccountEvent {
            account: account.clone(),
            at,
            change,
        };
        self.store.add_account_events(&[event])?;
        Ok(at)
    }

    fn known_plan(&self, id: &str) -> Result<PlanId, ChangeError> {
        self.directory
            .plan(&id.into())
            .map(|plan| plan.id.clone())
            .ok_or_else(|| unfit("plan", format!("there is no plan {id}")))
    }

    fn known_currency(&self, code: &str) -> Result<Arc<str>, ChangeError> {
        let known = self.config.currencies.iter().map(|known| &*known.code);
        if code == "USD" || known.into_iter().any(|known| known == code) {
            Ok(code.into())
        } else {
            Err(unfit(
                "currency",
                format!("there is no rate table for {code}"),
            ))
        }
    }

    /// An account that can be changed here: what the configuration file declares is changed there.
    fn made_by_hand(&self, id: &str) -> Result<&Account, ChangeError> {
        let account = self.account(id)?;
        let mut declared = self.config.accounts.iter();
        if declared.any(|declared| declared.id == account.id) {
            return Err(ChangeError::Declared {
                kind: Kind::Account,
                id: id.to_owned(),
            });
        }
        Ok(account)
    }

    /// A parent under which the account, with all that lies below it, stays in a tree of the allowed depth.
    fn fitting_parent(&self, account: &AccountId, parent: &str) -> Result<AccountId, ChangeError> {
        let Some(above) = self.directory.member(&parent.into()) else {
            return Err(unfit("parent", format!("there is no account {parent}")));
        };
        if above.lineage.contains(account) {
            return Err(unfit(
                "parent",
                format!("account {account} cannot lie below {parent}: that lies below it"),
            ));
        }
        let members = self.directory.members();
        let below = members.filter_map(|member| {
            let place = member.lineage.iter().position(|id| id == account)?;
            Some(member.lineage.len() - place)
        });
        if above.lineage.len() + below.max().unwrap_or(1) > Directory::MAX_DEPTH {
            let max = Directory::MAX_DEPTH;
            return Err(unfit(
                "parent",
                format!("below {parent} the tree is deeper than {max} levels"),
            ));
        }
        Ok(above.account.id.clone())
    }
}

type Tags = Vec<(Arc<str>, Arc<str>)>;

fn tags(given: Vec<(String, String)>) -> Result<Tags, ChangeError> {
    if given.len() > TAGS_MAX {
        return Err(unfit("tags", format!("at most {TAGS_MAX} tags")));
    }
    let mut tags: Tags = Vec::with_capacity(given.len());
    for (name, value) in given {
        if name.len() > 64 {
            return Err(unfit("tags", "a tag's name has at most 64 bytes"));
        }
        let name = short_text("tags", &name)?;
        tags.retain(|(known, _)| *known != name);
        tags.push((name, short_text("tags", &value)?));
    }
    Ok(tags)
}

fn short_text(member: &'static str, text: &str) -> Result<Arc<str>, ChangeError> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(unfit(
            member,
            "expected a text of 1 to 256 bytes without control characters",
        ));
    }
    Ok(text.into())
}

/// As in the configuration file.
const TAGS_MAX: usize = 32;
