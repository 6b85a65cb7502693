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
        let mut array: [u8; 32] = bytes.try_into().ok()?;
        Some(Self::take(&mut array))
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
#[derive(Clone, ZeroizeOnDrop)]
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

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let shown = format!("{:?} {:?}", Secret::take(&mut [0x41; 32]), Passphrase::new("hunter2".into()));
        assert_eq!(shown, "Secret(…) Passphrase(…)");
    }
}
