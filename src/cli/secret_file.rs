//! New files for secrets that are shown only once: made before there is anything to lose, and gone again if nothing comes of it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::exit::usage;
use crate::cli::failure::{Context, Fallible};

/// A new, empty file that only its owner may read. It is removed where it is dropped before it was filled.
pub struct SecretFile {
    path: PathBuf,
    file: File,
    /// What goes into it, for messages.
    what: &'static str,
    is_empty: bool,
}

impl SecretFile {
    /// Makes the file for `what`.
    ///
    /// # Errors
    /// One for the user when there is a file, or it cannot be made.
    pub fn reserve(path: &Path, what: &'static str) -> Fallible<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| usage(format!("{what} cannot be written to {}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file, what, is_empty: true })
    }

    /// Writes the secret into the file, and returns its path. What was begun stays where that fails: nobody can make it again.
    ///
    /// # Errors
    /// One for the user when it cannot be written.
    pub fn fill(mut self, text: &str) -> Fallible<String> {
        self.is_empty = false;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        written.context(format!("writing {} to {}", self.what, self.path.display()))?;
        Ok(self.path.display().to_string())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if self.is_empty {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What became of a secret that was to be written to a file, if to one at all: the file, and why it is not there. One that is in no file
/// is shown.
pub fn written(filled: Option<Fallible<String>>) -> (Option<String>, Fallible<()>) {
    match filled.transpose() {
        Ok(file) => (file, Ok(())),
        Err(error) => (None, Err(error)),
    }
}
