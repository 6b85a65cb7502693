//! Object keys: the names of a repository's objects inside a store.
//!
//! Every object but a lease is written once, under a name that no other writer can choose, so a replica is brought
//! up to date by copying the names it lacks.

use std::fmt;

use crate::model::cleanup::CleanupId;
use crate::model::forgetting::RetentionId;
use crate::model::id::{PackId, SegmentId, SessionId, SlotId};
use crate::model::run::RunId;
use crate::model::snapshot::SnapshotId;
use crate::model::verified::VerifiedId;

/// The longest pack, in bytes: the largest target, a frame that goes beyond it, and the directory.
pub const PACK_BYTES_MAX: u64 = 768 << 20;

/// The kinds of objects, each under a prefix of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Signed settings of the repository.
    Config,
    /// Key slots (age files).
    Key,
    /// Signed lists of domains and their wrapped keys.
    Keyring,
    /// Leases of running operations.
    Session,
    /// Data and tree packs.
    Pack,
    /// Index segments.
    Index,
    /// Sealed manifests of completed runs.
    Snapshot,
    /// Lists of cleaning up: what is to be deleted, and what is gone.
    Cleanup,
    /// Records of retention: which snapshots are forgotten, which are held.
    Retention,
    /// Records of verifications.
    Verified,
    /// Signed records of runs.
    Evidence,
}

impl ObjectKind {
    /// All kinds, each behind those that it refers to.
    pub const ALL: [ObjectKind; 11] = [
        ObjectKind::Config,
        ObjectKind::Key,
        ObjectKind::Keyring,
        ObjectKind::Session,
        ObjectKind::Pack,
        ObjectKind::Index,
        ObjectKind::Cleanup,
        ObjectKind::Snapshot,
        ObjectKind::Retention,
        ObjectKind::Verified,
        ObjectKind::Evidence,
    ];

    /// Returns the prefix under which objects of this kind are kept, with its slash.
    pub fn prefix(self) -> &'static str {
        match self {
            ObjectKind::Config => "config/",
            ObjectKind::Key => "keys/",
            ObjectKind::Keyring => "keyring/",
            ObjectKind::Session => "sessions/",
            ObjectKind::Pack => "packs/",
            ObjectKind::Index => "index/",
            ObjectKind::Snapshot => "snapshots/",
            ObjectKind::Cleanup => "cleanup/",
            ObjectKind::Retention => "retention/",
            ObjectKind::Verified => "verified/",
            ObjectKind::Evidence => "evidence/",
        }
    }

    /// Returns how long an object of this kind is at most, in bytes. A longer one is damaged, whatever is in it, and is not
    /// fetched.
    pub fn bytes_max(self) -> u64 {
        match self {
            ObjectKind::Key | ObjectKind::Session | ObjectKind::Evidence => 64 << 10,
            ObjectKind::Snapshot => 4 << 20,
            ObjectKind::Config | ObjectKind::Keyring | ObjectKind::Retention | ObjectKind::Index => 16 << 20,
            ObjectKind::Cleanup | ObjectKind::Verified => 64 << 20,
            ObjectKind::Pack => PACK_BYTES_MAX,
        }
    }
}

/// The name of one object, relative to the repository's place in the store.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Takes a name as a store lists it. Any text is accepted; [`ObjectKey::kind`] tells whether it is one of ours.
    pub fn from_listed(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Returns the name of the `counter`th configuration written by the holder of `random`.
    pub fn config(counter: u64, random: [u8; 8]) -> Self {
        Self(format!("config/{counter:08}-{}", SlotId(random)))
    }

    /// Returns the name of the `counter`th keyring.
    pub fn keyring(counter: u64, random: [u8; 8]) -> Self {
        Self(format!("keyring/{counter:08}-{}", SlotId(random)))
    }

    /// Returns the name of a key slot.
    pub fn slot(id: SlotId) -> Self {
        Self(format!("keys/{id}.age"))
    }

    /// Returns the name of a session's lease.
    pub fn session(id: SessionId) -> Self {
        Self(format!("sessions/{id}"))
    }

    /// Returns the name of a pack, sharded by its first byte.
    pub fn pack(id: PackId) -> Self {
        Self(format!("packs/{:02x}/{id}", id.0[0]))
    }

    /// Returns the name of an index segment.
    pub fn segment(id: SegmentId) -> Self {
        Self(format!("index/{id}"))
    }

    /// Returns the name of a list of cleaning up.
    pub fn cleanup(id: CleanupId) -> Self {
        Self(format!("cleanup/{id}"))
    }

    /// Returns the name of a snapshot.
    pub fn snapshot(id: SnapshotId) -> Self {
        Self(format!("snapshots/{}", id.object_name()))
    }

    /// Returns the name of a record of retention.
    pub fn retention(id: RetentionId) -> Self {
        Self(format!("retention/{}", id.object_name()))
    }

    /// Returns the name of a record of a verification.
    pub fn verified(id: VerifiedId) -> Self {
        Self(format!("verified/{}", id.object_name()))
    }

    /// Returns the name of a record of a run.
    pub fn run(id: RunId) -> Self {
        Self(format!("evidence/{}", id.object_name()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part after the last slash.
    pub fn base_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the kind that the prefix tells, or `None` for a name that coffre does not use.
    pub fn kind(&self) -> Option<ObjectKind> {
        ObjectKind::ALL.into_iter().find(|kind| self.0.starts_with(kind.prefix()))
    }

    /// Returns how long the object may be, in bytes; one of a name that coffre does not use, as long as any.
    pub fn bytes_max(&self) -> u64 {
        self.kind().map_or(PACK_BYTES_MAX, ObjectKind::bytes_max)
    }

    /// Tells whether the name has the form of an object of this repository; anything else was left by other programs, and is
    /// neither read nor deleted.
    pub fn is_ours(&self) -> bool {
        match self.kind() {
            None => false,
            Some(ObjectKind::Config | ObjectKind::Keyring) => self.counter().is_some(),
            Some(ObjectKind::Key) => self.slot_id().is_some(),
            Some(ObjectKind::Session) => self.session_id().is_some(),
            Some(ObjectKind::Pack) => self.pack_id().is_some(),
            Some(ObjectKind::Index) => self.segment_id().is_some(),
            Some(ObjectKind::Snapshot) => self.snapshot_id().is_some(),
            Some(ObjectKind::Cleanup) => self.cleanup_id().is_some(),
            Some(ObjectKind::Retention) => self.retention_id().is_some(),
            Some(ObjectKind::Verified) => self.verified_id().is_some(),
            Some(ObjectKind::Evidence) => self.run_id().is_some(),
        }
    }

    /// Returns the session's id if this is the name of a lease.
    pub fn session_id(&self) -> Option<SessionId> {
        let id: SessionId = self.base_name().parse().ok()?;
        (ObjectKey::session(id) == *self).then_some(id)
    }

    /// Returns the pack's id if this is the name of a pack.
    pub fn pack_id(&self) -> Option<PackId> {
        let id: PackId = self.base_name().parse().ok()?;
        (ObjectKey::pack(id) == *self).then_some(id)
    }

    /// Returns the segment's id if this is the name of an index segment.
    pub fn segment_id(&self) -> Option<SegmentId> {
        let id: SegmentId = self.base_name().parse().ok()?;
        (ObjectKey::segment(id) == *self).then_some(id)
    }

    /// Returns the list's id if this is the name of a list of cleaning up.
    pub fn cleanup_id(&self) -> Option<CleanupId> {
        let id = CleanupId::from_object_name(self.base_name())?;
        (ObjectKey::cleanup(id) == *self).then_some(id)
    }

    /// Returns the snapshot's id if this is the name of a snapshot.
    pub fn snapshot_id(&self) -> Option<SnapshotId> {
        let id = SnapshotId::from_object_name(self.base_name())?;
        (ObjectKey::snapshot(id) == *self).then_some(id)
    }

    /// Returns the record's id if this is the name of a record of retention.
    pub fn retention_id(&self) -> Option<RetentionId> {
        let id = RetentionId::from_object_name(self.base_name())?;
        (ObjectKey::retention(id) == *self).then_some(id)
    }

    /// Returns the record's id if this is the name of a record of a verification.
    pub fn verified_id(&self) -> Option<VerifiedId> {
        let id = VerifiedId::from_object_name(self.base_name())?;
        (ObjectKey::verified(id) == *self).then_some(id)
    }

    /// Returns the record's id if this is the name of a record of a run.
    pub fn run_id(&self) -> Option<RunId> {
        let id = RunId::from_object_name(self.base_name())?;
        (ObjectKey::run(id) == *self).then_some(id)
    }

    /// Returns the slot's id if this is the name of a key slot.
    pub fn slot_id(&self) -> Option<SlotId> {
        let id: SlotId = self.base_name().strip_suffix(".age")?.parse().ok()?;
        (ObjectKey::slot(id) == *self).then_some(id)
    }

    /// Returns the counter if this is the name of a configuration or keyring.
    pub fn counter(&self) -> Option<u64> {
        let (counter, random) = self.base_name().split_once('-')?;
        let (counter, random) = (counter.parse().ok()?, random.parse::<SlotId>().ok()?.0);
        let names = [ObjectKey::config(counter, random), ObjectKey::keyring(counter, random)];
        names.contains(self).then_some(counter)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectKey({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_key_is_sharded_and_reads_back() {
        let id = PackId([0x3f; 16]);
        let key = ObjectKey::pack(id);
        assert_eq!(key.as_str(), "packs/3f/3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f");
        assert_eq!(key.kind(), Some(ObjectKind::Pack));
        assert_eq!(key.pack_id(), Some(id));
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for name in ["", "lost+found", "packs/00/3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f", "packs/x"] {
            assert_eq!(ObjectKey::from_listed(name).pack_id(), None, "{name}");
        }
        assert_eq!(ObjectKey::from_listed("elsewhere/x").kind(), None);
    }

    #[test]
    fn counters_are_read_from_names() {
        assert_eq!(ObjectKey::keyring(12, [7; 8]).counter(), Some(12));
        assert_eq!(ObjectKey::pack(PackId([0; 16])).counter(), None);
    }

    #[test]
    fn what_another_program_or_repository_left_there_is_not_ours() {
        let slot = SlotId([0xab; 8]);
        assert_eq!(ObjectKey::slot(slot).slot_id(), Some(slot));
        for name in ["keys/.DS_Store", "keys/@eaDir/x", "keys/abababababababab", "keys/keys/abababababababab.age"] {
            assert_eq!(ObjectKey::from_listed(name).slot_id(), None, "{name}");
            assert!(!ObjectKey::from_listed(name).is_ours(), "{name}");
        }
        assert!(ObjectKey::slot(slot).is_ours() && ObjectKey::session(SessionId([1; 16])).is_ours());
        for name in ["config/.DS_Store", "config/1-abababababababab", "keyring/keyring/00000001-abababababababab"] {
            assert_eq!(ObjectKey::from_listed(name).counter(), None, "{name}");
        }
    }
}
