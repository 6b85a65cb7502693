//! Cached snapshots: each sealed as the store has it, in a file of its own behind a checksum and what was found out about its author.
//!
//! Snapshots never change, so the store's listing decides which of them exist and the file gives the bytes. A file that is
//! missing or damaged, or that cannot be written, costs a request and nothing else.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::snapshot::SnapshotId;
use crate::repository::cache::record;
use crate::repository::verdict::VERDICT_LEN;

/// A cached snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptSnapshot {
    /// What was found out about its author, for [`Verdict`](crate::repository::verdict::Verdict) to judge.
    pub(super) verdict: [u8; VERDICT_LEN],
    /// The object as the store has it.
    pub(super) object: Vec<u8>,
}

/// The directory of cached snapshots.
#[derive(Debug, Clone)]
pub(super) struct SnapshotCache(PathBuf);

impl SnapshotCache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Returns what was kept of a snapshot, unless the file is missing or damaged.
    pub(super) fn get(&self, id: SnapshotId) -> Option<KeptSnapshot> {
        let mut object = record::read(&self.path(id))?;
        let verdict = *object.first_chunk::<VERDICT_LEN>()?;
        object.drain(..VERDICT_LEN);
        Some(KeptSnapshot { verdict, object })
    }

    /// Keeps the object of a snapshot, with the verdict on its author. Failing to costs a request the next time.
    pub(super) fn keep(&self, id: SnapshotId, verdict: [u8; VERDICT_LEN], object: &[u8]) {
        let content = [&verdict, object].concat();
        if record::write(&self.path(id), &content).is_err() && make_directory(&self.0).is_ok() {
            let _ = record::write(&self.path(id), &content);
        }
    }

    /// Removes what the store does not list (any more).
    pub(super) fn keep_only(&self, listed: &[SnapshotId]) {
        let Ok(files) = fs::read_dir(&self.0) else { return };
        let listed: HashSet<SnapshotId> = listed.iter().copied().collect();
        for file in files.flatten() {
            let id = file.file_name().to_str().and_then(SnapshotId::from_object_name);
            if id.is_some_and(|id| !listed.contains(&id)) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn path(&self, id: SnapshotId) -> PathBuf {
        self.0.join(id.object_name())
    }
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;
    use crate::repository::cache::temporary::remove_left_behind;

    #[test]
    fn only_whole_files_of_listed_snapshots_are_given_back() {
        let directory = tempfile::tempdir().expect("made");
        let cache = SnapshotCache::new(directory.path().join("snapshots"));
        let id = |i: u8| SnapshotId::new(Timestamp::from_seconds(i64::from(i)), [i; 8]);
        let kept = |object: &[u8]| Some(KeptSnapshot { verdict: [7; VERDICT_LEN], object: object.to_vec() });
        assert_eq!(cache.get(id(1)), None);
        cache.keep_only(&[]);
        cache.keep(id(1), [7; VERDICT_LEN], b"one");
        cache.keep(id(2), [7; VERDICT_LEN], b"two");
        assert_eq!((cache.get(id(1)), cache.get(id(2))), (kept(b"one"), kept(b"two")));

        let file = cache.path(id(1));
        let whole = fs::read(&file).expect("written");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&file, &changed).expect("writable");
            assert_eq!(cache.get(id(1)), None, "bit in byte {at}");
            fs::write(&file, &whole[..at]).expect("writable");
            assert_eq!(cache.get(id(1)), None, "cut at {at}");
        }
        cache.keep(id(1), [7; VERDICT_LEN], b"one");
        let left = directory.path().join("snapshots/left.tmp77");
        fs::write(&left, "half").expect("writable");
        cache.keep_only(&[id(1)]);
        assert_eq!((cache.get(id(1)), cache.get(id(2))), (kept(b"one"), None));
        // What may still be being written stays; the next day's run removes it when it opens the cache.
        assert!(left.exists());
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(90);
        fs::File::options().write(true).open(&left).and_then(|file| file.set_modified(old)).expect("ours");
        remove_left_behind(&directory.path().join("snapshots"));
        assert_eq!(fs::read_dir(directory.path().join("snapshots")).expect("there").count(), 1);
    }
}
