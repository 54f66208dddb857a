//! `weir key create | list | rotate | revoke`. A new secret is shown once.

use std::sync::Arc;

use clap::Subcommand;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Failure;
use super::account::Format;
use super::store::{self, Desk};
use super::when::moment;
use crate::account::{Directory, Key};
use crate::changes::{MadeKey, NewKey, network};
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
        #[arg(long = "network", value_name = "CIDR", value_parser = network)]
        networks: Vec<ipnet::IpNet>,
        /// When it ends: a date (its midnight in UTC) or an RFC 3339 time.
        #[arg(long, value_name = "TIME", value_parser = moment)]
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
    if let KeyCommand::List { account, format } = &command {
        let directory = store::directory(config)?;
        if let Some(account) = account
            && directory.member(&account.as_str().into()).is_none()
        {
            return Err(Failure(format!("there is no account {account}")));
        }
        print!("{}", list(&directory, account.as_deref(), *format));
        return Ok(());
    }
    let desk = Desk::open_or_make(config)?;
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
        // Above: listing changes nothing.
        KeyCommand::List { .. } => {}
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
    let networks = |key: &Key| {
        key.networks
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
    match format {
        Format::Table => {
            // Few have any, and they are long.
            let with_networks = keys.iter().any(|key| !key.networks.is_empty());
            let row = |start: [String; 3], networks: String, end: [String; 2]| {
                let networks = with_networks.then_some(networks);
                start.into_iter().chain(networks).chain(end)
            };
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(row(
                ["key", "account", "models"].map(str::to_owned),
                "networks".to_owned(),
                ["expires", "revoked"].map(str::to_owned),
            ));
            for key in keys {
                table.add_row(row(
                    [
                        key.id.to_string(),
                        key.account.to_string(),
                        models(key).join(" "),
                    ],
                    networks(key).join(" "),
                    [time(key.expires_at), time(key.revoked_at)],
                ));
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
                        "networks": networks(key),
                        "expires_at": key.expires_at,
                        "revoked_at": key.revoked_at,
                    })
                })
                .collect();
            format!("{}\n", serde_json::Value::from(items))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::config::{self, FixedEnvironment};
    use crate::secret::Pepper;
    use crate::snapshot;

    #[test]
    fn the_end_of_a_key_is_a_date_or_a_time() {
        let read = |end: &str| {
            let command = ["weir", "key", "create", "--account", "a", "--expires", end];
            Cli::try_parse_from(command).is_ok()
        };
        assert!(read("2026-12-01") && read("2026-12-01T12:00:00Z"));
        assert!(!read("soon"));
    }

    #[test]
    fn what_is_no_network_is_told_what_one_is() {
        let read = |network: &str| {
            let command = [
                "weir",
                "key",
                "create",
                "--account",
                "a",
                "--network",
                network,
            ];
            Cli::try_parse_from(command).map_err(|error| error.to_string())
        };
        assert!(read("10.0.0.0/8").is_ok() && read("192.0.2.7").is_ok());
        for text in ["10.0.0.0/99", "ten"] {
            let said = read(text).unwrap_err();
            assert!(said.contains(text), "{said}");
            assert!(
                said.contains("expected a network such as 10.0.0.0/8"),
                "{said}"
            );
        }
    }

    #[test]
    fn networks_are_listed_where_a_key_has_some() {
        let listed = |networks: &str| {
            let text = format!(
                "[[plans]]\nid = \"pro\"\nprice = \"20.00\"\n[[accounts]]\nid = \"acme\"\nplan = \"pro\"\n\
                 since = 2025-03-01\nkeys = [{{ id = \"app\", secret = \"wr-acme\"{networks} }}]\n"
            );
            let config =
                config::parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default()).unwrap();
            let directory =
                snapshot::directory(&config, &Default::default(), &Pepper::new(b"pepper"));
            list(&directory, None, Format::Table)
        };
        assert!(!listed("").contains("networks"));
        let table = listed(", networks = [\"10.0.0.0/8\", \"::1/128\"]");
        assert!(
            table.contains("networks") && table.contains("10.0.0.0/8 ::1/128"),
            "{table}"
        );
    }
}
