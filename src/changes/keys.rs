//! Keys: create, rotate, revoke. A new secret leaves here once and is kept nowhere.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{ChangeError, Changes, Kind, today, unfit};
use crate::account::Key;
use crate::ids::KeyId;
use crate::ledger::store::StoredKey;
use crate::plan::{Limit, ModelPattern};
use crate::secret::{KeyDigest, Secret, SecretSha256};

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// The account that it belongs to.
    pub account: String,
    /// Its name; made up without.
    pub id: Option<String>,
    /// The only models it may use: names or globs.
    pub models: Vec<String>,
    /// The only networks it may be used from.
    pub networks: Vec<ipnet::IpNet>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Limits of its own.
    pub limits: Vec<Limit>,
}

/// A key that was made, with the one sight of its secret.
#[derive(Debug)]
pub struct MadeKey {
    /// The key.
    pub key: Key,
    /// What clients send.
    pub secret: Secret,
}

/// A network that a key may be used from, or one address. Bits behind the prefix are dropped.
///
/// # Errors
/// What a network is, for whoever wrote something else.
pub fn network(text: &str) -> Result<ipnet::IpNet, &'static str> {
    text.parse::<ipnet::IpNet>()
        .ok()
        .or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()))
        .map(|network| network.trunc())
        .ok_or("expected a network such as 10.0.0.0/8 or an IP address")
}

impl Changes<'_> {
    /// The key of that name.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`].
    pub fn key(&self, id: &str) -> Result<&Arc<Key>, ChangeError> {
        let mut keys = self.directory.keys();
        keys.find(|key| key.id.as_str() == id)
            .ok_or_else(|| ChangeError::Unknown {
                kind: Kind::Key,
                id: id.to_owned(),
            })
    }

    /// Makes a key.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn create_key(&self, new: NewKey) -> Result<MadeKey, ChangeError> {
        let Some(member) = self.directory.member(&new.account.as_str().into()) else {
            return Err(unfit(
                "account",
                format!("there is no account {}", new.account),
            ));
        };
        let account = &member.account;
        if account.until.is_some_and(|until| until <= today()) {
            return Err(unfit(
                "account",
                format!("account {} is closed", account.id),
            ));
        }
        let id = match &new.id {
            Some(id) => KeyId::parse(id).map_err(|error| unfit("id", error.to_string()))?,
            None => fresh_id(account.id.as_str())?,
        };
        if self.key(id.as_str()).is_ok() {
            return Err(ChangeError::Taken {
                kind: Kind::Key,
                id: id.to_string(),
            });
        }
        if new.expires_at.is_some_and(|at| at <= Timestamp::now()) {
            return Err(unfit(
                "expires_at",
                "that lies in the past: the key would never work",
            ));
        }
        let mut models = new.models.iter();
        if let Some(model) = models.find(|model| !(1..=256).contains(&model.len())) {
            return Err(unfit(
                "models",
                format!("{model:?} is no model's name or glob of 1 to 256 bytes"),
            ));
        }
        self.keep(Key {
            id,
            account: account.id.clone(),
            digest: NO_DIGEST,
            models: new
                .models
                .iter()
                .map(|model| ModelPattern::new(model))
                .collect(),
            networks: new.networks,
            expires_at: new.expires_at,
            revoked_at: None,
            limits: new.limits,
        })
    }

    /// Makes a successor of a key. The old one goes on working for `overlap`, and at most to its own end.
    /// Answers the successor and the moment at which the old key ends.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn rotate_key(
        &self,
        id: &str,
        overlap: SignedDuration,
    ) -> Result<(MadeKey, Timestamp), ChangeError> {
        let old = self.key(id)?;
        if self.config.keys.iter().any(|key| key.id == old.id) {
            return Err(ChangeError::Declared {
                kind: Kind::Key,
                id: id.to_owned(),
            });
        }
        let now = Timestamp::now();
        let ended = old.expires_at.is_some_and(|at| at <= now);
        if old.revoked_at.is_some() || ended {
            return Err(unfit("key", format!("key {id} no longer works")));
        }
        let ends = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        let ends = old.expires_at.map_or(ends, |at| at.min(ends));
        let made = self.keep(Key {
            id: fresh_id(old.account.as_str())?,
            digest: NO_DIGEST,
            expires_at: None,
            ..Key::clone(old)
        })?;
        let fading = StoredKey {
            key: Key {
                expires_at: Some(ends),
                ..Key::clone(old)
            },
            created_at: now,
        };
        let detail = json!({ "expires_at": ends, "successor": made.key.id });
        // The successor is there: nothing that happens now may keep the old one from ending.
        self.store
            .put_key(&fading, None, &self.audit("key.rotate", id, &detail))?;
        Ok((made, ends))
    }

    /// Ends a key at once, on every gateway, also one that the configuration file declares.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn revoke_key(&self, id: &str) -> Result<(), ChangeError> {
        let key = self.key(id)?;
        if key.revoked_at.is_some() {
            return Ok(());
        }
        let audit = self.audit("key.revoke", id, &json!({ "account": key.account }));
        let now = Timestamp::now();
        Ok(self.store.revoke_key(&key.id, &key.digest, now, &audit)?)
    }

    /// Gives a key its secret and keeps its digest.
    fn keep(&self, key: Key) -> Result<MadeKey, ChangeError> {
        let secret = Secret::generate()?;
        let key = Key {
            digest: self
                .pepper
                .digest(&SecretSha256::of(secret.expose().as_bytes())),
            ..key
        };
        let models: Vec<String> = key.models.iter().map(ModelPattern::pattern).collect();
        let detail =
            json!({ "account": key.account, "models": models, "expires_at": key.expires_at });
        let audit = self.audit("key.create", key.id.as_str(), &detail);
        let stored = StoredKey {
            key: key.clone(),
            created_at: Timestamp::now(),
        };
        self.store.put_key(&stored, Some(self.version), &audit)?;
        Ok(MadeKey { key, secret })
    }
}

/// Stands in for the digest until the secret is made.
const NO_DIGEST: KeyDigest = KeyDigest([0; 32]);

/// A name that nobody has: the account's and eight random digits.
fn fresh_id(account: &str) -> Result<KeyId, ChangeError> {
    let random = Secret::generate()?;
    let digits = random.expose().get(3..11).unwrap_or_default();
    // Names have at most 128 bytes, all of them ASCII.
    let account = account.get(..account.len().min(100)).unwrap_or_default();
    Ok(KeyId::from(format!("{account}-{digits}").as_str()))
}
