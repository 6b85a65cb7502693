//! Records of verifications: which packs were read when, so that the next run goes on and anybody can tell.

use crate::model::id::PackId;
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;

/// Names a record: a second that is later than that of every record its writer knew, and eight random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifiedId(SnapshotId);

impl VerifiedId {
    /// Makes the id of a record of the second `at`.
    pub fn new(at: Timestamp, random: [u8; 8]) -> Self {
        Self(SnapshotId::new(at, random))
    }

    /// Returns the second in the name.
    pub fn time(&self) -> Timestamp {
        self.0.time()
    }

    /// Returns the name below `verified/`, of the form of a snapshot's.
    pub fn object_name(&self) -> String {
        self.0.object_name()
    }

    /// Reads a name below `verified/`.
    pub fn from_object_name(name: &str) -> Option<Self> {
        SnapshotId::from_object_name(name).map(Self)
    }

    /// Returns 16 bytes that stand for this id in key derivation: seconds (big-endian) and the random part.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

/// What one verification read, and what it knew of those before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// When the run ended.
    pub finished: Timestamp,
    /// Host that it ran on.
    pub host: String,
    /// Version of the program.
    pub program: String,
    /// The pack behind which reading in parts goes on.
    pub cursor: Option<PackId>,
    /// Whether earlier records tell nothing more.
    pub is_complete: bool,
    /// Packs by the time at which they were last read whole, to the second.
    pub read: Vec<(Timestamp, Vec<PackId>)>,
}
