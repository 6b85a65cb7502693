//! The local cache: index tables, last trees, snapshots, what nights leave for the next.
//!
//! Everything here can be deleted at any time at the price of being fetched again, and nothing here is believed over the
//! store: every file carries a checksum, and one whose checksum fails counts as not there. A cache that cannot be used at
//! all slows a run down and never ends it.
//!
//! It lies in `<root>/<repository>` with access for the user alone; the command line takes `$XDG_CACHE_HOME/coffre` as root.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::crypto::sign::VerifyingKey;
use crate::model::id::{RepositoryId, hex, unhex};
use crate::progress::{Monitor, Problem};
use crate::repository::cache::temporary::remove_left_behind;
use crate::repository::places::{LocalPlaces, NOWHERE};

pub mod record;
pub mod temporary;

/// Marks a directory that backup programs may leave out (<https://bford.info/cachedir/>).
const CACHEDIR_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55
# Fetched again from the repository whenever it is missing; made by coffre.
";

/// Name of the directory of a reader's index tables.
const INDEX: &str = "index";
/// Name of the directory of what nights leave for the next.
const NIGHTS: &str = "nights";

/// The cache directory of one repository. Clones share what was told.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    scratch: PathBuf,
    /// Name of the directory of index tables.
    index: String,
    /// Whether the directory is there; what is in it may still be refused file by file.
    is_there: bool,
    told: Arc<AtomicBool>,
}

impl Cache {
    /// Opens the cache below the root, and removes what killed runs left in it.
    ///
    /// Where there can be no directory, nothing is remembered: see [`Cache::index`].
    pub(crate) fn open(repository: RepositoryId, places: &LocalPlaces) -> Self {
        let LocalPlaces { cache: root, scratch, .. } = places.clone();
        // That it cannot be used is news only to those who want one.
        let told = Arc::new(AtomicBool::new(root == Path::new(NOWHERE)));
        let root = root.join(repository.to_string());
        let mut is_there = true;
        for directory in [root.clone(), root.join(INDEX), root.join("trees"), root.join(NIGHTS)] {
            is_there &= fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).is_ok();
            remove_left_behind(&directory);
        }
        remove_left_behind(&root.join("snapshots"));
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(tag, CACHEDIR_TAG);
        }
        Self { root, scratch, index: INDEX.to_owned(), is_there, told }
    }

    /// Takes a directory of its own for the index tables of a writer: to one who was not let into a domain's epoch, its segments say
    /// nothing, and nobody else may take that for what they say.
    pub(super) fn of_writer(self, key: &VerifyingKey) -> Self {
        let index = format!("{INDEX}-{}", hex(&key.0[..8]));
        let directory = self.root.join(&index);
        let is_there = self.is_there && fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).is_ok();
        remove_left_behind(&directory);
        Self { index, is_there, ..self }
    }

    /// Returns the directory of index tables, or `None` when there is no cache.
    pub fn index(&self) -> Option<PathBuf> {
        self.is_there.then(|| self.root.join(&self.index))
    }

    /// Returns the directory for files of the time of a run.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Returns the directory of all of it.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of last trees. Files in it may be impossible to make.
    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// Returns the directory of what nights leave for the next, or `None` when there is no cache.
    pub(super) fn nights(&self) -> Option<PathBuf> {
        self.is_there.then(|| self.root.join(NIGHTS))
    }

    /// Returns the directory of snapshots, which may not be there yet.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Tells `monitor`, once for all clones, that the cache cannot be used and what that means.
    pub fn tell_unusable(&self, reason: &io::Error, monitor: &dyn Monitor) {
        if !self.told.swap(true, Ordering::Relaxed) {
            let message = format!(
                "cannot be used as a cache ({reason}), so every run fetches the index again; name another directory with --cache-dir"
            );
            monitor.note(Problem::advice(self.root.display().to_string(), message));
        }
    }

    /// Returns the record of verifications that could not be put into a replica: the name it would have, and its object.
    pub(super) fn kept_verified(&self, replica: &str) -> Option<(String, Vec<u8>)> {
        let text = record::read_text(&self.verified_file(replica))?;
        let (name, object) = text.split_once(' ')?;
        Some((name.to_owned(), unhex(object)?))
    }

    /// Keeps a record of verifications that could not be put; failing to only repeats work.
    pub(super) fn keep_verified(&self, replica: &str, name: &str, object: &[u8]) {
        let _ = record::write_text(&self.verified_file(replica), &format!("{name} {}", hex(object)));
    }

    /// Forgets the record that was kept, now that the replica has what it tells.
    pub(super) fn forget_verified(&self, replica: &str) {
        let _ = fs::remove_file(self.verified_file(replica));
    }

    fn verified_file(&self, replica: &str) -> PathBuf {
        self.root.join(format!("verified-{}", digits(replica)))
    }
}

/// Stands for a replica's name in names of files: it may be a location with slashes.
pub(super) fn digits(replica: &str) -> String {
    hex(&blake3::hash(replica.as_bytes()).as_bytes()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_cannot_be_made_remembers_nothing_and_says_so_once() {
        let cache = Cache::open(RepositoryId([1; 16]), &LocalPlaces::from("/dev/null/nowhere"));
        assert_eq!(cache.index(), None);
        let monitor = crate::progress::Collected::default();
        for clone in [cache.clone(), cache] {
            clone.tell_unusable(&io::Error::other("full"), &monitor);
        }
        let [problem] = &monitor.notes()[..] else { panic!("{:?}", monitor.notes()) };
        assert!(problem.subject.starts_with("/dev/null/nowhere") && problem.message.contains("(full)"), "{problem}");
    }

    #[test]
    fn a_cache_that_nobody_wants_remembers_nothing_and_says_nothing() {
        let cache = Cache::open(RepositoryId([1; 16]), &LocalPlaces::without_cache("/tmp"));
        assert_eq!(cache.index(), None);
        let monitor = crate::progress::Collected::default();
        cache.tell_unusable(&io::Error::other("full"), &monitor);
        assert!(monitor.notes().is_empty());
    }

    #[test]
    fn a_cache_is_marked_as_one() {
        let directory = tempfile::tempdir().expect("made");
        Cache::open(RepositoryId([1; 16]), &LocalPlaces::from(directory.path()));
        let tag = fs::read(directory.path().join(RepositoryId([1; 16]).to_string()).join("CACHEDIR.TAG"));
        assert!(tag.expect("there").starts_with(b"Signature: 8a477f597d28d172789f06886806bc55\n"));
    }
}
