//! Values to bytes and back: pure, total, versioned. `docs/format.md` is the byte-level specification.
//!
//! Every decoder here takes bytes that a provider may have made up: any input gives a value or a [`FormatError`], with
//! memory bounded by the input's length. No decoder panics: `tests/it/decoders.rs` and libFuzzer (`tests/fuzz`) hold them to it.

use crate::model::author::Author;
use crate::model::outcome::{Ended, Outcome};

pub mod cleanup;
pub mod config;
mod dedup;
pub mod evidence;
pub mod index;
pub mod keyring;
pub mod lease;
mod name;
pub mod object;
pub mod pack;
pub mod recipe;
pub mod retention;
pub mod slot;
pub mod snapshot;
pub mod tree;
pub mod verified;
pub(crate) mod wire;
pub mod writer;

/// The version of the repository format that this program writes.
pub const FORMAT_VERSION: u64 = 1;

/// Why bytes are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early, or a number in them points past their end.
    #[error("{0} ends too early")]
    Truncated(&'static str),
    /// The bytes do not begin with the mark of what they should be.
    #[error("it is not {0}")]
    WrongMark(&'static str),
    /// A field has a value that no program writes.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The record concerned.
        what: &'static str,
        /// The field and what is wrong with it.
        why: String,
    },
    /// Nobody with the key of its author can be asked: the keyring does not have him.
    #[error("{what} is by {author}, whom the keyring does not have")]
    UnknownAuthor {
        /// The record concerned.
        what: &'static str,
        /// Who it says wrote it.
        author: Author,
    },
    /// A newer program wrote it.
    #[error("{what} has version {version}, which this program does not know; use a newer coffre")]
    Newer {
        /// The record concerned.
        what: &'static str,
        /// The version found.
        version: u64,
    },
}

impl Ended for FormatError {
    fn outcome(&self) -> Outcome {
        match self {
            FormatError::Truncated(_)
            | FormatError::WrongMark(_)
            | FormatError::Invalid { .. }
            | FormatError::UnknownAuthor { .. } => Outcome::Damaged,
            FormatError::Newer { .. } => Outcome::Refused,
        }
    }
}

impl FormatError {
    pub(crate) fn invalid(what: &'static str, why: impl std::fmt::Display) -> Self {
        FormatError::Invalid { what, why: why.to_string() }
    }
}

/// Writes a number of unknown size in few bytes: seven bits a byte, the lowest first (LEB128).
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_written_is_damage_and_what_is_newer_is_refused() {
        let (what, author) = ("a snapshot", Author::Reader);
        for damaged in [
            FormatError::Truncated(what),
            FormatError::WrongMark(what),
            FormatError::invalid(what, "why"),
            FormatError::UnknownAuthor { what, author },
        ] {
            assert_eq!(damaged.outcome(), Outcome::Damaged, "{damaged}");
        }
        assert_eq!(FormatError::Newer { what, version: 2 }.outcome(), Outcome::Refused);
        assert_eq!(FormatError::invalid(what, "why").to_string(), "a snapshot is not valid: why");
    }
}
