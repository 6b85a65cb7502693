//! What a verification found, in bounded memory: whoever may write can make more to be found than fits.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::model::id::ChunkId;
use crate::model::key::ObjectKey;
use crate::model::snapshot::SnapshotId;
use crate::ops::verify::damage::{Damage, FindingSubject};
use crate::ops::verify::{Finding, LostRun};

/// Paths that one finding names.
const PATHS_LISTED: usize = 50;
/// Windows that one finding names.
const WINDOWS_LISTED: usize = 50;
/// Runs of lost bytes that one finding names.
const RUNS_LISTED: usize = 50;
/// The share of the memory that is for findings, and what they have of it at least, in bytes.
const SHARE: u64 = 32;
const ROOM_MIN: u64 = 1 << 20;
/// What a finding takes in memory beside its texts, in bytes: it and its two places in the maps.
const FINDING_BYTES: usize = 2 * size_of::<Finding>() + 128;

/// What is hit by something that is damaged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'a> {
    /// The snapshot that needs it.
    pub(super) snapshot: SnapshotId,
    /// The path that cannot be restored whole.
    pub(super) path: &'a str,
    /// The chunk that cannot be put together from it, if it is needed for that.
    pub(super) window: Option<ChunkId>,
    /// Offsets and lengths of what is lost there, in order, where the path is that of a file or stream.
    pub(super) lost: &'a [(u64, u64)],
}

/// Findings by their object and by what is wrong with it.
#[derive(Debug)]
pub(super) struct Findings {
    by_object: BTreeMap<FindingSubject, BTreeMap<Damage, Finding>>,
    /// Bytes that may still be taken.
    room: usize,
    is_cut: bool,
}

impl Findings {
    /// Nothing yet, by a run that stays within `memory_bytes`.
    pub(super) fn within(memory_bytes: u64) -> Self {
        let room = (memory_bytes / SHARE).max(ROOM_MIN);
        Self { by_object: BTreeMap::new(), room: usize::try_from(room).unwrap_or(usize::MAX), is_cut: false }
    }

    /// Tells whether there was more than is kept.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Notes that something is wrong.
    pub(super) fn add(&mut self, object: FindingSubject, damage: Damage) {
        self.kept(object, damage);
    }

    /// Notes what is wrong with a snapshot, as far as it is known which.
    pub(super) fn add_of_snapshot(&mut self, object: FindingSubject, damage: Damage, snapshot: Option<SnapshotId>) {
        if let Some(finding) = self.kept(object, damage) {
            finding.snapshots = snapshot.into_iter().collect();
        }
    }

    /// Notes what is hit by something that is wrong.
    pub(super) fn hit(&mut self, object: FindingSubject, damage: Damage, hit: Hit<'_>) {
        let room = self.room;
        let Some(finding) = self.kept(object, damage) else { return };
        let (cost, is_whole) = finding.hit(hit, room);
        self.room = self.room.saturating_sub(cost);
        self.is_cut |= !is_whole;
    }

    /// Returns the finding, a new one as long as there is room.
    fn kept(&mut self, object: FindingSubject, damage: Damage) -> Option<&mut Finding> {
        let is_known = self.by_object.get(&object).is_some_and(|of_object| of_object.contains_key(&damage));
        if !is_known {
            let cost = FINDING_BYTES + 2 * (object.to_string().len() + damage.to_string().len());
            if cost > self.room {
                self.is_cut = true;
                return None;
            }
            self.room -= cost;
        }
        match self.by_object.entry(object.clone()).or_default().entry(damage.clone()) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => Some(new.insert(Finding::of(object, damage))),
        }
    }

    /// Returns what was found of an object that a chunk in this frame of it is lost by.
    pub(super) fn of_frame(&self, object: &ObjectKey, frame: u32) -> Option<&Damage> {
        let of_object = self.by_object.get(&FindingSubject::Object(object.clone()))?;
        of_object.keys().find(|damage| damage.hits_frame(frame))
    }

    /// Tells whether anything was found of an object.
    pub(super) fn has(&self, object: &FindingSubject) -> bool {
        self.by_object.contains_key(object)
    }

    /// Takes out what was found of an object.
    pub(super) fn remove(&mut self, object: &FindingSubject) {
        self.by_object.remove(object);
    }

    /// Returns all, in order of their objects.
    pub(super) fn into_all(self) -> Vec<Finding> {
        self.by_object.into_values().flat_map(BTreeMap::into_values).collect()
    }
}

impl Finding {
    fn of(object: FindingSubject, damage: Damage) -> Self {
        let (snapshots, windows, paths, lost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { object, damage, snapshots, windows, paths, path_count: 0, lost, lost_bytes: 0 }
    }

    /// Notes what is hit by it, as far as that fits into `room` bytes. Returns the bytes taken, and whether it did fit.
    fn hit(&mut self, hit: Hit<'_>, room: usize) -> (usize, bool) {
        let (mut left, mut is_whole) = (room, true);
        let mut fits = |bytes: usize| {
            let fits = bytes <= left;
            left -= if fits { bytes } else { 0 };
            is_whole &= fits;
            fits
        };
        // Snapshots are visited one after the other.
        if self.snapshots.last() != Some(&hit.snapshot) && fits(2 * size_of::<SnapshotId>()) {
            self.snapshots.push(hit.snapshot);
        }
        self.path_count += 1;
        let is_new = |known: &String| known != hit.path;
        if self.paths.len() < PATHS_LISTED
            && self.paths.iter().all(is_new)
            && fits(size_of::<String>() + hit.path.len())
        {
            self.paths.push(hit.path.to_owned());
        }
        let new = hit.window.filter(|window| !self.windows.contains(window));
        if let Some(window) = new.filter(|_| self.windows.len() < WINDOWS_LISTED && fits(size_of::<ChunkId>())) {
            self.windows.push(window);
        }
        for (offset, length) in hit.lost {
            self.lost_bytes = self.lost_bytes.saturating_add(*length);
            let touches = |last: &&mut LostRun| {
                last.snapshot == hit.snapshot && last.path == hit.path && last.offset + last.length == *offset
            };
            if let Some(last) = self.lost.last_mut().filter(touches) {
                last.length += length;
            } else if self.lost.len() < RUNS_LISTED && fits(size_of::<LostRun>() + hit.path.len()) {
                let (snapshot, path) = (hit.snapshot, hit.path.to_owned());
                self.lost.push(LostRun { snapshot, path, offset: *offset, length: *length });
            }
        }
        (room - left, is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::PackId;
    use crate::model::time::Timestamp;

    fn pack(n: u32) -> FindingSubject {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        FindingSubject::Object(ObjectKey::pack(PackId(id)))
    }

    fn snapshot(n: u32) -> SnapshotId {
        SnapshotId::new(Timestamp::from_seconds(i64::from(n)), [0; 8])
    }

    #[test]
    fn what_does_not_fit_is_told_of_and_not_kept() {
        let mut findings = Findings::within(0);
        (0..100_000).for_each(|n| findings.add(pack(n), Damage::Missing));
        assert!(findings.is_cut());
        let all = findings.into_all();
        assert!((500..10_000).contains(&all.len()), "{}", all.len());
        assert_eq!(all[0].object, pack(0));
    }

    #[test]
    fn long_paths_and_many_snapshots_take_no_more_room_than_there_is() {
        let mut findings = Findings::within(0);
        let path = "x".repeat(4096);
        for n in 0..2_000 {
            let hit = Hit { snapshot: snapshot(n), path: &format!("{path}{n}"), window: None, lost: &[] };
            findings.hit(pack(n % 200), Damage::Missing, hit);
        }
        assert!(findings.is_cut());
        let all = findings.into_all();
        assert_eq!(all.len(), 200, "the findings themselves are kept");
        let bytes: usize = all.iter().flat_map(|finding| &finding.paths).map(String::len).sum();
        assert!(bytes <= ROOM_MIN as usize, "{bytes}");
        assert_eq!(all.iter().map(|finding| finding.path_count).sum::<u64>(), 2_000, "all are counted");
    }

    #[test]
    fn what_is_hit_again_is_kept_once() {
        let mut findings = Findings::within(0);
        for snapshot in [1, 1, 2].map(snapshot) {
            findings.hit(
                pack(1),
                Damage::Missing,
                Hit { snapshot, path: "/a", window: Some(ChunkId([1; 32])), lost: &[] },
            );
        }
        assert!(!findings.is_cut());
        let all = findings.into_all();
        assert_eq!((all[0].snapshots.len(), all[0].paths.len(), all[0].windows.len(), all[0].path_count), (2, 1, 1, 3));
    }

    #[test]
    fn lost_bytes_that_touch_are_one_run_and_all_are_counted() {
        let mut findings = Findings::within(0);
        let mut hit = |n, path, lost: &[(u64, u64)]| {
            findings.hit(pack(1), Damage::Missing, Hit { snapshot: snapshot(n), path, window: None, lost });
        };
        hit(1, "/a", &[(0, 10), (20, 5)]);
        hit(1, "/a", &[(25, 5)]);
        hit(1, "/b", &[(30, 1)]);
        hit(2, "/b", &[(31, 1)]);
        (0..100).for_each(|n| hit(3, "/c", &[(n * 10, 1)]));
        assert!(!findings.is_cut());
        let all = findings.into_all();
        let runs: Vec<_> = all[0].lost.iter().map(|run| (run.path.as_str(), run.offset, run.length)).take(4).collect();
        assert_eq!(runs, [("/a", 0, 10), ("/a", 20, 10), ("/b", 30, 1), ("/b", 31, 1)]);
        assert_eq!((all[0].lost.len(), all[0].lost_bytes), (RUNS_LISTED, 122));
    }

    #[test]
    fn a_chunk_is_lost_by_its_own_frame_or_by_what_hits_the_whole_pack() {
        let (object, mut found) = (ObjectKey::pack(PackId([0; 16])), Findings::within(0));
        found.add(pack(0), Damage::Frame { frame: 12, why: "authentication failed".into() });
        assert_eq!(found.of_frame(&object, 1), None);
        assert_eq!(
            found.of_frame(&object, 12).map(ToString::to_string).as_deref(),
            Some("frame 12: authentication failed")
        );
        found.add(pack(0), Damage::Missing);
        assert_eq!(found.of_frame(&object, 1), Some(&Damage::Missing));
    }
}
