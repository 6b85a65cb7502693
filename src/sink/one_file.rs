//! One file that gets its name when it is whole: until then it stands beside it under a temporary one, for its owner alone.
//!
//! Whatever has the name stays as it is until every byte is durable; what is not finished leaves nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fsync, openat, unlinkat};

use crate::sink::error::{TargetError, failed};
use crate::sink::partial::{IfTaken, give_name};
use crate::sink::temporary;

/// A file that is being written; dropping it removes it.
#[derive(Debug)]
pub struct OneFile {
    file: File,
    directory: OwnedFd,
    temporary: Vec<u8>,
    path: PathBuf,
}

impl OneFile {
    /// Makes the temporary file, readable for its owner alone, in the directory of `path`.
    ///
    /// # Errors
    /// When `path` has no name, or the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, TargetError> {
        let bytes = path.as_os_str().as_bytes();
        if path.file_name().is_none() {
            return Err(failed(bytes, "write it")(rustix::io::Errno::ISDIR));
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, above, flags, Mode::empty()).map_err(failed(bytes, "open its directory"))?;
        let temporary = temporary::name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, &*temporary, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(failed(bytes, "make a file beside it"))?;
        Ok(Self { file: file.into(), directory, temporary, path: path.to_path_buf() })
    }

    /// Returns what to write to.
    ///
    /// # Errors
    /// When no more files can be opened.
    pub fn writer(&self) -> Result<File, TargetError> {
        self.file.try_clone().map_err(|source| TargetError::new(self.bytes(), "write it", source))
    }

    /// Makes the file durable, then gives it its name, and makes that durable.
    ///
    /// # Errors
    /// When that fails, or something has the name that is not to be replaced; the file is gone then.
    pub fn finish(self, if_taken: IfTaken) -> Result<(), TargetError> {
        let durable = || {
            let synced = self.file.sync_all();
            synced.map_err(|source| TargetError::new(self.bytes(), "make it durable", source))
        };
        durable()?;
        let name = self.path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        give_name(&self.directory, &self.temporary, name, self.bytes(), if_taken, || Ok(()))?;
        fsync(&self.directory).map_err(failed(self.bytes(), "make its name durable"))
    }

    fn bytes(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }
}

impl Drop for OneFile {
    fn drop(&mut self) {
        // After `finish` nothing has this name any more.
        let _ = unlinkat(&self.directory, &*self.temporary, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sink::error::Obstacle;

    fn names(directory: &Path) -> Vec<String> {
        let names = std::fs::read_dir(directory).expect("there").map(|item| item.expect("there").file_name());
        names.map(|name| name.into_string().expect("plain")).collect()
    }

    #[test]
    fn the_name_is_given_at_the_end_and_taken_from_nobody_unless_told() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let path = scratch.path().join("x");
        for (if_taken, content) in [(IfTaken::Refuse, "first"), (IfTaken::Replace, "second")] {
            let file = OneFile::create(&path).expect("made");
            file.writer().expect("opened").write_all(content.as_bytes()).expect("written");
            assert_eq!(path.exists(), content == "second", "not before it is finished");
            file.finish(if_taken).expect("named");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), content);
            assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        }
        let refused = OneFile::create(&path).expect("made").finish(IfTaken::Refuse).expect_err("taken");
        assert_eq!(refused.cause, Obstacle::Taken);
        drop(OneFile::create(&scratch.path().join("never finished")).expect("made"));
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "second");
        assert_eq!(names(scratch.path()), ["x"], "nothing else is left");
        assert!(OneFile::create(Path::new("/")).is_err() && OneFile::create(&path.join("below")).is_err());
    }
}
