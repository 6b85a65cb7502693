//! Records of verifications: which packs were read when, so that the next run goes on and anybody can tell.

use crate::model::id::PackId;
use crate::model::record::record_id;
use crate::model::time::Timestamp;

record_id!(
    /// Names a record of a verification.
    VerifiedId
);

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
