//! `[[accounts]]` and their keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::names::Names;
use super::plans::known_currency;
use super::reader::Table;
use super::value::Value;
use crate::account::Directory;
use crate::ids::{AccountId, KeyId, PlanId};
use crate::plan::{Account, Limit, ModelPattern};
use crate::secret::SecretSha256;

/// A client's key as the file gives it. The server's own secret is applied later ([`crate::secret::Pepper::digest`]).
#[derive(Clone, Debug, PartialEq)]
pub struct FileKey {
    /// Its name, unique in the file.
    pub id: KeyId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// The SHA-256 of the secret, unique in the file.
    pub sha256: SecretSha256,
    /// The models it may use; empty means all.
    pub models: Vec<ModelPattern>,
    /// The networks it may be used from; empty means all.
    pub networks: Vec<ipnet::IpNet>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Limits of its own.
    pub limits: Vec<Limit>,
}

/// What accounts refer to.
pub(super) struct Known<'k> {
    pub(super) plans: &'k Names,
    pub(super) currencies: &'k Names,
    /// The models that routes name.
    pub(super) served: &'k [ModelPattern],
}

/// The accounts of a file, with their keys, and where each names its parent.
pub(super) struct Accounts<'d> {
    pub(super) accounts: Vec<Account>,
    pub(super) keys: Vec<FileKey>,
    names: Names,
    key_names: Names,
    /// Digests of the secrets seen, each with its line: two keys with one secret would be one key.
    secrets: HashMap<SecretSha256, usize>,
    parents: Vec<(AccountId, Value<'d>)>,
}

impl<'d> Accounts<'d> {
    /// Reads `[[accounts]]`.
    pub(super) fn read(tables: &[Table<'d>], known: &Known<'_>) -> Accounts<'d> {
        let mut accounts = Accounts {
            accounts: Vec::with_capacity(tables.len()),
            keys: Vec::new(),
            names: Names::of("account", "[[accounts]]"),
            key_names: Names::of("key", "keys"),
            secrets: HashMap::new(),
            parents: Vec::new(),
        };
        for table in tables {
            if let Some(account) = accounts.account(table, known) {
                accounts.accounts.push(account);
            }
        }
        accounts.check_tree();
        accounts
    }

    fn account(&mut self, table: &Table<'d>, known: &Known<'_>) -> Option<Account> {
        let id = table.need("id", "an id").and_then(|value| {
            let id = value.id(AccountId::parse)?;
            self.names.declare(&value, id.as_str()).then_some(id)
        });
        let plan = table.need("plan", "the id of a plan").and_then(|value| {
            let text = value.text("the id of a plan")?;
            known.plans.refer(&value, text).then(|| PlanId::from(text))
        });
        let since = table
            .need(
                "since",
                "the first day of its first period, such as 2025-03-01",
            )
            .and_then(|value| value.date());
        let until = table.optional("until", |value| {
            let until = value.date()?;
            match since {
                Some(since) if until <= since => {
                    value.refuse(format!(
                        "is {until}, expected a day after \"since\" ({since})"
                    ));
                    None
                }
                _ => Some(until),
            }
        });
        let parent = table.optional("parent", |value| {
            let text = value.text("the id of an account")?;
            Some((AccountId::from(text), value.clone()))
        });
        let name = table.optional("name", |value| {
            short_text(value, "a name of 1 to 256 bytes")
        });
        let currency = table.optional("currency", |value| known_currency(value, known.currencies));
        let tags = table.optional("tags", tags).unwrap_or_default();
        let limits = super::limits::limits(table, known.served);
        let keys = table.tables("keys");
        let id = id?;
        for key in &keys {
            if let Some(key) = self.key(key, &id, known) {
                self.keys.push(key);
            }
        }
        let parent = parent.map(|(parent, value)| {
            self.parents.push((id.clone(), value));
            parent
        });
        Some(Account {
            id,
            plan: plan?,
            parent,
            since: since?,
            until,
            name,
            currency,
            tags,
            limits,
        })
    }

    fn key(
        &mut self,
        table: &Table<'d>,
        account: &AccountId,
        known: &Known<'_>,
    ) -> Option<FileKey> {
        let id = table.need("id", "an id").and_then(|value| {
            let id = value.id(KeyId::parse)?;
            self.key_names.declare(&value, id.as_str()).then_some(id)
        });
        let sha256 = self.sha256(table);
        let models = table.list(
            "models",
            "an array of models' names or globs",
            Value::pattern,
        );
        let networks = table.list(
            "networks",
            "an array of networks such as [\"10.0.0.0/8\"]",
            network,
        );
        let expires_at = table.optional("expires_at", |value| value.moment());
        let limits = super::limits::limits(table, known.served);
        Some(FileKey {
            id: id?,
            account: account.clone(),
            sha256: sha256?,
            models,
            networks,
            expires_at,
            limits,
        })
    }

    fn sha256(&mut self, table: &Table<'d>) -> Option<SecretSha256> {
        let (value, sha256) = match (table.get("secret"), table.get("sha256")) {
            (Some(value), None) => {
                let secret = value.header_secret()?;
                let sha256 = SecretSha256::of(secret.expose().as_bytes());
                (value, sha256)
            }
            (None, Some(value)) => {
                const EXPECTED: &str = "the SHA-256 of the secret in 64 hexadecimal digits";
                let Some(sha256) = SecretSha256::parse(value.text(EXPECTED)?) else {
                    // Not shown: whoever mistakes the key for its digest has written the secret here.
                    value.refuse(format!("is something else, expected {EXPECTED}"));
                    return None;
                };
                (value, sha256)
            }
            (Some(_), Some(value)) => {
                value.refuse("is given beside \"secret\", expected one of the two");
                return None;
            }
            (None, None) => {
                table.refuse_absent("secret", "is missing, expected a secret, or \"sha256\"");
                return None;
            }
        };
        let line = value.line();
        if let Some(first) = self.secrets.insert(sha256, line) {
            value.refuse(format!(
                "is the secret of another key (line {first}), expected a secret of its own"
            ));
            return None;
        }
        Some(sha256)
    }

    /// Every parent exists, no account is its own ancestor, and no branch is deeper than the directory takes.
    fn check_tree(&self) {
        let parents: HashMap<&str, &str> = self
            .accounts
            .iter()
            .filter_map(|account| Some((account.id.as_str(), account.parent.as_ref()?.as_str())))
            .collect();
        let mut told: HashSet<&str> = HashSet::new();
        for (account, value) in &self.parents {
            let Some(parent) = value.as_text() else {
                continue;
            };
            if !self.names.refer(value, parent) {
                continue;
            }
            let mut lineage = vec![account.as_str()];
            let mut at = parent;
            loop {
                if at == account.as_str() {
                    // Each circle is told once, at its first account.
                    if !lineage.iter().any(|member| told.contains(member)) {
                        lineage.push(at);
                        value.refuse(format!(
                            "makes an account its own ancestor: {}; expected a tree",
                            lineage.join(" -> ")
                        ));
                    }
                    told.extend(lineage);
                    break;
                }
                if lineage.contains(&at) {
                    // It hangs below a circle, which is told where it is.
                    break;
                }
                lineage.push(at);
                if lineage.len() > Directory::MAX_DEPTH {
                    value.refuse(format!(
                        "lies deeper than {} levels, expected a flatter tree",
                        Directory::MAX_DEPTH
                    ));
                    break;
                }
                match parents.get(at) {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
    }
}

fn tags(value: &Value<'_>) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let table = value.table("a table such as { team = \"search\" }")?;
    let mut tags = Vec::new();
    for (key, name, value) in table.entries() {
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            key.refuse("is not a tag's name, expected 1 to 64 bytes without control characters");
            continue;
        }
        if let Some(text) = short_text(&value, "a text of 1 to 256 bytes") {
            tags.push((Arc::from(name), text));
        }
    }
    if tags.len() > TAGS_MAX {
        value.refuse(format!(
            "has {} tags, expected at most {TAGS_MAX}",
            tags.len()
        ));
    }
    Some(tags)
}

fn short_text(value: &Value<'_>, expected: &str) -> Option<Arc<str>> {
    let text = value.text(expected)?;
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return value.wrong(text, expected);
    }
    Some(text.into())
}

/// `10.0.0.0/8`, or one address.
fn network(value: &Value<'_>) -> Option<ipnet::IpNet> {
    const EXPECTED: &str = "a network such as \"10.0.0.0/8\" or an IP address";
    let text = value.text(EXPECTED)?;
    let network = text
        .parse::<ipnet::IpNet>()
        .ok()
        .or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()));
    match network {
        Some(network) if network.trunc() == network => Some(network),
        Some(network) => value.wrong(
            text,
            &format!(
                "{:?}: bits behind the prefix are not zero",
                network.trunc().to_string()
            ),
        ),
        None => value.wrong(text, EXPECTED),
    }
}

const TAGS_MAX: usize = 32;
