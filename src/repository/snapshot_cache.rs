//! Cached snapshots: each sealed as the store has it, in a file of its own behind a checksum.
//!
//! Snapshots never change, so the store's listing decides which of them exist and the file gives the bytes. A file that is
//! missing or damaged, or that cannot be written, costs a request and nothing else.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::snapshot::SnapshotId;
use crate::repository::cache::write_atomically;

/// BLAKE3 of the object, cut to 16 bytes, in front of it.
const CHECKSUM_LEN: usize = 16;

/// The directory of cached snapshots.
#[derive(Debug, Clone)]
pub(super) struct SnapshotCache(PathBuf);

impl SnapshotCache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Returns the object of a snapshot, unless the file is missing or damaged.
    pub(super) fn get(&self, id: SnapshotId) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.path(id)).ok()?;
        let object = bytes.get(CHECKSUM_LEN..)?;
        if checksum(object) != bytes[..CHECKSUM_LEN] {
            return None;
        }
        bytes.drain(..CHECKSUM_LEN);
        Some(bytes)
    }

    /// Keeps the object of a snapshot. Failing to costs a request the next time.
    pub(super) fn keep(&self, id: SnapshotId, object: &[u8]) {
        let content = [checksum(object).as_slice(), object].concat();
        if write_atomically(&self.path(id), &content).is_err() && make_directory(&self.0).is_ok() {
            let _ = write_atomically(&self.path(id), &content);
        }
    }

    /// Removes what the store does not list (any more), and what interrupted runs left.
    pub(super) fn keep_only(&self, listed: &[SnapshotId]) {
        let Ok(files) = fs::read_dir(&self.0) else { return };
        let listed: HashSet<SnapshotId> = listed.iter().copied().collect();
        for file in files.flatten() {
            let id = file.file_name().to_str().and_then(SnapshotId::from_object_name);
            if id.is_none_or(|id| !listed.contains(&id)) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn path(&self, id: SnapshotId) -> PathBuf {
        self.0.join(id.object_name())
    }
}

fn checksum(object: &[u8]) -> [u8; CHECKSUM_LEN] {
    blake3::hash(object).as_bytes()[..CHECKSUM_LEN].try_into().expect("16 of 32 bytes")
}

fn make_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    #[test]
    fn only_whole_files_of_listed_snapshots_are_given_back() {
        let directory = tempfile::tempdir().expect("made");
        let cache = SnapshotCache::new(directory.path().join("snapshots"));
        let id = |i: u8| SnapshotId::new(Timestamp::from_seconds(i64::from(i)), [i; 8]);
        assert_eq!(cache.get(id(1)), None);
        cache.keep_only(&[]);
        cache.keep(id(1), b"one");
        cache.keep(id(2), b"two");
        assert_eq!((cache.get(id(1)), cache.get(id(2))), (Some(b"one".to_vec()), Some(b"two".to_vec())));

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
        cache.keep(id(1), b"one");
        fs::write(directory.path().join("snapshots/left.tmp77"), "half").expect("writable");
        cache.keep_only(&[id(1)]);
        assert_eq!((cache.get(id(1)), cache.get(id(2))), (Some(b"one".to_vec()), None));
        assert_eq!(fs::read_dir(directory.path().join("snapshots")).expect("there").count(), 1);
    }
}
