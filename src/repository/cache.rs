//! The local cache: index tables, last trees and the counters that a roll-back would lower.
//!
//! Everything here can be deleted at any time at the price of being fetched again. It lies in
//! `$XDG_CACHE_HOME/coffre/<repository>` with access for the user alone.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::id::{PackId, RepositoryId};
use crate::model::key::ObjectKind;

/// The cache directory of one repository.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache below `root`, or below the user's cache directory.
    pub(crate) fn open(repository: RepositoryId, root: Option<&Path>) -> Result<Self, (PathBuf, io::Error)> {
        let root = root.map_or_else(default_root, Path::to_path_buf).join(repository.to_string());
        for directory in [root.clone(), root.join("index"), root.join("trees")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| (directory, error))?;
        }
        Ok(Self { root })
    }

    /// Returns the directory of index tables.
    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Returns the directory of last trees.
    pub fn trees(&self) -> PathBuf {
        self.root.join("trees")
    }

    /// Returns the directory of snapshots, which may not be there yet.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Returns the highest counter seen for configurations or keyrings, zero when none was.
    pub fn highest_counter(&self, kind: ObjectKind) -> u64 {
        fs::read_to_string(self.counter_file(kind)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Remembers a counter. Failing to is no error: the cache is a help against roll-back, not its only one.
    pub(crate) fn remember_counter(&self, kind: ObjectKind, counter: u64) {
        if counter > self.highest_counter(kind) {
            let _ = write_atomically(&self.counter_file(kind), counter.to_string().as_bytes());
        }
    }

    /// Returns the pack at which the last partial verification ended.
    pub fn verify_cursor(&self) -> Option<PackId> {
        fs::read_to_string(self.root.join("verify.cursor")).ok()?.trim().parse().ok()
    }

    /// Remembers the pack at which a partial verification has arrived; failing to only repeats work.
    pub(crate) fn remember_verify_cursor(&self, pack: PackId) {
        let _ = write_atomically(&self.root.join("verify.cursor"), pack.to_string().as_bytes());
    }

    fn counter_file(&self, kind: ObjectKind) -> PathBuf {
        self.root.join(format!("{}.counter", kind.prefix().trim_end_matches('/')))
    }
}

fn default_root() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("COFFRE_CACHE_DIR")
        .or_else(|| named("CACHE_DIRECTORY"))
        .or_else(|| named("XDG_CACHE_HOME").map(|home| home.join("coffre")))
        // Of the password file, where a system service has no HOME.
        .or_else(|| Some(std::env::home_dir()?.join(".cache/coffre")).filter(|path| path.is_absolute()))
        .unwrap_or_else(|| std::env::temp_dir().join("coffre-cache"))
}

/// Writes a file so that readers see the old or the new content, never half of one.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}
