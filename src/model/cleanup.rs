//! Lists of cleaning up: what is to be deleted, which sessions were given up, which snapshots were there, and what is gone.

use std::fmt;

use crate::model::id::{PackId, SessionId, parse_hex, write_hex};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;

/// Names a list: its number in the chain of its domain, and eight random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CleanupId {
    /// One more than the highest number that its writer had read.
    pub counter: u64,
    /// The part that makes the name unique.
    pub random: [u8; 8],
}

impl CleanupId {
    /// Reads a name below `cleanup/`.
    pub fn from_object_name(name: &str) -> Option<Self> {
        let (counter, random) = name.split_once('-')?;
        let id = Self { counter: counter.parse().ok()?, random: parse_hex(random)? };
        (id.to_string() == name).then_some(id)
    }

    /// Returns 16 bytes that stand for this id in key derivation: the number (big-endian) and the random part.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.counter.to_be_bytes());
        bytes[8..].copy_from_slice(&self.random);
        bytes
    }
}

impl fmt::Display for CleanupId {
    /// Writes the name below `cleanup/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}-", self.counter)?;
        write_hex(&self.random, f)
    }
}

impl fmt::Debug for CleanupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CleanupId({self})")
    }
}

/// One list of a clean-up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CleanupList {
    /// When it was made, to the second.
    pub made: Timestamp,
    /// Packs that are to be deleted.
    pub packs: Vec<PackId>,
    /// Sessions that are not waited for any longer.
    pub given_up: Vec<SessionId>,
    /// Snapshots that were there and are not accounted for by a list before, with the SHA-256 of their objects.
    pub accounted: Vec<(SnapshotId, [u8; 32])>,
    /// Names of objects that count as gone, whether they are there or not.
    pub gone: Vec<String>,
    /// Its packs are being deleted.
    pub is_deleting: bool,
    /// SHA-256 of the object of the list before it; none for the first.
    pub before: Option<[u8; 32]>,
    /// The number of the list in which all its packs were doomed first; its own when there is none.
    pub first: Option<u64>,
    /// Snapshots of writers that are about to be thrown out, which count for as long as the keyring names this list, with the SHA-256
    /// of their objects.
    pub counting: Vec<(SnapshotId, [u8; 32])>,
    /// Its packs were found damaged: it is honoured however old it is, and nothing is deleted because of it.
    pub is_of_damage: bool,
    /// Snapshots that were removed: they count as gone, and their sequences are whole without them.
    pub removed: Vec<RemovedSnapshot>,
    /// It tells again all that still matters of the lists before it that it names as gone.
    pub is_complete: bool,
}

/// A snapshot that was removed, and where it stood: what links the one behind it with the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedSnapshot {
    /// Its name.
    pub id: SnapshotId,
    /// SHA-256 of its object.
    pub digest: [u8; 32],
    /// SHA-256 of the object of the one before it in its sequence; none of the first.
    pub before: Option<[u8; 32]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_not_taken() {
        let id = CleanupId { counter: 12, random: [0xab; 8] };
        assert_eq!(id.to_string(), "00000012-abababababababab");
        assert_eq!(CleanupId::from_object_name(&id.to_string()), Some(id));
        let long = CleanupId { counter: 1_234_567_890, random: [1; 8] };
        assert_eq!(CleanupId::from_object_name(&long.to_string()), Some(long));
        assert_eq!(id.to_bytes()[..8], [0, 0, 0, 0, 0, 0, 0, 12]);
        for name in ["12-abababababababab", "+0000012-abababababababab", "00000012-ABABABABABABABAB", "00000012-ab", ""]
        {
            assert_eq!(CleanupId::from_object_name(name), None, "{name}");
        }
    }
}
