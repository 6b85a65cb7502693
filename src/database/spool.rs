//! Spool files: room on disk for what cannot be streamed, gone when it is not needed any more.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::database::DatabaseError;

/// Where spool files are unless another directory is named: on disk, where `/tmp` may be memory.
pub const SPOOL_DIRECTORY: &str = "/var/tmp";

/// Endings of the files that SQLite makes beside one.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// How names of spool files begin.
const PREFIX: &str = "coffre-spool-";
/// A spool file that nobody holds is left over when it is older than this.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// A file in a spool directory that is gone when this is dropped.
#[derive(Debug)]
pub struct SpoolFile {
    path: PathBuf,
    /// Locked, so that others know that it is in use.
    _lock: File,
}

impl SpoolFile {
    /// Makes an empty file that only this user can read, after checking that the directory has room for `bytes`.
    ///
    /// # Errors
    /// [`DatabaseError::Spool`], also when there is too little room.
    pub fn create(directory: &Path, bytes: u64) -> Result<Self, DatabaseError> {
        let failed = |source| DatabaseError::Spool { path: directory.to_owned(), source };
        let room = rustix::fs::statvfs(directory).map_err(|errno| failed(errno.into()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free < bytes {
            let message = format!("it has {free} bytes free and {bytes} are needed");
            return Err(failed(io::Error::new(io::ErrorKind::StorageFull, message)));
        }
        remove_left_over(directory);
        for attempt in 0..100u32 {
            let path = directory.join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    // A file system without locks has no left-over files removed, either.
                    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
                    return Ok(Self { path, _lock: file });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::Error::other("it is full of old spool files")))
    }

    /// Makes it durable and gives it another name in the same directory, which nothing may have yet.
    ///
    /// # Errors
    /// [`DatabaseError::Spool`].
    pub fn become_file(self, name: &Path) -> Result<(), DatabaseError> {
        let failed = |source| DatabaseError::Spool { path: name.to_owned(), source };
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(failed)?;
        // A link never replaces what is there, as renaming would.
        fs::hard_link(&self.path, name).map_err(failed)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Returns the files that SQLite would take for a part of the database in `file`, if they are there.
pub fn beside(file: &Path) -> impl Iterator<Item = PathBuf> {
    let name = |ending| {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    BESIDE.map(name).into_iter().filter(|path| path.symlink_metadata().is_ok())
}

/// Removes a spool file. It may have been removed while it was open; SQLite leaves others when it could only read.
fn remove(path: &Path) {
    let beside = beside(path);
    let _ = fs::remove_file(path);
    beside.for_each(|path| {
        let _ = fs::remove_file(path);
    });
}

/// Removes what processes left that were killed: it is plaintext.
fn remove_left_over(directory: &Path) {
    for item in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_old = || {
            item.metadata().and_then(|it| it.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_OVER))
        };
        let name = item.file_name();
        let is_spool = name.to_str().is_some_and(|name| {
            name.strip_prefix(PREFIX).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '-'))
        });
        if is_spool
            && is_old()
            && let Ok(file) = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(item.path())
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            remove(&item.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_file_that_cannot_fit_is_refused_and_one_that_can_goes_away() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(SpoolFile::create(directory.path(), u64::MAX), Err(DatabaseError::Spool { .. })));
        let path = SpoolFile::create(directory.path(), 10).expect("made").path().to_owned();
        assert!(!path.exists());
    }

    #[test]
    fn what_was_left_over_is_removed_and_what_is_in_use_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let in_use = SpoolFile::create(directory.path(), 10).expect("made");
        let at = |name: &str| directory.path().join(name);
        let old = std::time::SystemTime::now() - 2 * LEFT_OVER;
        for name in ["coffre-spool-1-0", "coffre-spool-1-0-wal", "coffre-spool-notes"] {
            fs::write(at(name), "x").expect("written");
        }
        for path in [in_use.path(), &at("coffre-spool-1-0"), &at("coffre-spool-notes")] {
            OpenOptions::new().write(true).open(path).expect("there").set_modified(old).expect("set");
        }
        fs::write(at("coffre-spool-2-0"), "young").expect("written");
        drop(SpoolFile::create(directory.path(), 10).expect("made"));
        assert!(in_use.path().exists() && at("coffre-spool-notes").exists() && at("coffre-spool-2-0").exists());
        assert!(!at("coffre-spool-1-0").exists() && !at("coffre-spool-1-0-wal").exists());
    }
}
