//! Secrets in memory: boxed, wiped when dropped, never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A key of 32 bytes.
///
/// It is kept on the heap so that moving it leaves no copies behind, wiped when dropped, and shown as `Secret(…)`.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Takes a key, wiping the array it came in.
    pub fn take(bytes: &mut [u8; 32]) -> Self {
        let secret = Self(Box::new(*bytes));
        bytes.zeroize();
        secret
    }

    /// Makes a random key.
    pub fn random() -> Self {
        let mut secret = Self(Box::new([0; 32]));
        getrandom::fill(&mut *secret.0).expect("the operating system gives random bytes");
        secret
    }

    /// Takes a key from a slice, or `None` when it is not 32 bytes long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 32 {
            return None;
        }
        let mut secret = Self(Box::new([0; 32]));
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// Lends the key to what computes with it.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A passphrase or recovery code; wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Passphrase(String);

impl Passphrase {
    /// Takes a passphrase.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Tells whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::chunk_id::ChunkHasher;
    use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey};
    use crate::crypto::session::{DomainSecretKey, SessionSecret};
    use crate::crypto::slot::SlotLock;
    use crate::model::id::{DomainEpoch, DomainId};

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let shown = format!("{:?} {:?}", Secret::take(&mut [0x41; 32]), Passphrase::new("hunter2".into()));
        assert_eq!(shown, "Secret(…) Passphrase(…)");
    }

    /// Whatever holds a secret is printed without it, by all the ways in which numbers are printed.
    #[test]
    fn nothing_that_holds_a_secret_shows_it() {
        let secret = || Secret::take(&mut [0xa7; 32]);
        let at = DomainEpoch { domain: DomainId([1; 16]), epoch: 1 };
        let dedup = || DedupSecret { secret: secret(), at };
        let words = || Passphrase::new("COFFRE-RECOVERY-A7A7".into());
        let held: [&dyn fmt::Debug; 9] = [
            &ReaderKey(secret()),
            &WriterKey(secret()),
            &dedup(),
            &DomainSecretKey(secret()),
            &SessionSecret(secret()),
            &ChunkHasher::new(&dedup()),
            &SlotLock::Passphrase(words()),
            &SlotLock::Recovery(words()),
            &Some((secret(), words())),
        ];
        for holder in held {
            let shown = format!("{holder:?} {holder:#?} {holder:x?} {holder:X?}");
            for trace in ["167", "a7", "A7"] {
                assert!(!shown.contains(trace), "{shown}");
            }
        }
    }

    #[test]
    fn a_secret_is_taken_from_as_many_bytes_as_it_has() {
        assert_eq!(Secret::from_slice(&[3; 32]).map(|secret| *secret.expose()), Some([3; 32]));
        assert!(Secret::from_slice(&[3; 31]).is_none());
        let mut given = [3; 32];
        Secret::take(&mut given);
        assert_eq!(given, [0; 32], "what it came in is wiped");
    }
}
