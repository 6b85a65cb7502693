//! Identifiers: each kind of thing has its own type, so the compiler keeps a pack and a chunk apart.

use std::fmt;
use std::str::FromStr;

use crate::model::outcome::{Ended, Outcome};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id ({digits} hexadecimal digits)")]
pub struct ParseIdError {
    kind: &'static str,
    digits: usize,
    text: String,
}

impl Ended for ParseIdError {
    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// Writes `bytes` as lower-case hexadecimal digits.
pub fn write_hex(bytes: &[u8], out: &mut impl fmt::Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Returns `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    write_hex(bytes, &mut text).expect("text takes anything");
    text
}

/// Reads any number of bytes from hexadecimal digits of either case.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? << 4 | digit(*pair.get(1)?)?).ok();
    text.as_bytes().chunks(2).map(pair).collect()
}

/// Reads exactly `N` bytes from lower-case hexadecimal digits.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Returns the id's bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Returns the first eight hexadecimal digits, enough for people to tell ids apart.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseIdError {
                    kind: $kind,
                    digits: 2 * $len,
                    text: text.to_owned(),
                })
            }
        }
    };
}

id_type!(
    /// Names a repository; random, made at `init`, part of everything that is authenticated.
    RepositoryId, 16, "repository"
);
id_type!(
    /// Names a chunk: the keyed BLAKE3 hash of its plaintext.
    ChunkId, 32, "chunk"
);
id_type!(
    /// The first half of a [`ChunkId`], by which index segments and pack directories look chunks up.
    ChunkKey, 16, "chunk key"
);
id_type!(
    /// Names a pack; random, and the salt of the pack's key.
    PackId, 16, "pack"
);
id_type!(
    /// Names an index segment; random.
    SegmentId, 16, "index segment"
);
id_type!(
    /// Names a session, which is one writing run; random.
    SessionId, 16, "session"
);
id_type!(
    /// Names a domain; random.
    DomainId, 16, "domain"
);
id_type!(
    /// Names a key slot; random.
    SlotId, 8, "key slot"
);

id_type!(
    /// Names a writer: a host with a key of its own; random, and not zero.
    WriterId, 8, "writer"
);

impl ChunkId {
    /// Returns the part of the id that index segments and pack directories hold.
    pub fn key(&self) -> ChunkKey {
        ChunkKey(self.0[..16].try_into().expect("16 of 32 bytes"))
    }
}

/// One epoch of a domain: what keys, chunk ids and everything sealed belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainEpoch {
    /// The domain.
    pub domain: DomainId,
    /// Counts the domain's keys.
    pub epoch: u32,
}

impl fmt::Display for DomainEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {} epoch {}", self.domain, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_rejects_other_spellings() {
        let id = SlotId([0x00, 0x01, 0xab, 0xcd, 0xef, 0x10, 0x20, 0xff]);
        assert_eq!(id.to_string(), "0001abcdef1020ff");
        assert_eq!("0001abcdef1020ff".parse(), Ok(id));
        for bad in ["", "0001abcdef1020f", "0001ABCDEF1020FF", "0001abcdef1020fg", "0001abcdef1020ff00"] {
            assert!(bad.parse::<SlotId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_shows_eight_digits() {
        assert_eq!(format!("{:?}", PackId([0xab; 16])), "PackId(abababab)");
    }
}
