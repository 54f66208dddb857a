//! What operators made by hand, as the JSON that stores keep: the same text in every store.

use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::store::{StoreError, StoredKey};
use crate::account::Key;
use crate::ids::{AccountId, KeyId};
use crate::plan::{Limit, ModelPattern};
use crate::secret::KeyDigest;

/// A plan, an account or a change as text.
pub(super) fn to_text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Refused(error.to_string()))
}

/// The value of such a text.
pub(super) fn of_text<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged(format!("a stored row cannot be read: {error}")))
}

/// A key without its digest, which has a column of its own.
#[derive(Serialize, Deserialize)]
struct KeyBody {
    account: AccountId,
    models: Vec<ModelPattern>,
    networks: Vec<String>,
    limits: Vec<Limit>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

/// A key's text.
pub(super) fn key_to_text(stored: &StoredKey) -> Result<String, StoreError> {
    let key = &stored.key;
    to_text(&KeyBody {
        account: key.account.clone(),
        models: key.models.clone(),
        networks: key.networks.iter().map(ToString::to_string).collect(),
        limits: key.limits.clone(),
        created_at: stored.created_at,
        expires_at: key.expires_at,
        revoked_at: key.revoked_at,
    })
}

/// The key of such a text.
pub(super) fn key_of_text(id: KeyId, digest: &[u8], text: &str) -> Result<StoredKey, StoreError> {
    let body: KeyBody = of_text(text)?;
    let networks = body
        .networks
        .iter()
        .map(|network| ipnet::IpNet::from_str(network))
        .collect::<Result<_, _>>()
        .map_err(|error| StoreError::Damaged(format!("key {id}: {error}")))?;
    Ok(StoredKey {
        key: Key {
            account: body.account,
            digest: digest_of(digest)?,
            models: body.models,
            networks,
            expires_at: body.expires_at,
            revoked_at: body.revoked_at,
            limits: body.limits,
            id,
        },
        created_at: body.created_at,
    })
}

/// A digest from its column.
pub(super) fn digest_of(bytes: &[u8]) -> Result<KeyDigest, StoreError> {
    bytes
        .try_into()
        .map(KeyDigest)
        .map_err(|_| StoreError::Damaged("a key's digest has another length".into()))
}

/// A new secret for key digests.
pub(super) fn new_pepper() -> Result<[u8; 32], StoreError> {
    let mut pepper = [0; 32];
    aws_lc_rs::rand::fill(&mut pepper)
        .map_err(|_| StoreError::Unavailable(crate::secret::NoRandomness.to_string()))?;
    Ok(pepper)
}
