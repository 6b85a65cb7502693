//! Records of retention: which snapshots were forgotten and brought back, which are held and released, told one after the other.

use crate::model::cleanup::RemovedSnapshot;
use crate::model::hold::{Forgotten, Hold};
use crate::model::record::record_id;
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;

record_id!(
    /// Names a record of retention.
    RetentionId
);

impl RetentionId {
    /// Reads what [`RetentionId::to_bytes`] made.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(SnapshotId::from_bytes(bytes))
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionRecord {
    /// When it was made, to the second.
    pub made: Timestamp,
    /// Host that it was made on.
    pub host: String,
    /// Version of the program.
    pub program: String,
    /// SHA-256 of the objects of the records that its writer had read and that none of those names.
    pub before: Vec<[u8; 32]>,
    /// Whether what it names before it tells nothing more.
    pub is_complete: bool,
    /// Snapshots that are forgotten: each as one object, with where it stood in its sequence.
    pub forgotten: Vec<(RemovedSnapshot, Forgotten)>,
    /// Snapshots that are not forgotten any more.
    pub brought_back: Vec<SnapshotId>,
    /// Snapshots that are held.
    pub held: Vec<(SnapshotId, Hold)>,
    /// Snapshots that are not held any more.
    pub released: Vec<SnapshotId>,
    /// Records that cannot be opened, and whose contents somebody gave up.
    pub given_up: Vec<RetentionId>,
}
