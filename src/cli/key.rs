//! `weir key create | list | rotate | revoke`. A new secret is shown once.

use std::sync::Arc;

use clap::Subcommand;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Failure;
use super::account::Format;
use super::store::Desk;
use crate::account::{Directory, Key};
use crate::changes::{MadeKey, NewKey};
use crate::config::Config;
use crate::plan::ModelPattern;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key. Its secret is printed, this once, on standard output.
    Create {
        /// The account that it belongs to.
        #[arg(long)]
        account: String,
        /// Its name; made up without.
        #[arg(long)]
        id: Option<String>,
        /// The only models it may use: names or globs.
        #[arg(long = "model", value_name = "MODEL")]
        models: Vec<String>,
        /// The only networks it may be used from, such as 10.0.0.0/8.
        #[arg(long = "network", value_name = "CIDR")]
        networks: Vec<ipnet::IpNet>,
        /// When it ends, RFC 3339.
        #[arg(long)]
        expires: Option<Timestamp>,
    },
    /// List keys, never their secrets.
    List {
        /// Of this account only.
        #[arg(long)]
        account: Option<String>,
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make a successor of a key. The old one goes on working for a while.
    Rotate {
        /// The key.
        id: String,
        /// How many hours the old key goes on working.
        #[arg(long, default_value_t = 24)]
        overlap_hours: u32,
    },
    /// End a key at once, on every gateway.
    Revoke {
        /// The key.
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// What to tell the user.
pub fn run(command: KeyCommand, config: &Config) -> Result<(), Failure> {
    let desk = Desk::open(config)?;
    let changes = desk.changes(config);
    match command {
        KeyCommand::Create {
            account,
            id,
            models,
            networks,
            expires,
        } => {
            let made = changes.create_key(NewKey {
                account,
                id,
                models,
                networks,
                expires_at: expires,
                limits: Vec::new(),
            })?;
            show(&made);
        }
        KeyCommand::List { account, format } => {
            print!("{}", list(&desk.directory, account.as_deref(), format));
        }
        KeyCommand::Rotate { id, overlap_hours } => {
            let overlap = SignedDuration::from_hours(i64::from(overlap_hours));
            let (made, ends) = changes.rotate_key(&id, overlap)?;
            show(&made);
            eprintln!("the old key {id} works until {ends}");
        }
        KeyCommand::Revoke { id } => {
            changes.revoke_key(&id)?;
            println!("key {id} is revoked");
        }
    }
    Ok(())
}

/// Prints a secret, this once, so that a pipe gets it and nothing else.
fn show(made: &MadeKey) {
    let Key { id, account, .. } = &made.key;
    eprintln!("key {id} of account {account}: the secret is shown this once");
    println!("{}", made.secret.expose());
}

fn list(directory: &Directory, account: Option<&str>, format: Format) -> String {
    let mut keys: Vec<&Arc<Key>> = directory
        .keys()
        .filter(|key| account.is_none_or(|account| key.account.as_str() == account))
        .collect();
    keys.sort_by(|a, b| a.account.cmp(&b.account).then_with(|| a.id.cmp(&b.id)));
    let models = |key: &Key| {
        key.models
            .iter()
            .map(ModelPattern::pattern)
            .collect::<Vec<_>>()
    };
    let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
    match format {
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(["key", "account", "models", "expires", "revoked"]);
            for key in keys {
                table.add_row([
                    key.id.to_string(),
                    key.account.to_string(),
                    models(key).join(" "),
                    time(key.expires_at),
                    time(key.revoked_at),
                ]);
            }
            format!("{table}\n")
        }
        Format::Json => {
            let items: Vec<_> = keys
                .iter()
                .map(|key| {
                    json!({
                        "id": key.id,
                        "account": key.account,
                        "models": models(key),
                        "networks": key.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
                        "expires_at": key.expires_at,
                        "revoked_at": key.revoked_at,
                    })
                })
                .collect();
            format!("{}\n", serde_json::Value::from(items))
        }
    }
}
