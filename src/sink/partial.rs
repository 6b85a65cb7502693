//! Files, links and special files on their way: made under a temporary name, given their own when they are complete.
//!
//! A temporary file is made anew (`O_EXCL`) and for its owner alone; whoever else may write in the directory gets no handle to
//! it. Opened again, it must be the same file. Its name is given only when everything was written, and by a rename that
//! replaces nothing unless it is told to: what a directory did not have before stays, whoever made it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fstat, fstatvfs, ftruncate, linkat, makedev, mknodat, openat,
    readlinkat, renameat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::fs::stat::FileStat;
use crate::fs::xattrs::Subject;
use crate::model::entry::{Entry, EntryKind};
use crate::sink::attributes::stat;
use crate::sink::error::{Obstacle, TargetError, failed};
use crate::sink::target::{FileTarget, split};
use crate::sink::temporary;

/// What to do when a name is taken at the moment it is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfTaken {
    /// Replace what has it, unless that is a directory with something in it.
    Replace,
    /// Leave what has it: it was not there before, so it was restored under a name that is the same one here, or somebody
    /// made it meanwhile.
    Refuse,
}

/// A file being written under its temporary name; it is opened for each write.
#[derive(Debug)]
pub struct PartialFile {
    temporary: Vec<u8>,
    /// Device and inode of what was made.
    identity: (u64, u64),
}

/// The most tries to find a temporary name that is not taken.
const NAME_TRIES: usize = 8;

impl FileTarget {
    /// Makes the temporary file that becomes `path`, for which `bytes` will be written.
    ///
    /// # Errors
    /// When it cannot be made, or there is no room for it.
    pub fn create_partial(&self, path: &[u8], bytes: u64) -> Result<PartialFile, TargetError> {
        let error = failed(path, "make a file beside it");
        let parent = self.directory(split(path).0).map_err(&error)?;
        if !has_room(&parent, bytes) {
            return Err(failed(path, "write it")(Errno::NOSPC));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |name: &[u8]| openat(&*parent, name, flags, Mode::RUSR | Mode::WUSR);
        let (temporary, file) = self.make_temporary(split(path).0, make).map_err(&error)?;
        let stat = FileStat::from(fstat(&file).map_err(error)?);
        Ok(PartialFile { temporary, identity: (stat.device, stat.inode) })
    }

    /// Opens a file that was begun.
    ///
    /// # Errors
    /// When it cannot be opened, or somebody put another file in its place.
    pub fn open_partial(&self, path: &[u8], partial: &PartialFile) -> Result<File, TargetError> {
        let error = failed(path, "go on with the file beside it");
        let parent = self.directory(split(path).0).map_err(&error)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&*parent, &*partial.temporary, flags, Mode::empty()).map_err(&error)?;
        let stat = FileStat::from(fstat(&file).map_err(&error)?);
        if (stat.device, stat.inode) != partial.identity || stat.file_type() != FileType::RegularFile {
            return Err(error(Errno::STALE));
        }
        Ok(file.into())
    }

    /// Writes bytes of a file at `offset`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_at(&self, path: &[u8], file: &File, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        if self.options.sparse && bytes.len() >= 4096 && bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        file.write_all_at(bytes, offset).map_err(|source| TargetError::new(path, "write it", source))
    }

    /// Completes a file of which every byte was written: length, attributes, and its name, `suffix` appended.
    ///
    /// # Errors
    /// When the file cannot be completed; it is removed then. Attributes that could not be set are returned as problems.
    pub fn finish_file(
        &self,
        path: &[u8],
        partial: PartialFile,
        entry: &Entry,
        suffix: &[u8],
        if_taken: IfTaken,
    ) -> Result<Vec<String>, TargetError> {
        let finished = self.try_to_finish(path, &partial, entry, suffix, if_taken);
        match &finished {
            Ok(_) => self.in_use.remove(&partial.temporary),
            Err(_) => self.discard(path, partial),
        }
        finished
    }

    fn try_to_finish(
        &self,
        path: &[u8],
        partial: &PartialFile,
        entry: &Entry,
        suffix: &[u8],
        if_taken: IfTaken,
    ) -> Result<Vec<String>, TargetError> {
        let file = self.open_partial(path, partial)?;
        let stat = FileStat::from(fstat(&file).map_err(failed(path, "look at it"))?);
        if stat.size != entry.size() {
            ftruncate(&file, entry.size()).map_err(failed(path, "give it its length"))?;
        }
        let problems = self.set_attributes(Subject::Open(file.as_fd()), &entry.metadata);
        let parent = self.directory(split(path).0).map_err(failed(path, "give it its name"))?;
        let name = [split(path).1, suffix].concat();
        let durable = || file.sync_all().map_err(|source| TargetError::new(path, "make it durable", source));
        give_name(&parent, &partial.temporary, &name, path, if_taken, durable)?;
        Ok(problems)
    }

    /// Removes a file that cannot be completed.
    pub fn discard(&self, path: &[u8], partial: PartialFile) {
        if let Ok(parent) = self.directory(split(path).0) {
            let _ = unlinkat(&*parent, &*partial.temporary, AtFlags::empty());
        }
        self.in_use.remove(&partial.temporary);
    }

    /// Removes everything that was begun and not completed.
    pub fn discard_unfinished(&self) {
        for (directory, name) in self.in_use.take() {
            if let Ok(directory) = self.directory(&directory) {
                let _ = unlinkat(&*directory, &*name, AtFlags::empty());
            }
        }
    }

    /// Makes a symbolic link, pipe, socket or device.
    ///
    /// # Errors
    /// When it cannot be made; devices need root. Attributes that could not be set are returned as problems.
    pub fn make_special(&self, path: &[u8], entry: &Entry, if_taken: IfTaken) -> Result<Vec<String>, TargetError> {
        let error = failed(path, "make it");
        let parent = self.directory(split(path).0).map_err(&error)?;
        let make = |name: &[u8]| match &entry.kind {
            EntryKind::Symlink(link) => symlinkat(&**link, &*parent, name),
            kind => {
                let (kind, number) = node(kind).ok_or(Errno::INVAL)?;
                mknodat(&*parent, name, kind, Mode::RUSR | Mode::WUSR, number)
            }
        };
        let (temporary, ()) = self.make_temporary(split(path).0, make).map_err(&error)?;
        let finish = || {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = openat(&*parent, &*temporary, flags, Mode::empty()).map_err(&error)?;
            if !is_what_was_made(&handle, entry) {
                return Err(error(Errno::STALE));
            }
            let problems = self.set_attributes(Subject::Handle(handle.as_fd()), &entry.metadata);
            give_name(&parent, &temporary, split(path).1, path, if_taken, || Ok(()))?;
            Ok(problems)
        };
        let finished = finish();
        if finished.is_err() {
            let _ = unlinkat(&*parent, &*temporary, AtFlags::empty());
        }
        self.in_use.remove(&temporary);
        finished
    }

    /// Makes `path` another name of `first`, which is as it should be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_hardlink(&self, first: &[u8], path: &[u8], if_taken: IfTaken) -> Result<(), TargetError> {
        let error = failed(path, "link it");
        let (from, to) = (split(first), split(path));
        let directory = self.directory(from.0).map_err(&error)?;
        let parent = self.directory(to.0).map_err(&error)?;
        let identity = |directory: &OwnedFd, name| {
            let stat = FileStat::from(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?);
            Some((stat.device, stat.inode))
        };
        let now = identity(&parent, to.1);
        if now.is_some() && now == identity(&directory, from.1) && if_taken == IfTaken::Replace {
            return Ok(());
        }
        let make = |name: &[u8]| linkat(&*directory, from.1, &*parent, name, AtFlags::empty());
        let (temporary, ()) = self.make_temporary(to.0, make).map_err(&error)?;
        let given = give_name(&parent, &temporary, to.1, path, if_taken, || Ok(()));
        // Renaming one name of a file onto another does nothing and leaves both.
        let _ = unlinkat(&*parent, &*temporary, AtFlags::empty());
        self.in_use.remove(&temporary);
        given
    }

    /// Makes something under a new temporary name in `directory`.
    fn make_temporary<T>(
        &self,
        directory: &[u8],
        make: impl Fn(&[u8]) -> Result<T, Errno>,
    ) -> Result<(Vec<u8>, T), Errno> {
        let mut tries = 0;
        loop {
            let name = temporary::name();
            self.in_use.add(directory, &name);
            match make(&name) {
                Ok(made) => return Ok((name, made)),
                Err(errno) => {
                    self.in_use.remove(&name);
                    tries += 1;
                    if errno != Errno::EXIST || tries >= NAME_TRIES {
                        return Err(errno);
                    }
                }
            }
        }
    }
}

/// Renames a temporary name to its own. Where that replaces something, `durable` comes first, so that a crash leaves the
/// old content or the new.
pub(super) fn give_name(
    parent: &OwnedFd,
    temporary: &[u8],
    name: &[u8],
    path: &[u8],
    if_taken: IfTaken,
    durable: impl FnOnce() -> Result<(), TargetError>,
) -> Result<(), TargetError> {
    let error = failed(path, "give it its name");
    match renameat_with(parent, temporary, parent, name, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        // File systems that cannot rename without replacing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if let Err(Errno::NOENT) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                return renameat(parent, temporary, parent, name).map_err(error);
            }
        }
        Err(errno) => return Err(error(errno)),
    }
    if if_taken == IfTaken::Refuse {
        return Err(TargetError::because(path, "give it its name", Obstacle::Taken));
    }
    durable()?;
    match renameat(parent, temporary, parent, name) {
        Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY) => {
            unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(|errno| match errno {
                Errno::NOTEMPTY | Errno::EXIST => TargetError::because(path, "give it its name", Obstacle::Filled),
                errno => error(errno),
            })?;
            renameat(parent, temporary, parent, name).map_err(error)
        }
        answer => answer.map_err(error),
    }
}

/// Returns the type and device number that `mknod` takes.
fn node(kind: &EntryKind) -> Option<(FileType, u64)> {
    let device = |number: u64| {
        makedev((number >> 8 & 0xfff | number >> 32 & !0xfff) as u32, (number & 0xff | number >> 12 & !0xff) as u32)
    };
    match kind {
        EntryKind::Fifo => Some((FileType::Fifo, 0)),
        EntryKind::Socket => Some((FileType::Socket, 0)),
        EntryKind::CharDevice(number) => Some((FileType::CharacterDevice, device(*number))),
        EntryKind::BlockDevice(number) => Some((FileType::BlockDevice, device(*number))),
        EntryKind::Symlink(_) | EntryKind::File(_) | EntryKind::Stream(..) | EntryKind::Directory => None,
    }
}

/// Tells whether a handle is of what an entry says, apart from its attributes.
pub(super) fn is_what_was_made(handle: &OwnedFd, entry: &Entry) -> bool {
    let Ok(stat) = stat(Subject::Handle(handle.as_fd())) else { return false };
    match &entry.kind {
        EntryKind::Symlink(link) => {
            stat.file_type() == FileType::Symlink
                && readlinkat(handle, "", Vec::new()).is_ok_and(|to| to.to_bytes() == link.as_slice())
        }
        kind => node(kind).is_some_and(|(kind, number)| {
            let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
            stat.file_type() == kind && (!is_device || stat.device_number == number)
        }),
    }
}

/// Tells whether a file system has room for so many bytes more, where it tells at all.
fn has_room(directory: &OwnedFd, bytes: u64) -> bool {
    let Ok(room) = fstatvfs(directory) else { return true };
    let free = if rustix::process::geteuid().is_root() { room.f_bfree } else { room.f_bavail };
    bytes == 0 || room.f_blocks == 0 || bytes <= free.saturating_mul(room.f_frsize)
}
