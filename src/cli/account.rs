//! `weir account create | list | set | close | refund`.

use std::sync::Arc;

use clap::Subcommand;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde_json::json;

use super::{Failure, store};
use crate::account::Directory;
use crate::config::Config;
use crate::ids::{AccountId, PlanId};
use crate::ledger::store::{AccountChange, AccountEvent, Store};
use crate::money::Money;
use crate::plan::Account;
use crate::snapshot;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Make an account.
    Create {
        /// Its name: letters, digits and . _ : @ -
        id: String,
        /// Its plan.
        #[arg(long)]
        plan: String,
        /// The account above it.
        #[arg(long)]
        parent: Option<String>,
        /// The first day of its first billing period; today without.
        #[arg(long)]
        since: Option<Date>,
        /// A name for people.
        #[arg(long)]
        name: Option<String>,
        /// Facts for reports, NAME=VALUE.
        #[arg(long = "tag", value_name = "NAME=VALUE")]
        tags: Vec<String>,
    },
    /// List accounts.
    List {
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Change an account's plan, parent or name. The change holds from the next request on.
    Set {
        /// The account.
        id: String,
        /// Its new plan.
        #[arg(long)]
        plan: Option<String>,
        /// The account above it; an empty text puts it at the top.
        #[arg(long)]
        parent: Option<String>,
        /// A name for people.
        #[arg(long)]
        name: Option<String>,
    },
    /// End an account: it no longer pays, and its keys no longer work.
    Close {
        /// The account.
        id: String,
    },
    /// Record that money was paid back: its revenue is less from now on.
    Refund {
        /// The account.
        id: String,
        /// US dollars, such as 20.00.
        amount: String,
    },
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON list.
    Json,
}

/// Runs the command.
///
/// # Errors
/// What to tell the user.
pub fn run(command: AccountCommand, config: &Config) -> Result<(), Failure> {
    let store = store::open(config)?;
    let pepper = store::pepper(config, store.as_ref())?;
    let directory = snapshot::directory(config, &store.stored()?, &pepper);
    match command {
        AccountCommand::Create {
            id,
            plan,
            parent,
            since,
            name,
            tags,
        } => {
            let id = AccountId::parse(&id)?;
            if directory.member(&id).is_some() {
                return Err(Failure(format!(
                    "account {id}: there is one of this name already"
                )));
            }
            let account = Account {
                plan: known_plan(&directory, &plan)?,
                parent: parent
                    .as_deref()
                    .map(|parent| known_account(&directory, parent))
                    .transpose()?
                    .map(|parent| parent.id.clone()),
                since: since.unwrap_or_else(today),
                until: None,
                currency: None,
                name: name.map(Arc::from),
                tags: tags
                    .iter()
                    .map(|tag| read_tag(tag))
                    .collect::<Result<_, _>>()?,
                limits: Vec::new(),
                id: id.clone(),
            };
            put(store.as_ref(), &account, "account.create")?;
            println!(
                "account {id} is there: make a key for it with weir key create --account {id}"
            );
            Ok(())
        }
        AccountCommand::List { format } => {
            print!("{}", list(&directory, format));
            Ok(())
        }
        AccountCommand::Set {
            id,
            plan,
            parent,
            name,
        } => {
            let mut account = made_by_hand(config, &directory, &id)?;
            if let Some(plan) = plan {
                account.plan = known_plan(&directory, &plan)?;
            }
            if let Some(parent) = parent {
                account.parent = match parent.as_str() {
                    "" => None,
                    parent => Some(fitting_parent(&directory, &account.id, parent)?),
                };
            }
            if let Some(name) = name {
                account.name = Some(name.into());
            }
            put(store.as_ref(), &account, "account.set")?;
            let change = AccountChange::Plan {
                plan: account.plan.clone(),
                since: account.since,
            };
            record(store.as_ref(), &account.id, change)?;
            println!("account {id} is changed");
            Ok(())
        }
        AccountCommand::Close { id } => {
            let mut account = made_by_hand(config, &directory, &id)?;
            account.until = Some(today());
            put(store.as_ref(), &account, "account.close")?;
            record(store.as_ref(), &account.id, AccountChange::Closed)?;
            println!("account {id} is closed");
            Ok(())
        }
        AccountCommand::Refund { id, amount } => {
            let account = known_account(&directory, &id)?.id.clone();
            let money =
                Money::parse(&amount).map_err(|error| Failure(format!("{amount}: {error}")))?;
            if money <= Money::ZERO {
                return Err(Failure(format!("{amount}: a refund is above zero")));
            }
            record(store.as_ref(), &account, AccountChange::Refund(money))?;
            store.add_audit(&store::audit(
                "account.refund",
                &id,
                &json!({ "amount_usd": money }),
            ))?;
            println!("account {id} was paid back ${money}");
            Ok(())
        }
    }
}

fn put(store: &dyn Store, account: &Account, action: &str) -> Result<(), Failure> {
    let detail = json!({ "plan": account.plan, "parent": account.parent, "since": account.since.to_string(), "until": account.until.map(|day| day.to_string()) });
    Ok(store.put_account(account, &store::audit(action, account.id.as_str(), &detail))?)
}

fn record(store: &dyn Store, account: &AccountId, change: AccountChange) -> Result<(), Failure> {
    let event = AccountEvent {
        account: account.clone(),
        at: Timestamp::now(),
        change,
    };
    Ok(store.add_account_events(&[event])?)
}

pub(super) fn known_account<'a>(
    directory: &'a Directory,
    id: &str,
) -> Result<&'a Account, Failure> {
    let member = AccountId::parse(id)
        .ok()
        .and_then(|id| directory.member(&id));
    member
        .map(|member| &member.account)
        .ok_or_else(|| Failure(format!("account {id}: there is none of this name")))
}

fn known_plan(directory: &Directory, id: &str) -> Result<PlanId, Failure> {
    let plan = PlanId::parse(id).ok().and_then(|id| directory.plan(&id));
    plan.map(|plan| plan.id.clone())
        .ok_or_else(|| Failure(format!("plan {id}: there is none of this name")))
}

/// An account that can be changed here: what the configuration file declares is changed there.
fn made_by_hand(config: &Config, directory: &Directory, id: &str) -> Result<Account, Failure> {
    let account = known_account(directory, id)?;
    if config
        .accounts
        .iter()
        .any(|declared| declared.id == account.id)
    {
        return Err(Failure(format!(
            "account {id} is declared in the configuration file: change it there"
        )));
    }
    Ok(account.clone())
}

fn fitting_parent(
    directory: &Directory,
    account: &AccountId,
    parent: &str,
) -> Result<AccountId, Failure> {
    let parent = known_account(directory, parent)?;
    let above = directory.member(&parent.id).map(|member| &member.lineage);
    if above.is_some_and(|lineage| lineage.contains(account)) {
        return Err(Failure(format!(
            "account {account} cannot lie below {}: that lies below it",
            parent.id
        )));
    }
    Ok(parent.id.clone())
}

fn read_tag(text: &str) -> Result<(Arc<str>, Arc<str>), Failure> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Failure(format!("tag {text}: expected NAME=VALUE")))?;
    Ok((name.into(), value.into()))
}

fn today() -> Date {
    Offset::UTC.to_datetime(Timestamp::now()).date()
}

fn list(directory: &Directory, format: Format) -> String {
    let mut accounts: Vec<&Account> = directory.members().map(|member| &member.account).collect();
    accounts.sort_by(|a, b| a.id.cmp(&b.id));
    let text = |text: &Option<AccountId>| text.as_ref().map_or(String::new(), AccountId::to_string);
    match format {
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(["account", "plan", "parent", "since", "until", "name"]);
            for account in accounts {
                table.add_row([
                    account.id.to_string(),
                    account.plan.to_string(),
                    text(&account.parent),
                    account.since.to_string(),
                    account.until.map_or(String::new(), |day| day.to_string()),
                    account.name.as_deref().unwrap_or_default().to_owned(),
                ]);
            }
            format!("{table}\n")
        }
        Format::Json => {
            let items: Vec<_> = accounts
                .iter()
                .map(|account| {
                    json!({
                        "id": account.id,
                        "plan": account.plan,
                        "parent": account.parent,
                        "since": account.since.to_string(),
                        "until": account.until.map(|day| day.to_string()),
                        "name": account.name,
                        "tags": account.tags.iter().map(|(name, value)| (name.to_string(), json!(value))).collect::<serde_json::Map<_, _>>(),
                    })
                })
                .collect();
            format!("{}\n", serde_json::Value::from(items))
        }
    }
}
