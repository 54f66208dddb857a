//! `weir key create | list | rotate | revoke`. A new secret is shown once.

use std::sync::Arc;

use clap::Subcommand;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::account::{Format, known_account};
use super::{Failure, store};
use crate::account::{Directory, Key};
use crate::config::Config;
use crate::ids::KeyId;
use crate::ledger::store::{Store, StoredKey};
use crate::plan::ModelPattern;
use crate::secret::{Pepper, Secret, SecretSha256};
use crate::snapshot;

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
    let store = store::open(config)?;
    let pepper = store::pepper(config, store.as_ref())?;
    let directory = snapshot::directory(config, &store.stored()?, &pepper);
    match command {
        KeyCommand::Create {
            account,
            id,
            models,
            networks,
            expires,
        } => {
            let account = known_account(&directory, &account)?.id.clone();
            let id = match id {
                Some(id) => KeyId::parse(&id)?,
                None => KeyId::from(format!("{account}-{}", short_name()?).as_str()),
            };
            if find(&directory, id.as_str()).is_some() {
                return Err(Failure(format!(
                    "key {id}: there is one of this name already"
                )));
            }
            let models = models
                .iter()
                .map(|model| ModelPattern::new(model))
                .collect();
            let key = Key {
                id,
                account,
                digest: blank(),
                models,
                networks,
                expires_at: expires,
                revoked_at: None,
                limits: Vec::new(),
            };
            create(store.as_ref(), &pepper, key, "key.create")
        }
        KeyCommand::List { account, format } => {
            print!("{}", list(&directory, account.as_deref(), format));
            Ok(())
        }
        KeyCommand::Rotate { id, overlap_hours } => {
            let old = find(&directory, &id).ok_or_else(|| unknown(&id))?;
            if config.keys.iter().any(|key| key.id == old.id) {
                return Err(Failure(format!(
                    "key {id} is declared in the configuration file: rotate it there"
                )));
            }
            let now = Timestamp::now();
            let ends = now.saturating_add(SignedDuration::from_hours(i64::from(overlap_hours)))?;
            let successor = Key {
                id: KeyId::from(format!("{}-{}", old.account, short_name()?).as_str()),
                digest: blank(),
                revoked_at: None,
                expires_at: None,
                ..(**old).clone()
            };
            create(store.as_ref(), &pepper, successor, "key.create")?;
            let fading = Key {
                expires_at: Some(old.expires_at.map_or(ends, |at| at.min(ends))),
                ..(**old).clone()
            };
            let audit = store::audit(
                "key.rotate",
                &id,
                &json!({ "expires_at": fading.expires_at }),
            );
            store.put_key(
                &StoredKey {
                    key: fading,
                    created_at: now,
                },
                &audit,
            )?;
            eprintln!("the old key {id} works until {ends}");
            Ok(())
        }
        KeyCommand::Revoke { id } => {
            let key = find(&directory, &id).ok_or_else(|| unknown(&id))?;
            let audit = store::audit("key.revoke", &id, &json!({ "account": key.account }));
            store.revoke_key(&key.id, &key.digest, Timestamp::now(), &audit)?;
            println!("key {id} is revoked");
            Ok(())
        }
    }
}

/// Keeps a key's digest and prints its secret.
fn create(store: &dyn Store, pepper: &Pepper, key: Key, action: &str) -> Result<(), Failure> {
    let secret = Secret::generate()?;
    let key = Key {
        digest: pepper.digest(&SecretSha256::of(secret.expose().as_bytes())),
        ..key
    };
    let detail = json!({ "account": key.account, "models": key.models.iter().map(ModelPattern::pattern).collect::<Vec<_>>(), "expires_at": key.expires_at });
    let audit = store::audit(action, key.id.as_str(), &detail);
    eprintln!(
        "key {} of account {}: the secret is shown this once",
        key.id, key.account
    );
    store.put_key(
        &StoredKey {
            key,
            created_at: Timestamp::now(),
        },
        &audit,
    )?;
    println!("{}", secret.expose());
    Ok(())
}

/// Stands in for the digest until the secret is made.
fn blank() -> crate::secret::KeyDigest {
    crate::secret::KeyDigest([0; 32])
}

fn short_name() -> Result<String, Failure> {
    let secret = Secret::generate()?;
    Ok(secret.expose().get(3..11).unwrap_or("key").to_owned())
}

fn find<'a>(directory: &'a Directory, id: &str) -> Option<&'a Arc<Key>> {
    directory.keys().find(|key| key.id.as_str() == id)
}

fn unknown(id: &str) -> Failure {
    Failure(format!("key {id}: there is none of this name"))
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
