//! Secrets that do not print, and the keyed digests that are kept in their place.

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};

/// A secret in memory: it has no `Display`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The secret itself, for the one place that sends or hashes it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A new client key: `wr-` and 256 random bits in hexadecimal.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Secret, NoRandomness> {
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Secret(format!("wr-{}", hex(&bytes))))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoRandomness;

/// The SHA-256 of a client's key: what a configuration file may hold (`sha256 = "…"`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretSha256(pub [u8; 32]);

impl SecretSha256 {
    /// The digest of a client's key as it was sent.
    pub fn of(secret: &[u8]) -> SecretSha256 {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        SecretSha256(bytes)
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<SecretSha256> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(SecretSha256(bytes))
    }
}

impl fmt::Debug for SecretSha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretSha256(…)")
    }
}

/// What is kept of a client's key: HMAC-SHA-256 of its SHA-256 under the server's own secret.
///
/// Keys have 256 random bits, so a slow hash would only cost time; the server's secret makes a stolen
/// store useless for finding weaker keys that people chose themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// The server's own secret, under which client keys are hashed.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl Pepper {
    /// From the bytes kept in the store or named by the configuration.
    pub fn new(bytes: &[u8]) -> Pepper {
        Pepper(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The keyed digest of a client's key.
    pub fn digest(&self, sha256: &SecretSha256) -> KeyDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.0, &sha256.0).as_ref());
        KeyDigest(bytes)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// Whether two secrets are equal, in time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_says_nothing_of_itself() {
        let secret = Secret::new("hunter2".to_owned());
        let sha256 = SecretSha256::of(b"hunter2");
        let pepper = Pepper::new(b"pepper");
        let said = format!(
            "{secret:?} {sha256:?} {pepper:?} {:?}",
            pepper.digest(&sha256)
        );
        assert_eq!(said, "Secret(…) SecretSha256(…) Pepper(…) KeyDigest(…)");
    }

    #[test]
    fn a_key_has_another_digest_under_another_secret_and_none_is_its_plain_hash() {
        let sha256 = SecretSha256::of(b"hunter2");
        let (one, other) = (Pepper::new(b"one"), Pepper::new(b"other"));
        assert_eq!(one.digest(&sha256), Pepper::new(b"one").digest(&sha256));
        assert_ne!(one.digest(&sha256), other.digest(&sha256));
        assert_ne!(one.digest(&sha256).0, sha256.0);
        assert_eq!(
            hex(&sha256.0),
            "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7"
        );
    }
}
