//! The directory that entries are restored into: how it is opened, and handles of what is below it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::fs::beneath::open_beneath;
use crate::fs::owners::Owners;
use crate::model::time::{Clock, Timestamp};
use crate::sink::choice::AttributeChoice;
use crate::sink::error::{TargetError, failed};
use crate::sink::temporary::InUse;

/// Handles of directories kept for the entries that follow.
const DIRECTORIES_KEPT: usize = 32;
/// What a file system's clock may be behind the one that programs ask.
pub(super) const CLOCK_STEP_NANOS: i64 = 20_000_000;

/// How entries are put.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct TargetOptions {
    /// Restore owners by number and not by name.
    pub numeric_ids: bool,
    /// Leave runs of zeros out, so that they take no space.
    pub sparse: bool,
    /// Which extended attributes are restored; the target keeps what it has of the others.
    pub attributes: AttributeChoice,
}

/// A directory that entries are restored into.
#[derive(Debug)]
pub struct FileTarget {
    pub(super) root: OwnedFd,
    pub(super) options: TargetOptions,
    pub(super) owners: Owners,
    pub(super) is_root: bool,
    directories: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
    /// Entries whose owner could not be set, which only root may.
    pub(super) owners_missed: AtomicU64,
    pub(super) in_use: InUse,
    /// When this run began, if no other is at work here: what is older and bears a temporary name was left by one that
    /// was killed.
    pub(super) leftovers_before: Option<Timestamp>,
}

impl FileTarget {
    /// Opens the target, making it if it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or is not a directory.
    pub fn open(path: &Path, options: TargetOptions) -> Result<Self, TargetError> {
        let error = |source| TargetError::new(path.as_os_str().as_encoded_bytes(), "open the target directory", source);
        std::fs::create_dir_all(path).map_err(error)?;
        let root = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| error(errno.into()))?;
        let is_alone = flock(&root, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(Self {
            root,
            options,
            owners: Owners::default(),
            is_root: rustix::process::geteuid().is_root(),
            directories: Mutex::default(),
            owners_missed: AtomicU64::new(0),
            in_use: InUse::default(),
            leftovers_before: is_alone.then(|| before(Clock::System.now(), CLOCK_STEP_NANOS)),
        })
    }

    /// Tells whether runs of zeros are left out.
    pub fn is_sparse(&self) -> bool {
        self.options.sparse
    }

    /// Returns how many entries could not get their owner.
    pub fn owners_missed(&self) -> u64 {
        self.owners_missed.load(Ordering::Relaxed)
    }

    /// Makes everything that was restored durable.
    ///
    /// # Errors
    /// When the system reports that writing failed.
    pub fn sync(&self) -> Result<(), TargetError> {
        rustix::fs::syncfs(&self.root).map_err(failed(b".", "make everything durable"))
    }

    /// Returns a handle of the directory at `path`.
    pub(super) fn directory(&self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        {
            let mut kept = self.directories.lock().expect("no panic while held");
            if let Some(at) = kept.iter().rposition(|(known, _)| known == path) {
                let found = kept.remove(at);
                let directory = found.1.clone();
                kept.push(found);
                return Ok(directory);
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = Arc::new(open_beneath(self.root.as_fd(), or_dot(path), flags)?);
        let mut kept = self.directories.lock().expect("no panic while held");
        if kept.len() >= DIRECTORIES_KEPT {
            kept.remove(0);
        }
        kept.push((path.to_vec(), opened.clone()));
        Ok(opened)
    }
}

impl Drop for FileTarget {
    fn drop(&mut self) {
        self.discard_unfinished();
    }
}

/// Splits a path into its directory and its name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Names the directory itself where a path is empty.
pub(super) fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn before(time: Timestamp, nanos: i64) -> Timestamp {
    let total = i64::from(time.nanos) - nanos;
    Timestamp { seconds: time.seconds + total.div_euclid(1_000_000_000), nanos: total.rem_euclid(1_000_000_000) as u32 }
}
