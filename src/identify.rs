//! Who sends a request: header, keyed digest, key, account.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;

use crate::account::{Key, Member};
use crate::dialect::error_body::Code;
use crate::refuse::Refusal;
use crate::secret::{self, Pepper, Secret, SecretSha256};
use crate::snapshot::Snapshot;

/// A request's sender. The next steps take it: nothing is forwarded for nobody.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key.
    pub key: Arc<Key>,
    /// The key's account, with plan and ancestors.
    pub member: Arc<Member>,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whom its last request came from: most connections carry the requests of one key, which need not be hashed each time.
    last: Mutex<Option<Recognised>>,
}

/// A key that was found in a snapshot.
struct Recognised {
    secret: Secret,
    snapshot: Weak<Snapshot>,
    caller: Caller,
}

impl std::fmt::Debug for Recognised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recognised({})", self.caller.key.id)
    }
}

impl Peer {
    /// A connection from this address that has said nothing yet.
    pub fn new(address: SocketAddr) -> Peer {
        Peer {
            address,
            last: Mutex::new(None),
        }
    }

    /// The caller if the same key came last, and nothing was changed since.
    fn recall(&self, secret: &[u8], snapshot: &Arc<Snapshot>) -> Option<Caller> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.as_ref()?;
        let same = std::ptr::eq(last.snapshot.as_ptr(), Arc::as_ptr(snapshot))
            && secret::equal(last.secret.expose().as_bytes(), secret);
        same.then(|| last.caller.clone())
    }

    fn remember(&self, secret: &[u8], snapshot: &Arc<Snapshot>, caller: &Caller) {
        let Ok(secret) = std::str::from_utf8(secret) else {
            return;
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Recognised {
            secret: Secret::new(secret.to_owned()),
            snapshot: Arc::downgrade(snapshot),
            caller: caller.clone(),
        });
    }
}

/// Finds the sender by the key in `Authorization: Bearer`, `x-api-key` or `api-key`.
///
/// # Errors
/// `invalid_api_key` when there is no key, or none that is known and in force: a stranger is not told which.
pub fn identify(
    headers: &HeaderMap,
    peer: &Peer,
    snapshot: &Arc<Snapshot>,
    pepper: &Pepper,
    now: Timestamp,
) -> Result<Caller, Refusal> {
    let secret = sent_secret(headers).ok_or_else(|| {
        Refusal::new(
            Code::InvalidApiKey,
            "No API key was sent: put it in the Authorization header (Authorization: Bearer KEY), in x-api-key or in api-key.",
        )
    })?;
    let unknown = || Refusal::new(Code::InvalidApiKey, "Incorrect API key provided.");
    let caller = match peer.recall(secret, snapshot) {
        Some(caller) => caller,
        None => {
            let directory = &snapshot.directory;
            let key = directory
                .key(&pepper.digest(&SecretSha256::of(secret)))
                .ok_or_else(unknown)?;
            let member = directory.member(&key.account).ok_or_else(unknown)?;
            let caller = Caller {
                key: Arc::clone(key),
                member: Arc::clone(member),
            };
            peer.remember(secret, snapshot, &caller);
            caller
        }
    };
    let ended = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    if ended(caller.key.revoked_at) || ended(caller.key.expires_at) {
        return Err(unknown().detail(format!("key {} is revoked or expired", caller.key.id)));
    }
    Ok(caller)
}

impl Caller {
    /// What this key and account may not do, whatever the quota: wrong network, a closed account, a model out of bounds.
    ///
    /// # Errors
    /// `permission_denied`, with the ledger entry that a known key gets.
    pub fn permit(&self, peer: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        let peer = peer.to_canonical();
        if !self.key.networks.is_empty()
            && !self
                .key
                .networks
                .iter()
                .any(|network| network.contains(&peer))
        {
            return Err(Refusal::new(
                Code::PermissionDenied,
                "This API key may not be used from your network.",
            )
            .detail(format!("key {} was used from {peer}", self.key.id)));
        }
        let today = jiff::tz::Offset::UTC.to_datetime(now).date();
        if self
            .member
            .account
            .until
            .is_some_and(|until| until <= today)
        {
            return Err(Refusal::new(
                Code::PermissionDenied,
                "This account is closed.",
            ));
        }
        Ok(())
    }

    /// Whether the key may use a model.
    pub fn may_use(&self, model: &str) -> bool {
        self.key.models.is_empty() || self.key.models.iter().any(|pattern| pattern.matches(model))
    }
}

fn sent_secret(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, secret) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(secret)
    });
    bearer
        .or_else(|| headers.get("x-api-key").map(|value| value.as_bytes()))
        .or_else(|| headers.get("api-key").map(|value| value.as_bytes()))
        .map(<[u8]>::trim_ascii)
        .filter(|secret| !secret.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_key_is_found_where_each_sdk_puts_it() {
        for (name, value) in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer  k "),
            ("x-api-key", "k"),
            ("api-key", "k"),
        ] {
            let mut map = HeaderMap::new();
            map.insert(name, HeaderValue::from_static(value));
            assert_eq!(sent_secret(&map), Some(&b"k"[..]), "{name}: {value}");
        }
        let mut map = HeaderMap::new();
        map.insert("authorization", HeaderValue::from_static("Basic k"));
        assert_eq!(sent_secret(&map), None);
    }
}
