//! Spool files: room on disk for what cannot be streamed, gone when it is not needed any more.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::database::DatabaseError;

/// A file in a spool directory that is gone when this is dropped.
#[derive(Debug)]
pub struct SpoolFile {
    path: PathBuf,
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
        for attempt in 0..100u32 {
            let path = directory.join(format!("coffre-spool-{}-{attempt}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(_) => return Ok(Self { path }),
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
        // It may have been removed while it was open. SQLite leaves the others when it could only read.
        for ending in ["", "-wal", "-shm", "-journal"] {
            let mut name = self.path.clone().into_os_string();
            name.push(ending);
            let _ = fs::remove_file(name);
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
}
