//! `weir account create | list | set | close | refund`.

use clap::{ArgGroup, Subcommand};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;

use super::Failure;
use super::store::{self, Desk};
use crate::account::Directory;
use crate::changes::{AccountPatch, NewAccount};
use crate::config::Config;
use crate::ids::AccountId;
use crate::margin::Books;
use crate::margin::books::AccountBook;
use crate::money::Money;
use crate::plan::Account;

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
    #[command(
        visible_alias = "change",
        group(ArgGroup::new("change").required(true).multiple(true).args(["plan", "parent", "name"]))
    )]
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
        /// Even where it is more than the account ever paid.
        #[arg(long)]
        force: bool,
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
    if let AccountCommand::List { format } = &command {
        print!("{}", list(&store::directory(config)?, *format));
        return Ok(());
    }
    let desk = Desk::open_or_make(config)?;
    let changes = desk.changes(config);
    match command {
        AccountCommand::Create {
            id,
            plan,
            parent,
            since,
            name,
            tags,
        } => {
            let tags = tags.iter().map(|tag| read_tag(tag));
            let account = changes.create_account(NewAccount {
                id,
                plan,
                parent,
                since,
                name,
                tags: tags.collect::<Result<_, _>>()?,
                ..NewAccount::default()
            })?;
            let id = account.id;
            println!(
                "account {id} is there: make a key for it with weir key create --account {id}"
            );
        }
        // Above: listing changes nothing.
        AccountCommand::List { .. } => {}
        AccountCommand::Set {
            id,
            plan,
            parent,
            name,
        } => {
            let patch = AccountPatch {
                plan,
                parent,
                name,
                ..AccountPatch::default()
            };
            changes.change_account(&id, patch)?;
            println!("account {id} is changed");
        }
        AccountCommand::Close { id } => {
            changes.close_account(&id)?;
            println!("account {id} is closed");
        }
        AccountCommand::Refund { id, amount, force } => {
            let money =
                Money::parse(&amount).map_err(|error| Failure(format!("{amount}: {error}")))?;
            // A plan in a currency without rates cannot be summed, and that is no reason to refuse.
            if !force
                && let Ok(books) = Books::read(config, desk.store())
                && let Some(book) = books.account(&id.as_str().into())
                && let Some(reason) = beyond(book, money, Timestamp::now())
            {
                return Err(Failure(reason));
            }
            changes.refund(&id, money)?;
            println!("account {id} was paid back ${money}");
        }
    }
    Ok(())
}

/// Why an account should not be paid back so much more: it is more than it paid. Goodwill, or a slip of the keyboard, and a
/// refund cannot be taken back.
fn beyond(book: &AccountBook, more: Money, now: Timestamp) -> Option<String> {
    let back = book
        .refunds
        .iter()
        .map(|(_, amount)| *amount)
        .sum::<Money>()
        + more;
    let paid = book.paid_until(now.as_millisecond())?;
    (back > paid).then(|| {
        format!(
            "account {} would be paid back ${back} in all, more than the ${paid} that its plans came to so far: nothing was recorded (--force records it)",
            book.id
        )
    })
}

fn read_tag(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Failure(format!("tag {text}: expected NAME=VALUE")))?;
    Ok((name.into(), value.into()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::store::{AccountChange, AccountEvent};
    use crate::plan::{Overage, OverageCharge, PaymentFee, Period, Plan};

    #[test]
    fn a_change_of_nothing_is_wrong_usage() {
        use clap::Parser as _;
        let read = |more: &[&str]| {
            let command = ["weir", "account", "set", "acme"].iter().chain(more);
            crate::cli::Cli::try_parse_from(command)
                .map_err(|error| (error.exit_code(), error.to_string()))
        };
        let (code, said) = read(&[]).unwrap_err();
        assert_eq!(code, 2);
        assert!(
            said.contains("<--plan <PLAN>|--parent <PARENT>|--name <NAME>>"),
            "{said}"
        );
        assert!(read(&["--parent", ""]).is_ok());
        assert!(read(&["--plan", "pro", "--name", "Acme"]).is_ok());
    }

    #[test]
    fn more_paid_back_than_was_paid_is_refused() {
        let now: Timestamp = "2025-03-10T12:00:00Z".parse().unwrap();
        let mut plan = Plan {
            id: "pro".into(),
            price: Money::from_usd(20),
            currency: "USD".into(),
            period: Period::Month,
            limits: Vec::new(),
            fixed_cost: Money::ZERO,
            payment_fee: PaymentFee::default(),
            overage: None,
            trial_days: 0,
        };
        // Ten dollars were paid back before.
        let refusal = |plan: &Plan, dollars| {
            let account = Account {
                id: "fay".into(),
                plan: "pro".into(),
                parent: None,
                since: jiff::civil::date(2025, 2, 1),
                currency: None,
                until: None,
                name: None,
                tags: Vec::new(),
                limits: Vec::new(),
            };
            let refund = AccountEvent {
                account: "fay".into(),
                at: now,
                change: AccountChange::Refund(Money::from_usd(10)),
            };
            let books = Books::new([plan.clone()], [account], &[refund], &[]).unwrap();
            let book = books.account(&"fay".into()).unwrap();
            beyond(book, Money::from_usd(dollars), now)
        };
        // February and March are paid for.
        assert_eq!(refusal(&plan, 30), None);
        assert_eq!(
            refusal(&plan, 31).unwrap(),
            "account fay would be paid back $41.00 in all, more than the $40.00 that its plans came to so far: nothing was recorded (--force records it)"
        );
        plan.overage = Some(Overage {
            above: crate::plan::Amount::Count(1),
            charge: OverageCharge::MarkupPpm(1_000_000),
        });
        assert_eq!(refusal(&plan, 31), None);
    }
}
