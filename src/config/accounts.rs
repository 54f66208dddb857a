//! `[[accounts]]` and their keys.

use jiff::Timestamp;

use crate::ids::{AccountId, KeyId};
use crate::plan::{Limit, ModelPattern};
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
