//! Files in the making: written under another name, renamed when they are whole, gone when they are not.
//!
//! Whoever writes one holds a lock on it. A killed run cannot remove its files, but the system takes its locks away, and
//! the next run removes what nobody holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::crypto::random;

/// A file this young may have been made and not yet locked.
const LOCKED_WITHIN: Duration = Duration::from_secs(60);

/// A file that is being written; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// Makes an empty file beside `path`, for the user alone.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let number = u64::from_le_bytes(random());
        let path = path.with_extension(format!("tmp{number:016x}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let temporary = Self { file, path };
        // Where the file system knows no locks, nothing is removed either.
        let _ = temporary.file.try_lock();
        Ok(temporary)
    }

    /// Makes an empty file in `directory` that has no name and goes with its last handle.
    pub(crate) fn unnamed(directory: &Path) -> io::Result<File> {
        let named = Self::create(&directory.join("coffre-index"))?;
        named.file.try_clone()
    }

    /// Lends the file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, in place of what had it.
    ///
    /// # Errors
    /// When it cannot be renamed; it is gone then.
    pub(crate) fn persist(self, path: &Path) -> io::Result<File> {
        if std::fs::rename(&self.path, path).is_err() {
            // An empty directory in its place is nobody's; one that is not is left alone.
            let _ = std::fs::remove_dir(path);
            std::fs::rename(&self.path, path)?;
        }
        let file = self.file.try_clone()?;
        let _ = file.unlock();
        Ok(file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the temporary files in `directory` that nobody writes any more. What cannot be removed stays.
pub(crate) fn remove_left_behind(directory: &Path) {
    let Ok(files) = std::fs::read_dir(directory) else { return };
    for path in files.flatten().map(|file| file.path()) {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if extension.starts_with("tmp") && is_left_behind(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_left_behind(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let age = file.metadata().and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    let is_old = matches!(age, Ok(Ok(age)) if age >= LOCKED_WITHIN);
    is_old && file.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = std::fs::read_dir(directory).expect("readable").flatten();
        let mut names: Vec<_> = names.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn age(file: &File) {
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(90)).expect("ours");
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_what_is_being_written_is_not() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("tree");
        let live = Temporary::create(&path).expect("made");
        age(live.file());
        // Names of this version and of an earlier one; the system has taken the locks away.
        for name in ["tree.tmp0123456789abcdef", "other.tmp4711"] {
            age(&File::create(directory.path().join(name)).expect("made"));
        }
        File::create(directory.path().join("young.tmp12")).expect("made");
        age(&File::create(directory.path().join("kept.table")).expect("made"));

        remove_left_behind(directory.path());
        let live_name = live.path.file_name().expect("named").to_string_lossy().into_owned();
        assert_eq!(names(directory.path()), ["kept.table".to_owned(), live_name, "young.tmp12".to_owned()]);
        live.persist(&path).expect("renamed");
        assert_eq!(names(directory.path()), ["kept.table", "tree", "young.tmp12"]);
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().expect("made");
        drop(Temporary::create(&directory.path().join("tree")).expect("made"));
        let unnamed = Temporary::unnamed(directory.path()).expect("made");
        unnamed.set_len(100).expect("written");
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn a_directory_with_something_in_it_is_not_replaced() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("tree");
        std::fs::create_dir_all(path.join("inside")).expect("made");
        Temporary::create(&path).expect("made").persist(&path).expect_err("the place is taken");
        assert_eq!(names(directory.path()), ["tree"]);
    }
}
