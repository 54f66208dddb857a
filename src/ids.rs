//! Identifiers: one type for each kind, so that none can stand where another is meant.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text cannot be an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 128 characters of letters, digits and . _ : @ -")]
pub struct InvalidId;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads an identifier made by a person.
            ///
            /// # Errors
            /// [`InvalidId`]: ids end up in headers, metrics and paths, so their alphabet is small.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte);
                if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId)
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// From text that is known to be valid: the store's own, or a literal.
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        /// From text that is known to be valid and already shared.
        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

identifier!(
    /// Who pays: a customer, a team, a person.
    AccountId
);
identifier!(
    /// A client's key, by its name; never the secret.
    KeyId
);
identifier!(
    /// What an account pays and may use.
    PlanId
);
identifier!(
    /// An API that requests are forwarded to.
    UpstreamId
);

/// The name of a model: any text that a client or an upstream uses, at most [`ModelName::MAX_BYTES`] long.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// Longer names are cut: they come from outside and are kept in the ledger.
    pub const MAX_BYTES: usize = 256;

    /// A model's name; control characters are dropped and long names cut, so that it can stand in a header or a log.
    pub fn new(text: &str) -> Self {
        if text.len() <= Self::MAX_BYTES && !text.bytes().any(|byte| byte.is_ascii_control()) {
            return Self(text.into());
        }
        let mut kept = String::with_capacity(Self::MAX_BYTES);
        for c in text.chars().filter(|c| !c.is_control()) {
            if kept.len() + c.len_utf8() > Self::MAX_BYTES {
                break;
            }
            kept.push(c);
        }
        Self(kept.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ModelName {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The name of one ledger entry. A request's is a UUIDv7 of the millisecond in which it began, a correction's one of the
/// millisecond in which the request that it corrects began, so that ids sort by time. The bill of a response that was made in
/// the background is named after that response, by a UUIDv8, and says no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub uuid::Uuid);

impl RequestId {
    /// A new id.
    pub fn new() -> Self {
        Self::at(jiff::Timestamp::now())
    }

    /// A new id of a request that began at this moment. Its random part is no secret, so it costs no system call.
    pub fn at(moment: jiff::Timestamp) -> Self {
        let millis = u64::try_from(moment.as_millisecond()).unwrap_or(0);
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// When the request of this id began, in milliseconds since 1970; `None` of an id that does not say.
    pub fn began_ms(self) -> Option<i64> {
        (self.0.get_version_num() == 7).then(|| (self.0.as_u128() >> 80) as i64)
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
