//! Keys, derivation, key slots and sealing: the only place where nonces and AEAD meet.
//!
//! Nothing is invented here: AES-256-GCM comes from `aws-lc-rs`, HKDF-SHA256 from `hkdf`, HPKE with X-Wing from `hpke`,
//! key slots are `age` files, chunk ids are keyed BLAKE3, signatures are Ed25519. Other modules hand over bytes and get
//! bytes; a key never leaves as plain data except into a key slot.
//!
//! Why `aws-lc-rs` and not `aes-gcm`: both seal the same bytes (a test compares them), but `aws-lc-rs` chooses VAES and
//! AVX-512 code at run time and seals 12 to 22 GB/s a core where `aes-gcm` 0.11 reaches 2 to 3; and it is linked already,
//! for TLS. See `docs/performance.md`.

use crate::model::outcome::{Ended, Outcome};

pub mod author;
pub mod chunk_id;
mod crockford;
pub mod derive;
pub mod digest;
pub mod fingerprint;
pub mod identity;
pub mod pack;
pub mod seal;
pub mod secret;
pub mod session;
pub mod sign;
pub mod slot;

/// Why bytes could not be opened, or a key not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The bytes are too short, too long or carry another kind's mark.
    #[error("it is not in the expected form")]
    Malformed,
    /// The commitment stored beside the bytes belongs to another key.
    #[error("it was sealed under another key")]
    OtherKey,
    /// The authentication tag does not fit: the bytes were changed after sealing.
    #[error("authentication failed: the stored bytes were changed")]
    Forged,
    /// A signature does not fit.
    #[error("the signature is not valid")]
    BadSignature,
    /// A public or private key is not valid.
    #[error("a key in it is not valid")]
    BadKey,
}

impl Ended for CryptoError {
    fn outcome(&self) -> Outcome {
        Outcome::Damaged
    }
}

/// Returns `N` random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness to give; nothing may be sealed then.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids, salts and keys are made of it: whatever replaced it would be seen here.
    #[test]
    fn random_bytes_never_come_twice() {
        let drawn: std::collections::BTreeSet<[u8; 16]> = (0..100).map(|_| random()).collect();
        assert_eq!(drawn.len(), 100);
        let ones: u32 = drawn.iter().flatten().map(|byte| byte.count_ones()).sum();
        assert!((5_600..7_200).contains(&ones), "{ones} of 12 800 bits");
    }

    #[test]
    fn what_cannot_be_opened_is_damage() {
        use CryptoError::*;
        assert!([Malformed, OtherKey, Forged, BadSignature, BadKey].iter().all(|it| it.outcome() == Outcome::Damaged));
    }
}
