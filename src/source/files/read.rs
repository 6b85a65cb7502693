//! Reading one regular file: what lies between its holes, in order, and at the end what the file really was.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, openat, seek};
use rustix::io::Errno;

use crate::fs::stat::FileStat;
use crate::fs::xattrs::{Subject, Xattrs, proc_path};
use crate::model::entry::{Hole, Metadata};
use crate::source::files::found::{Base, EntryError, FoundEntry};

/// Shorter holes are read as the zeros they are: each hole costs a record and two system calls.
const SMALLEST_HOLE: u64 = 64 * 1024;

/// How much is read of a file that says it is empty: those of `/proc` do, and have content. Enough for all that are of use;
/// one that has more counts as changed while it was read.
const UNSIZED_LIMIT: u64 = 64 << 20;

/// After so many holes the shortest one that counts is doubled, again and again, so that the list stays short even for
/// a fragmented disk image of terabytes.
const HOLES_PER_DOUBLING: usize = 256;

/// A regular file being read from start to end, holes left out.
///
/// [`Read`] gives the bytes that lie between the holes, one after the other, as [`crate::model::entry::FileContent`]
/// keeps them. Reading ends where the file ended when it was opened, or before if it was cut since: a log that grows faster
/// than it can be sent would otherwise be read for ever, and what its metadata says was true at that time, too.
#[derive(Debug)]
pub struct FileReader {
    file: File,
    opened: FileStat,
    base: Arc<Base>,
    position: u64,
    /// Up to here there is data; beyond it is not known yet.
    data_end: u64,
    sparse: bool,
    at_end: bool,
    /// Nothing is read beyond.
    limit: u64,
    holes: Vec<Hole>,
}

/// What a file turned out to be once it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSummary {
    /// Length in bytes, holes included.
    pub size: u64,
    /// Its holes, ascending, not touching.
    pub holes: Vec<Hole>,
    /// Size, mtime or ctime differ from when it was opened: what was read may never have stood there at one time.
    pub changed_while_read: bool,
}

impl FoundEntry {
    /// Opens a regular file for reading, without changing its access time where that is permitted.
    ///
    /// # Errors
    /// [`EntryError::Vanished`] and [`EntryError::Replaced`] when the name no longer leads to a regular file;
    /// [`EntryError::Io`] for the rest, permissions among them.
    pub fn open(&self) -> Result<FileReader, EntryError> {
        FileReader::open(self)
    }
}

impl FileReader {
    fn open(entry: &FoundEntry) -> Result<Self, EntryError> {
        let file = open_quietly(entry).map_err(|error| EntryError::new(&entry.path, error))?;
        let opened: FileStat = fstat(&file).map_err(|error| EntryError::new(&entry.path, error))?.into();
        // Another regular file under this name (a rotated log, an editor that saves by renaming) is as good as the one
        // that was found, and inode numbers are not stable everywhere; anything else must not be read.
        if opened.file_type() != FileType::RegularFile {
            return Err(EntryError::Replaced { path: entry.path.clone() });
        }
        let sparse = opened.may_have_holes();
        Ok(Self {
            file: file.into(),
            opened,
            base: Arc::clone(&entry.base),
            position: 0,
            data_end: if sparse { 0 } else { u64::MAX },
            sparse,
            at_end: false,
            limit: if opened.size == 0 { UNSIZED_LIMIT } else { opened.size },
            holes: Vec::new(),
        })
    }

    /// Returns the size when the file was opened, which may be later than when it was found.
    #[cfg_attr(not(feature = "internals"), expect(dead_code, reason = "tests look at it"))]
    pub fn opened_size(&self) -> u64 {
        self.opened.size
    }

    /// Returns the metadata at the time of opening, without extended attributes. This, not what the walk saw, belongs
    /// to the content: the file may have been replaced or changed in between.
    pub fn metadata(&self) -> Metadata {
        self.opened.metadata(&self.base.owners)
    }

    /// Returns all extended attributes; see [`FoundEntry::read_xattrs`].
    ///
    /// # Errors
    /// What the system says when a value may not be read.
    pub fn read_xattrs(&self) -> io::Result<Xattrs> {
        Subject::Open(self.file.as_fd()).read_all().map_err(io::Error::from)
    }

    /// Tells whether size, mtime or ctime changed since the file was opened.
    ///
    /// # Errors
    /// What the system says.
    pub fn changed_while_read(&self) -> io::Result<bool> {
        Ok(!self.opened.is_unchanged(&fstat(&self.file)?.into()))
    }

    /// Fills `buffer` as far as the file reaches and returns how much that was; less than its length only at the end.
    ///
    /// # Errors
    /// What the system says; the file cannot be read further.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Completes reading and tells what the file was. Call it after a read returned zero.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(self) -> io::Result<ReadSummary> {
        let was_cut = self.opened.size == 0 && self.position == UNSIZED_LIMIT;
        let changed_while_read = was_cut || self.changed_while_read()?;
        Ok(ReadSummary { size: self.position, holes: self.holes, changed_while_read })
    }

    /// Finds the next run of data at or after the position; records the hole before it.
    fn find_data(&mut self) -> io::Result<()> {
        let data = match seek(&self.file, SeekFrom::Data(self.position)) {
            Ok(data) => data,
            Err(Errno::NXIO) => {
                let end = u64::try_from(fstat(&self.file)?.st_size).unwrap_or(0);
                self.skip_to(end.min(self.limit).max(self.position));
                self.at_end = true;
                return Ok(());
            }
            // The file system cannot tell: everything is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.data_end = u64::MAX;
                self.sparse = false;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let smallest = SMALLEST_HOLE << (self.holes.len() / HOLES_PER_DOUBLING).min(32);
        if data - self.position >= smallest {
            self.skip_to(data.min(self.limit));
        }
        self.data_end = match seek(&self.file, SeekFrom::Hole(data)) {
            Ok(end) => end,
            // Cut off between the two calls: the next read finds the end.
            Err(Errno::NXIO) => data,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) {
        let length = offset - self.position;
        match self.holes.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.offset + last.length == self.position => last.length += length,
            _ => self.holes.push(Hole { offset: self.position, length }),
        }
        self.position = offset;
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if !self.at_end && self.position >= self.data_end {
            self.find_data()?;
        }
        self.at_end |= self.position >= self.limit;
        if self.at_end {
            return Ok(0);
        }
        let data = self.data_end.saturating_sub(self.position).max(1);
        let room = usize::try_from(data.min(self.limit - self.position)).unwrap_or(usize::MAX);
        let length = room.min(buffer.len());
        let count = rustix::io::pread(&self.file, &mut buffer[..length], self.position)?;
        self.position += count as u64;
        self.at_end = count == 0;
        Ok(count)
    }
}

/// Opens without waiting for anybody, without following a link, and leaving the access time alone if that is allowed.
fn open_quietly(entry: &FoundEntry) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let path = entry.path.as_bytes();
    match entry.base.open(path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => {}
        Err(Errno::WOULDBLOCK) => return open_leased(entry),
        answer => return answer,
    }
    match entry.base.open(path, flags) {
        Err(Errno::WOULDBLOCK) => open_leased(entry),
        answer => answer,
    }
}

/// Opens a file on which another process (a file server) holds a lease: waits until it lets go. The handle is taken
/// first, so that it is certain that this waits for a regular file and nothing else.
fn open_leased(entry: &FoundEntry) -> Result<OwnedFd, Errno> {
    let handle = entry.base.open(entry.path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW)?;
    if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::RegularFile {
        return Err(Errno::LOOP);
    }
    openat(rustix::fs::CWD, proc_path(&handle), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
