//! One entry that a walk found, and the way back to it: its attributes and, for a file, its content.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::fs::beneath::open_beneath;
use crate::fs::owners::Owners;
use crate::fs::stat::FileStat;
use crate::fs::xattrs::{Subject, Xattrs};
use crate::model::entry::Metadata;
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::time::Timestamp;
use crate::progress::Problem;

/// What a walk found: one name with its metadata, and a way to open it again.
///
/// It takes about 200 bytes and holds no file descriptor of its own.
#[derive(Debug, Clone)]
pub struct FoundEntry {
    /// Where it stands in the tree: its absolute path without the leading slash.
    pub path: EntryPath,
    /// What it is.
    pub kind: FoundKind,
    pub(super) stat: FileStat,
    /// The root of another file system that is not to be entered: its server, which may be dead, is asked nothing.
    pub(super) is_foreign: bool,
    pub(super) base: Arc<Base>,
}

/// What a found entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// A regular file and its size in bytes.
    File {
        /// Length in bytes when it was found.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link and the bytes it points to.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with its device number.
    CharDevice(u64),
    /// A block device with its device number.
    BlockDevice(u64),
}

/// Why an entry that was found could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It was removed after it was found.
    #[error("/{path} vanished before it was read")]
    Vanished {
        /// Its path.
        path: EntryPath,
    },
    /// Something else has taken its name since it was found.
    #[error("/{path} was replaced by another file before it was read")]
    Replaced {
        /// Its path.
        path: EntryPath,
    },
    /// It could not be read.
    #[error("/{path} could not be read")]
    Io {
        /// Its path.
        path: EntryPath,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Ended for EntryError {
    fn outcome(&self) -> Outcome {
        Outcome::Incomplete
    }
}

impl EntryError {
    pub(super) fn new(path: &EntryPath, error: Errno) -> Self {
        let path = path.clone();
        match error {
            Errno::NOENT => EntryError::Vanished { path },
            Errno::LOOP | Errno::NOTDIR => EntryError::Replaced { path },
            error => EntryError::Io { path, source: error.into() },
        }
    }
}

impl From<EntryError> for Problem {
    fn from(error: EntryError) -> Self {
        let (subject, message) = match error {
            EntryError::Vanished { path } => (path, "vanished before it was read".to_owned()),
            EntryError::Replaced { path } => (path, "was replaced by another file before it was read".to_owned()),
            EntryError::Io { path, source } => (path, format!("could not be read: {source}")),
        };
        Problem::missing(format!("/{subject}"), message)
    }
}

/// The directory from which entries are opened, so that links planted further down are never followed.
#[derive(Debug)]
pub(super) struct Base {
    pub directory: OwnedFd,
    /// How many bytes of an entry's path lead to `directory`.
    pub prefix: usize,
    /// Set for ancestors of roots: the user named them, links on the way to them are followed.
    pub follow: bool,
    pub owners: Arc<Owners>,
}

impl Base {
    /// Opens the entry at `path`.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let rest = &path[self.prefix.min(path.len())..];
        let relative = match rest.strip_prefix(b"/").unwrap_or(rest) {
            b"" => b".",
            relative => relative,
        };
        if self.follow {
            return openat(&self.directory, relative, flags | OFlags::CLOEXEC, Mode::empty());
        }
        open_beneath(self.directory.as_fd(), relative, flags)
    }
}

impl FoundEntry {
    /// Returns the absolute path in the file system.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "tests look at it"))]
    pub fn fs_path(&self) -> PathBuf {
        let mut bytes = Vec::with_capacity(1 + self.path.as_bytes().len());
        bytes.push(b'/');
        bytes.extend_from_slice(self.path.as_bytes());
        PathBuf::from(OsString::from_vec(bytes))
    }

    /// Returns the size of a regular file in bytes; zero for everything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            FoundKind::File { size } => size,
            _ => 0,
        }
    }

    /// Returns the last change of the content.
    pub fn mtime(&self) -> Timestamp {
        self.stat.mtime
    }

    /// Returns the last change of the inode.
    pub fn ctime(&self) -> Timestamp {
        self.stat.ctime
    }

    /// Returns the inode number.
    pub fn inode(&self) -> u64 {
        self.stat.inode
    }

    /// Returns all that `stat` told.
    pub fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// Tells whether this is a directory.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "tests look at it"))]
    pub fn is_directory(&self) -> bool {
        self.kind == FoundKind::Directory
    }

    /// Returns the metadata with names of owner and group, without extended attributes.
    ///
    /// The first call for an owner may ask a directory service; later ones cost two small allocations.
    pub fn metadata(&self) -> Metadata {
        self.stat.metadata(&self.base.owners)
    }

    /// Returns all extended attributes: `user.*`, `security.*`, ACLs and whatever else the caller may see.
    ///
    /// Costs three system calls. For a file that is opened anyway [`FileReader::read_xattrs`](crate::source::files::FileReader::read_xattrs) costs one.
    ///
    /// # Errors
    /// As for [`FoundEntry::open`]. A file system without attributes is no error.
    pub fn read_xattrs(&self) -> Result<Xattrs, EntryError> {
        if self.is_foreign {
            return Ok(Xattrs::new());
        }
        let error = |error| EntryError::new(&self.path, error);
        let handle = self.base.open(self.path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW).map_err(error)?;
        match Subject::Handle(handle.as_fd()).read_all() {
            // Only /proc can be missing here: the handle itself is open.
            Err(Errno::NOENT) if matches!(self.kind, FoundKind::File { .. } | FoundKind::Directory) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
                let opened = self.base.open(self.path.as_bytes(), flags).map_err(error)?;
                Subject::Open(opened.as_fd()).read_all().map_err(error)
            }
            Err(Errno::NOENT) => Ok(Xattrs::new()),
            answer => answer.map_err(error),
        }
    }
}
