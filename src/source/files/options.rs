//! What a walk is told, and why it could not begin.

use std::io;
use std::path::PathBuf;

use crate::model::outcome::{Ended, Outcome};

/// What to walk and what to leave out.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct WalkOptions {
    /// Where to begin. They need not be absolute and may overlap. A root that is a symbolic link is kept as a link
    /// unless it is written with a slash at its end.
    pub roots: Vec<PathBuf>,
    /// Patterns of what to leave out, as in `.gitignore`: `*.o`, `node_modules/`, `/var/cache`, `home/*/tmp`. A leading
    /// slash ties a pattern to the top of the file system, any other pattern matches at every depth. The last match
    /// decides, and `!` takes back. Roots are never left out.
    pub excludes: Vec<String>,
    /// Files with such patterns, one a line, `#` for comments; they come after `excludes`.
    pub exclude_files: Vec<PathBuf>,
    /// Patterns like `excludes` for which capitals and small letters of ASCII are the same; a list of its own beside the other.
    pub iexcludes: Vec<String>,
    /// Files with such patterns.
    pub iexclude_files: Vec<PathBuf>,
    /// Files and directories to leave out and tell of, by whatever path the walk comes to them, unless they are roots or
    /// contain one. Those that do not exist are ignored.
    pub left_out: Vec<PathBuf>,
    /// Files to leave out and tell of by what they begin with, wherever they are, unless they are roots.
    pub left_out_marks: Vec<Mark>,
    /// Do not enter directories on another file system than their root; the directories themselves are kept, without extended
    /// attributes: nobody is asked who may be dead.
    pub one_file_system: bool,
    /// Keep of a directory that a valid `CACHEDIR.TAG` marks as a cache only itself and the tag.
    pub exclude_caches: bool,
    /// Keep of a directory that has an entry with one of these names only itself and that entry.
    pub exclude_if_present: Vec<String>,
    /// Leave out regular files with more bytes than this.
    pub exclude_larger_than: Option<u64>,
    /// Threads that read ahead; 0 chooses by the number of processors.
    pub threads: usize,
}

/// What tells a file by its first bytes, as far as they are read at once (at least 4 KiB, or all of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What the file begins with.
    pub start: Vec<u8>,
    /// What stands in what follows as well.
    pub within: Vec<u8>,
}

/// How far [`Mark::within`] is looked for, in bytes.
const MARKED_BYTES: usize = 4 << 10;

impl Mark {
    /// Tells whether a file that begins with `bytes` has the mark.
    pub fn is_on(&self, bytes: &[u8]) -> bool {
        let head = &bytes[..bytes.len().min(MARKED_BYTES)];
        let has_within = || head.windows(self.within.len().max(1)).any(|window| window == self.within);
        head.starts_with(&self.start) && (self.within.is_empty() || has_within())
    }
}

/// Why a walk could not begin.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// There is nothing to walk.
    #[error("no paths to back up were given")]
    NoRoots,
    /// No root exists or can be reached.
    #[error("{} cannot be backed up", path.display())]
    Root {
        /// The first root as it was given.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file with patterns could not be read.
    #[error("the patterns in {} could not be read", path.display())]
    ExcludeFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A pattern has no meaning.
    #[error("{pattern:?} is not a pattern: {message}")]
    Pattern {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// The system gives no more threads.
    #[error("a thread to read directories could not be started")]
    Thread(#[source] io::Error),
}

impl Ended for WalkError {
    fn outcome(&self) -> Outcome {
        match self {
            WalkError::NoRoots | WalkError::ExcludeFile { .. } | WalkError::Pattern { .. } => Outcome::Usage,
            WalkError::Root { .. } => Outcome::Missing,
            WalkError::Thread(_) => Outcome::Failed,
        }
    }
}
