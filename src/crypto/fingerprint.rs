//! The fingerprint of a repository: what people compare, to know that it is theirs.
//!
//! Everything in a repository is checked with the key that a slot names. Whoever can put objects could put a slot that
//! names a key of their own; the fingerprint, on paper or remembered, is what tells the two apart.

use std::fmt;
use std::str::FromStr;

use crate::crypto::crockford;
use crate::crypto::sign::VerifyingKey;
use crate::model::id::RepositoryId;
use crate::model::outcome::{Ended, Outcome};

/// Symbols of a fingerprint, in four groups.
const SYMBOLS: usize = 16;

/// Stands for a repository and the key that checks its signatures: 80 bits of a hash of both.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 10]);

/// Why a text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 16 letters and digits, such as 0123-4567-89AB-CDEF")]
pub struct ParseFingerprintError;

impl Ended for ParseFingerprintError {
    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

impl Fingerprint {
    /// Returns that of the repository with this id, whose signatures this key checks.
    pub fn of(repository: RepositoryId, key: &VerifyingKey) -> Self {
        let hashed = [&b"coffre/1 fingerprint"[..], &repository.0, &key.0].concat();
        let hash = blake3::hash(&hashed);
        Self(hash.as_bytes()[..10].try_into().expect("10 of 32 bytes"))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (halves, _) = self.0.as_chunks::<5>();
        let symbols = halves.iter().flat_map(crockford::symbols);
        symbols.enumerate().try_for_each(|(at, symbol)| {
            if at > 0 && at % 4 == 0 {
                f.write_str("-")?;
            }
            fmt::Write::write_char(f, char::from(symbol))
        })
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    /// Reads what somebody typed: hyphens, spaces and case do not matter, and look-alikes are read as meant.
    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let kept = text.bytes().filter(|byte| !matches!(byte, b'-' | b' '));
        let symbols: Vec<u8> = kept.map(|byte| crockford::meant(byte.to_ascii_uppercase())).collect();
        let symbols: [u8; SYMBOLS] = symbols.try_into().map_err(|_| ParseFingerprintError)?;
        let mut bytes = [0; 10];
        let (halves, _) = symbols.as_chunks::<8>();
        for (half, of) in bytes.as_chunks_mut::<5>().0.iter_mut().zip(halves) {
            *half = crockford::bytes(of).ok_or(ParseFingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_repository_and_key_and_survives_paper() {
        let of = |repository, key| Fingerprint::of(RepositoryId([repository; 16]), &VerifyingKey([key; 32]));
        let fingerprint = of(1, 2);
        assert!(fingerprint != of(1, 3) && fingerprint != of(2, 2));
        let shown = fingerprint.to_string();
        assert_eq!(shown.split('-').map(str::len).collect::<Vec<_>>(), [4; 4], "{shown}");
        let typed = shown.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        for text in [shown.clone(), typed, shown.replace('-', "")] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
        for wrong in ["", "0123-4567-89AB-CDE", "0123-4567-89AB-CDEFG", "0123-4567-89AB-CDEU", "0123-4567-89AB-CDEé"] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(ParseFingerprintError), "{wrong}");
        }
    }
}
