//! Putting entries into a directory, never outside it, whatever their paths and whatever is there already.
//!
//! Every path is resolved below the target's handle without following symbolic links. A file is written under a temporary
//! name and renamed when it is complete with its attributes ([`partial`](crate::sink::partial)), so a name holds the old
//! content or the new, never half of one. Where a rename replaces something, the new content is made durable first;
//! everything else is made durable by [`FileTarget::sync`] before a restore reports success. (One `fsync` for each of
//! 300 000 new files would take minutes and protect nothing: before the end, an interrupted restore has replaced nothing
//! and is repeated.)

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::fs::beneath::open_beneath;
use crate::fs::stat::FileStat;
use crate::fs::xattrs::Subject;
use crate::model::entry::{Entry, Metadata};
use crate::sink::attributes::{set_mode, set_times};
use crate::sink::error::{Obstacle, TargetError, failed};
use crate::sink::names::Names;
use crate::sink::partial::{IfTaken, is_what_was_made};
use crate::sink::target::{FileTarget, or_dot, split};
use crate::sink::temporary;

/// A directory that entries are about to be put into.
#[derive(Debug, Default)]
pub struct Entered {
    /// It was made just now.
    pub is_new: bool,
    /// What stood in it before; `None` when it could not be listed.
    pub names: Option<Names>,
    /// The mode it had, where that was changed so that something can be put into it.
    pub mode_before: Option<u32>,
    /// The device it is on.
    pub device: u64,
}

impl FileTarget {
    /// Returns what is at `path`, or `None` when nothing is.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn existing(&self, path: &[u8]) -> Result<Option<FileStat>, TargetError> {
        let error = failed(path, "look at what is there");
        let (parent, name) = split(path);
        let directory = match self.directory(parent) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(error(errno)),
        };
        match statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(error(errno)),
        }
    }

    /// Opens the regular file at `path` for comparing.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_existing(&self, path: &[u8]) -> Result<File, TargetError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        open_beneath(self.root.as_fd(), path, flags).map(File::from).map_err(failed(path, "open it for comparing"))
    }

    /// Tells whether the link, pipe, socket or device that an entry describes is at `path`, apart from its attributes.
    pub fn has_special(&self, path: &[u8], entry: &Entry) -> bool {
        open_beneath(self.root.as_fd(), path, OFlags::PATH).is_ok_and(|handle| is_what_was_made(&handle, entry))
    }

    /// Returns the names in a directory, or `None` when it is not there or cannot be listed. Nothing is changed.
    pub fn names(&self, path: &[u8]) -> Option<Names> {
        self.list(path, |_, _| false).ok()
    }

    /// Tells whether the directory at `path` has anything in it; one that cannot be listed counts as filled.
    pub fn is_filled(&self, path: &[u8]) -> bool {
        self.names(path).is_none_or(|names| names.get(0).is_some())
    }

    /// Makes a directory, or opens one that is there, so that entries can be put into it. What is there and no directory
    /// is replaced if that is wanted. Leftovers of restores that were killed are removed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn enter(&self, path: &[u8], if_taken: IfTaken) -> Result<Entered, TargetError> {
        let error = failed(path, "make the directory");
        let (parent, name) = split(path);
        let made_new = || Entered { is_new: true, names: Some(Names::default()), ..Entered::default() };
        if !path.is_empty() {
            let directory = self.directory(parent).map_err(&error)?;
            match mkdirat(&*directory, name, Mode::RWXU) {
                Ok(()) => return Ok(made_new()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(error(errno)),
            }
            if if_taken == IfTaken::Refuse {
                return Err(TargetError::because(path, "make the directory", Obstacle::Taken));
            }
            let stat: FileStat = statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(&error)?.into();
            if stat.file_type() != FileType::Directory {
                unlinkat(&*directory, name, AtFlags::empty()).map_err(&error)?;
                return mkdirat(&*directory, name, Mode::RWXU).map(|()| made_new()).map_err(error);
            }
        }
        let handle = self.directory(path).map_err(&error)?;
        let stat: FileStat = statat(&*handle, "", AtFlags::EMPTY_PATH).map_err(&error)?.into();
        let is_closed = stat.raw_mode & 0o700 != 0o700 && !self.is_root;
        if is_closed {
            set_mode(Subject::Handle(handle.as_fd()), stat.raw_mode & 0o7777 | 0o700).map_err(error)?;
        }
        let mode_before = is_closed.then_some(stat.raw_mode & 0o7777);
        let names = self.list(path, |handle, name| self.is_leftover(handle, name)).ok();
        Ok(Entered { is_new: false, names, mode_before, device: stat.device })
    }

    /// Gives a directory that was only passed through the mode back that it had.
    ///
    /// # Errors
    /// When it cannot be set.
    pub fn close_again(&self, path: &[u8], mode: u32) -> Result<(), TargetError> {
        let error = failed(path, "give it its mode back");
        let handle = self.directory(path).map_err(&error)?;
        set_mode(Subject::Handle(handle.as_fd()), mode).map_err(error)
    }

    /// Sets the attributes of what is right already, or of a directory of which everything is complete.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn set_existing_attributes(&self, path: &[u8], metadata: &Metadata) -> Result<Vec<String>, TargetError> {
        let handle = open_beneath(self.root.as_fd(), or_dot(path), OFlags::PATH);
        let handle = handle.map_err(failed(path, "open it to set its attributes"))?;
        let kind = fstat(&handle).map(|stat| FileStat::from(stat).file_type());
        // A handle for reading works without /proc; but one of a device or pipe might do something.
        if let Ok(FileType::RegularFile | FileType::Directory) = kind {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
            if let Ok(opened) = open_beneath(self.root.as_fd(), or_dot(path), flags) {
                return Ok(self.set_attributes(Subject::Open(opened.as_fd()), metadata));
            }
        }
        Ok(self.set_attributes(Subject::Handle(handle.as_fd()), metadata))
    }

    /// Returns how many files, links and other things that are no directories a removal of `path` would take.
    pub fn count_below(&self, path: &[u8]) -> u64 {
        match open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
            Ok(directory) => count(&directory),
            Err(_) => 1,
        }
    }

    /// Removes what is at `path` with everything below it, but nothing of another file system. The directory it was in
    /// keeps its time.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &[u8]) -> Result<(), TargetError> {
        let error = failed(path, "remove it");
        let (parent, name) = split(path);
        let directory = self.directory(parent).map_err(&error)?;
        let stat: FileStat = statat(&*directory, "", AtFlags::EMPTY_PATH).map_err(&error)?.into();
        remove_tree(directory.as_fd(), name, stat.device).map_err(error)?;
        let _ = set_times(Subject::Handle(directory.as_fd()), stat.mtime);
        Ok(())
    }

    /// Lists a directory without the temporary names of this and other restores; those that `drops` says yes to are removed.
    fn list(&self, path: &[u8], drops: impl Fn(&OwnedFd, &[u8]) -> bool) -> Result<Names, Errno> {
        let directory = open_beneath(self.root.as_fd(), or_dot(path), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for item in rustix::fs::Dir::read_from(&directory)? {
            let item = item?;
            match item.file_name().to_bytes() {
                b"." | b".." => {}
                name if temporary::is_one(name) => {
                    if drops(&directory, name) {
                        let _ = unlinkat(&directory, name, AtFlags::empty());
                    }
                }
                name => names.push(name.to_vec()),
            }
        }
        Ok(Names::new(names))
    }

    /// Tells whether what bears a temporary name was left by a killed restore: made before this run, by this user (root may
    /// have given it to its owner already), and no directory.
    fn is_leftover(&self, directory: &OwnedFd, name: &[u8]) -> bool {
        self.leftovers_before.is_some_and(|before| {
            let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(FileStat::from);
            stat.is_ok_and(|stat| {
                let is_mine = self.is_root || stat.uid == rustix::process::geteuid().as_raw();
                is_mine && stat.file_type() != FileType::Directory && stat.ctime < before
            })
        })
    }
}

/// Counts what is below a directory and no directory, without following links.
fn count(directory: &OwnedFd) -> u64 {
    let Ok(items) = rustix::fs::Dir::read_from(directory) else { return 0 };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    items
        .filter_map(Result::ok)
        .filter(|item| !matches!(item.file_name().to_bytes(), b"." | b".."))
        .map(|item| match openat(directory, item.file_name(), flags, Mode::empty()) {
            Ok(below) => count(&below),
            Err(_) => 1,
        })
        .sum()
}

/// Removes a name and, when it is a directory, everything below it that is on `device`, without following links.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], device: u64) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        answer => return answer,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    if FileStat::from(fstat(&directory)?).device != device {
        return Err(Errno::XDEV);
    }
    for item in rustix::fs::Dir::read_from(&directory)? {
        match item?.file_name().to_bytes() {
            b"." | b".." => {}
            below => remove_tree(directory.as_fd(), below, device)?,
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{EntryKind, FileContent};
    use crate::model::path::EntryPath;
    use crate::model::time::Timestamp;
    use crate::sink::target::{CLOCK_STEP_NANOS, TargetOptions};

    fn entry(kind: EntryKind) -> Entry {
        let metadata = Metadata {
            mode: 0o640,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: Timestamp { seconds: 1_000_000_000, nanos: 123_456_789 },
            ..Metadata::default()
        };
        Entry { path: EntryPath::new("unused").expect("safe"), kind, metadata }
    }

    fn put(target: &FileTarget, path: &str, content: &[u8]) -> Result<Vec<String>, TargetError> {
        let file = EntryKind::File(FileContent { size: content.len() as u64, ..FileContent::default() });
        let partial = target.create_partial(path.as_bytes(), content.len() as u64)?;
        target.write_at(path.as_bytes(), &target.open_partial(path.as_bytes(), &partial)?, 0, content)?;
        target.finish_file(path.as_bytes(), partial, &entry(file), b"", IfTaken::Replace)
    }

    #[test]
    fn a_link_in_the_way_leads_nowhere() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (inside, outside) = (scratch.path().join("in"), scratch.path().join("out"));
        std::fs::create_dir_all(&inside).expect("made");
        std::fs::create_dir_all(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, inside.join("d")).expect("linked");
        let target = FileTarget::open(&inside, TargetOptions::default()).expect("opened");
        target.enter(b"d", IfTaken::Replace).expect("made");
        put(&target, "d/file", b"x").expect("put");
        assert!(std::fs::read_dir(&outside).expect("there").next().is_none());
        assert_eq!(std::fs::read(inside.join("d/file")).expect("there"), b"x");
    }

    #[test]
    fn files_links_and_directories_replace_each_other_but_no_filled_directory_goes() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let target = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        target.enter(b"x", IfTaken::Replace).expect("made");
        put(&target, "x/z", b"deep").expect("put");
        assert_eq!(put(&target, "x", b"now a file").expect_err("it is filled").cause, Obstacle::Filled);
        assert_eq!(std::fs::read(scratch.path().join("x/z")).expect("there"), b"deep");
        std::fs::remove_file(scratch.path().join("x/z")).expect("removed");
        put(&target, "x", b"now a file").expect("replaces the empty directory");
        assert_eq!(std::fs::read(scratch.path().join("x")).expect("there"), b"now a file");
        let link = entry(EntryKind::Symlink(b"gone".to_vec()));
        target.make_special(b"x", &link, IfTaken::Replace).expect("replaces the file");
        assert!(target.has_special(b"x", &link));
        assert!(!target.has_special(b"x", &entry(EntryKind::Symlink(b"elsewhere".to_vec()))));
        target.enter(b"x", IfTaken::Replace).expect("replaces the link");
        assert!(scratch.path().join("x").is_dir());
    }

    #[test]
    fn what_was_not_there_before_is_not_replaced() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let target = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        put(&target, "x", b"first").expect("put");
        let file = EntryKind::File(FileContent { size: 6, ..FileContent::default() });
        let partial = target.create_partial(b"x", 6).expect("made");
        let refused = target.finish_file(b"x", partial, &entry(file), b"", IfTaken::Refuse).expect_err("taken");
        assert_eq!(refused.cause, Obstacle::Taken);
        let link = entry(EntryKind::Symlink(b"gone".to_vec()));
        assert_eq!(target.make_special(b"x", &link, IfTaken::Refuse).expect_err("taken").cause, Obstacle::Taken);
        put(&target, "y", b"second").expect("put");
        assert_eq!(target.make_hardlink(b"y", b"x", IfTaken::Refuse).expect_err("taken").cause, Obstacle::Taken);
        assert_eq!(target.enter(b"x", IfTaken::Refuse).expect_err("taken").cause, Obstacle::Taken);
        assert_eq!(std::fs::read(scratch.path().join("x")).expect("there"), b"first");
        assert_eq!(std::fs::read_dir(scratch.path()).expect("there").count(), 2, "nothing else is left");
    }

    #[test]
    fn leftovers_of_a_killed_restore_go_and_what_users_call_alike_stays() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let killed = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        let partial = killed.create_partial(b"x", 1).expect("made");
        killed.in_use.take();
        drop((killed, partial));
        std::fs::write(scratch.path().join(".coffre-restore-x"), "mine").expect("written");
        std::thread::sleep(std::time::Duration::from_nanos(2 * CLOCK_STEP_NANOS as u64));
        assert_eq!(std::fs::read_dir(scratch.path()).expect("there").count(), 2);
        let target = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        let running = target.create_partial(b"y", 1).expect("made");
        let other = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        other.enter(b"", IfTaken::Replace).expect("entered");
        assert_eq!(std::fs::read_dir(scratch.path()).expect("there").count(), 3, "not while another is at work");
        let entered = target.enter(b"", IfTaken::Replace).expect("entered");
        assert_eq!(entered.names, Some(Names::new(vec![b".coffre-restore-x".to_vec()])));
        target.open_partial(b"y", &running).expect("what this run makes stays");
        target.discard_unfinished();
        assert_eq!(target.names(b""), entered.names);
        assert_eq!(std::fs::read_dir(scratch.path()).expect("there").count(), 1);
    }

    #[test]
    fn attributes_are_those_of_the_entry() {
        use std::os::unix::fs::MetadataExt;
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let target = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        assert_eq!(put(&target, "f", b"x").expect("put"), Vec::<String>::new());
        target.make_hardlink(b"f", b"g", IfTaken::Replace).expect("linked");
        target.make_hardlink(b"f", b"g", IfTaken::Replace).expect("again");
        let stat = scratch.path().join("g").metadata().expect("there");
        assert_eq!((stat.mode() & 0o7777, stat.mtime_nsec(), stat.nlink()), (0o640, 123_456_789, 2));
        assert_eq!(target.names(b""), Some(Names::new(vec![b"f".to_vec(), b"g".to_vec()])));
    }
}
