//! Putting entries into a directory, never outside it, whatever their paths and whatever is there already.
//!
//! Every path is resolved below the target's handle without following symbolic links. A file is written under a temporary
//! name and renamed when it is complete with its attributes, so a name holds the old content or the new, never half of
//! one. Where a rename replaces something, the new content is made durable first; everything else is made durable by
//! [`FileTarget::sync`] before a restore reports success. (One `fsync` for each of 300 000 new files would take minutes and
//! protect nothing: before the end, an interrupted restore has replaced nothing and is repeated.)

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, fstat, ftruncate,
    futimens, linkat, makedev, mkdirat, mknodat, openat, renameat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::fs::beneath::open_beneath;
use crate::fs::owners::Owners;
use crate::fs::stat::FileStat;
use crate::fs::xattrs::Subject;
use crate::model::entry::{Entry, EntryKind, Metadata};
use crate::model::path::display_bytes;
use crate::model::time::Timestamp;

/// Begins the name of everything that is not complete.
pub const TEMPORARY_PREFIX: &[u8] = b".coffre-restore-";
/// Handles of directories kept for the entries that follow.
const DIRECTORIES_KEPT: usize = 32;

/// How entries are put.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetOptions {
    /// Restore owners by number and not by name.
    pub numeric_ids: bool,
    /// Leave runs of zeros out, so that they take no space.
    pub sparse: bool,
}

/// Why an entry could not be put.
#[derive(Debug, thiserror::Error)]
#[error("{path}: could not {action}")]
pub struct TargetError {
    /// The path below the target.
    pub path: String,
    /// What was tried.
    pub action: &'static str,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

fn failed<'a>(path: &'a [u8], action: &'static str) -> impl Fn(Errno) -> TargetError + 'a {
    move |error| TargetError { path: display_bytes(path).to_string(), action, source: error.into() }
}

/// A directory that entries are restored into.
#[derive(Debug)]
pub struct FileTarget {
    root: OwnedFd,
    path: PathBuf,
    options: TargetOptions,
    owners: Owners,
    is_root: bool,
    directories: Mutex<Vec<(Vec<u8>, std::sync::Arc<OwnedFd>)>>,
    /// Entries whose owner could not be set, which only root may.
    owners_missed: AtomicU64,
}

/// A file being written under its temporary name.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    parent: std::sync::Arc<OwnedFd>,
    temporary: Vec<u8>,
}

impl FileTarget {
    /// Opens the target, making it if it is missing.
    ///
    /// # Errors
    /// When it cannot be made, or is not a directory.
    pub fn open(path: &Path, options: TargetOptions) -> Result<Self, TargetError> {
        let action = "open the target directory";
        let error = |source| TargetError { path: path.display().to_string(), action, source };
        std::fs::create_dir_all(path).map_err(error)?;
        let root = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| error(errno.into()))?;
        Ok(Self {
            root,
            path: path.to_path_buf(),
            options,
            owners: Owners::default(),
            is_root: rustix::process::geteuid().is_root(),
            directories: Mutex::default(),
            owners_missed: AtomicU64::new(0),
        })
    }

    /// Returns the target's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many entries could not get their owner.
    pub fn owners_missed(&self) -> u64 {
        self.owners_missed.load(Ordering::Relaxed)
    }

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
        match statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) {
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

    /// Returns the target of the symbolic link at `path`.
    pub fn read_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let (parent, name) = split(path);
        let directory = self.directory(parent).ok()?;
        rustix::fs::readlinkat(&*directory, name, Vec::new()).ok().map(std::ffi::CString::into_bytes)
    }

    /// Makes a directory that can be filled; its attributes come later. What is there and no directory is removed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_directory(&self, path: &[u8]) -> Result<(), TargetError> {
        if path.is_empty() {
            return Ok(());
        }
        let error = failed(path, "make the directory");
        let (parent, name) = split(path);
        let directory = self.directory_or_make(parent)?;
        match mkdirat(&*directory, name, Mode::RWXU) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(error(errno)),
        }
        let stat: FileStat = statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(&error)?.into();
        if stat.file_type() != FileType::Directory {
            unlinkat(&*directory, name, AtFlags::empty()).map_err(&error)?;
            return mkdirat(&*directory, name, Mode::RWXU).map_err(error);
        }
        if stat.raw_mode & 0o700 != 0o700 && !self.is_root {
            let mode = Mode::from_raw_mode(stat.raw_mode & 0o7777 | 0o700);
            let opened = open_beneath(directory.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
            // Without read permission it cannot be opened, only changed by name; it is no link, as seen above.
            match opened {
                Ok(opened) => fchmod(&opened, mode).map_err(error)?,
                Err(_) => rustix::fs::chmodat(&*directory, name, mode, AtFlags::empty()).map_err(error)?,
            }
        }
        Ok(())
    }

    /// Opens the temporary file that becomes `path`; `truncate` says that this is the first time.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open_partial(&self, path: &[u8], truncate: bool) -> Result<PartialFile, TargetError> {
        let error = failed(path, "make a file beside it");
        let parent = self.directory_or_make(split(path).0)?;
        let temporary = temporary_name(path);
        let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if truncate {
            flags |= OFlags::TRUNC;
        }
        let file = openat(&*parent, &*temporary, flags, Mode::RUSR | Mode::WUSR).map_err(error)?;
        Ok(PartialFile { file: file.into(), parent, temporary })
    }

    /// Writes bytes of a file at `offset`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_at(&self, path: &[u8], partial: &PartialFile, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        if self.options.sparse && bytes.len() >= 4096 && bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        let error = |source| TargetError { path: display_bytes(path).to_string(), action: "write it", source };
        partial.file.write_all_at(bytes, offset).map_err(error)
    }

    /// Completes a file: length, attributes, and its name, `suffix` appended.
    ///
    /// # Errors
    /// When the file cannot be completed. Attributes that could not be set are returned as problems.
    pub fn finish_file(
        &self,
        path: &[u8],
        partial: PartialFile,
        entry: &Entry,
        suffix: &[u8],
    ) -> Result<Vec<String>, TargetError> {
        let stat = fstat(&partial.file).map_err(failed(path, "look at it"))?;
        if u64::try_from(stat.st_size).unwrap_or(0) != entry.size() {
            ftruncate(&partial.file, entry.size()).map_err(failed(path, "give it its length"))?;
        }
        let problems = self.set_file_metadata(partial.file.as_fd(), &entry.metadata);
        let name = [split(path).1, suffix].concat();
        let replaces = match statat(&*partial.parent, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(FileStat::from(stat)),
            Err(_) => None,
        };
        if let Some(replaced) = replaces {
            let error =
                |source| TargetError { path: display_bytes(path).to_string(), action: "make it durable", source };
            partial.file.sync_all().map_err(error)?;
            if replaced.file_type() == FileType::Directory {
                remove_tree(partial.parent.as_fd(), &name).map_err(failed(path, "replace the directory there"))?;
            }
        }
        renameat(&*partial.parent, &*partial.temporary, &*partial.parent, &*name)
            .map_err(failed(path, "give it its name"))?;
        Ok(problems)
    }

    /// Sets the attributes of a file whose content is right already.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn set_existing_metadata(&self, path: &[u8], metadata: &Metadata) -> Result<Vec<String>, TargetError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let opened = open_beneath(self.root.as_fd(), if path.is_empty() { b"." } else { path }, flags);
        let opened = opened.map_err(failed(path, "open it to set its attributes"))?;
        Ok(self.set_file_metadata(opened.as_fd(), metadata))
    }

    /// Makes a symbolic link, pipe, socket or device, replacing what is there unless that is a filled directory.
    ///
    /// # Errors
    /// When it cannot be made; devices need root.
    pub fn make_special(&self, path: &[u8], entry: &Entry) -> Result<Vec<String>, TargetError> {
        let error = failed(path, "make it");
        let parent = self.directory_or_make(split(path).0)?;
        let temporary = temporary_name(path);
        let _ = unlinkat(&*parent, &*temporary, AtFlags::empty());
        let mode = Mode::from_raw_mode(entry.metadata.mode & 0o7777);
        let node = |kind, number: u64| {
            let device = makedev(
                (number >> 8 & 0xfff | number >> 32 & !0xfff) as u32,
                (number & 0xff | number >> 12 & !0xff) as u32,
            );
            mknodat(&*parent, &*temporary, kind, mode, device)
        };
        match &entry.kind {
            EntryKind::Symlink(link) => symlinkat(&**link, &*parent, &*temporary),
            EntryKind::Fifo => node(FileType::Fifo, 0),
            EntryKind::Socket => node(FileType::Socket, 0),
            EntryKind::CharDevice(number) => node(FileType::CharacterDevice, *number),
            EntryKind::BlockDevice(number) => node(FileType::BlockDevice, *number),
            EntryKind::File(_) | EntryKind::Stream(..) | EntryKind::Directory => Err(Errno::INVAL),
        }
        .map_err(&error)?;
        let mut problems = Vec::new();
        let m = &entry.metadata;
        let (uid, gid) = self.owner(m);
        if let Err(errno) = chownat(&*parent, &*temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            self.owner_problem(errno, &mut problems);
        }
        if !matches!(entry.kind, EntryKind::Symlink(_)) {
            // chown clears set-user-id, and mknod is subject to the umask.
            note(rustix::fs::chmodat(&*parent, &*temporary, mode, AtFlags::empty()), "mode", &mut problems);
        }
        if !m.xattrs.is_empty()
            && let Ok(handle) =
                openat(&*parent, &*temporary, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        {
            set_xattrs(Subject::Handle(handle.as_fd()), m, &mut problems);
        }
        let set = utimensat(&*parent, &*temporary, &times(m.mtime), AtFlags::SYMLINK_NOFOLLOW);
        note(set, "times", &mut problems);
        renameat(&*parent, &*temporary, &*parent, split(path).1).map_err(error)?;
        Ok(problems)
    }

    /// Makes `path` another name of `first`, which was restored before.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_hardlink(&self, first: &[u8], path: &[u8]) -> Result<(), TargetError> {
        let error = failed(path, "link it");
        let (from, to) = (split(first), split(path));
        let directory = self.directory(from.0).map_err(&error)?;
        let parent = self.directory_or_make(to.0)?;
        let temporary = temporary_name(path);
        let _ = unlinkat(&*parent, &*temporary, AtFlags::empty());
        linkat(&*directory, from.1, &*parent, &*temporary, AtFlags::empty()).map_err(&error)?;
        renameat(&*parent, &*temporary, &*parent, to.1).map_err(&error)?;
        // Renaming one name of a file onto another does nothing and leaves both.
        let _ = unlinkat(&*parent, &*temporary, AtFlags::empty());
        Ok(())
    }

    /// Sets a directory's attributes, after everything in it is complete.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn finish_directory(&self, path: &[u8], metadata: &Metadata) -> Result<Vec<String>, TargetError> {
        self.set_existing_metadata(path, metadata)
    }

    /// Lists the names in a directory, sorted; leftovers of interrupted restores are removed on the way.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, TargetError> {
        let error = failed(path, "list it");
        let place = if path.is_empty() { b"." } else { path };
        let directory = open_beneath(self.root.as_fd(), place, OFlags::RDONLY | OFlags::DIRECTORY).map_err(&error)?;
        let mut names = Vec::new();
        for item in rustix::fs::Dir::read_from(&directory).map_err(&error)? {
            let item = item.map_err(&error)?;
            match item.file_name().to_bytes() {
                b"." | b".." => {}
                left if left.starts_with(TEMPORARY_PREFIX) => drop(unlinkat(&directory, left, AtFlags::empty())),
                name => names.push(name.to_vec()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes what is at `path` with everything below it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, path: &[u8]) -> Result<(), TargetError> {
        let error = failed(path, "remove it");
        let (parent, name) = split(path);
        let directory = self.directory(parent).map_err(&error)?;
        remove_tree(directory.as_fd(), name).map_err(error)
    }

    /// Makes everything that was restored durable.
    ///
    /// # Errors
    /// When the system reports that writing failed.
    pub fn sync(&self) -> Result<(), TargetError> {
        rustix::fs::syncfs(&self.root).map_err(failed(b".", "make everything durable"))
    }

    fn directory(&self, path: &[u8]) -> Result<std::sync::Arc<OwnedFd>, Errno> {
        {
            let mut kept = self.directories.lock().expect("no panic while held");
            if let Some(at) = kept.iter().rposition(|(known, _)| known == path) {
                let found = kept.remove(at);
                let directory = found.1.clone();
                kept.push(found);
                return Ok(directory);
            }
        }
        let place = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = std::sync::Arc::new(open_beneath(self.root.as_fd(), place, flags)?);
        let mut kept = self.directories.lock().expect("no panic while held");
        if kept.len() >= DIRECTORIES_KEPT {
            kept.remove(0);
        }
        kept.push((path.to_vec(), opened.clone()));
        Ok(opened)
    }

    /// Opens a directory, making it and those above it where they are missing or are something else.
    fn directory_or_make(&self, path: &[u8]) -> Result<std::sync::Arc<OwnedFd>, TargetError> {
        match self.directory(path) {
            Ok(directory) => Ok(directory),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.make_directory(path)?;
                self.directory(path).map_err(failed(path, "open the directory"))
            }
            Err(errno) => Err(failed(path, "open the directory")(errno)),
        }
    }

    fn owner(&self, m: &Metadata) -> (Uid, Gid) {
        let by_name = !self.options.numeric_ids;
        let user = m.user.as_ref().filter(|_| by_name).and_then(|name| self.owners.user_id(name));
        let group = m.group.as_ref().filter(|_| by_name).and_then(|name| self.owners.group_id(name));
        (Uid::from_raw(user.unwrap_or(m.uid)), Gid::from_raw(group.unwrap_or(m.gid)))
    }

    fn owner_problem(&self, errno: Errno, problems: &mut Vec<String>) {
        if !self.is_root && errno == Errno::PERM {
            self.owners_missed.fetch_add(1, Ordering::Relaxed);
        } else {
            note(Err(errno), "owner", problems);
        }
    }

    /// Owner first, because changing it clears set-user-id and capabilities; times last.
    fn set_file_metadata(&self, file: BorrowedFd<'_>, m: &Metadata) -> Vec<String> {
        let mut problems = Vec::new();
        let (uid, gid) = self.owner(m);
        if let Err(errno) = fchown(file, Some(uid), Some(gid)) {
            self.owner_problem(errno, &mut problems);
        }
        note(fchmod(file, Mode::from_raw_mode(m.mode & 0o7777)), "mode", &mut problems);
        set_xattrs(Subject::Open(file), m, &mut problems);
        note(futimens(file, &times(m.mtime)), "times", &mut problems);
        problems
    }
}

fn set_xattrs(subject: Subject<'_>, m: &Metadata, problems: &mut Vec<String>) {
    for (name, value) in &m.xattrs {
        if let Err(errno) = subject.set(name, value) {
            problems.push(format!("attribute {} could not be set: {}", display_bytes(name), io::Error::from(errno)));
        }
    }
}

fn note(outcome: Result<(), Errno>, what: &str, problems: &mut Vec<String>) {
    if let Err(errno) = outcome {
        problems.push(format!("its {what} could not be set: {}", io::Error::from(errno)));
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Splits a path into its directory and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The temporary name of `path`: always the same, so that a later restore takes a leftover over.
fn temporary_name(path: &[u8]) -> Vec<u8> {
    [TEMPORARY_PREFIX, &blake3::hash(path).to_hex().as_bytes()[..16]].concat()
}

/// Removes a name and, when it is a directory, everything below it, without following links.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        answer => return answer,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for item in rustix::fs::Dir::read_from(&directory)? {
        match item?.file_name().to_bytes() {
            b"." | b".." => {}
            below => remove_tree(directory.as_fd(), below)?,
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::FileContent;
    use crate::model::path::EntryPath;

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
        let partial = target.open_partial(path.as_bytes(), true)?;
        target.write_at(path.as_bytes(), &partial, 0, content)?;
        target.finish_file(path.as_bytes(), partial, &entry(file), b"")
    }

    #[test]
    fn a_link_in_the_way_leads_nowhere() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let (inside, outside) = (scratch.path().join("in"), scratch.path().join("out"));
        std::fs::create_dir_all(&inside).expect("made");
        std::fs::create_dir_all(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, inside.join("d")).expect("linked");
        let target = FileTarget::open(&inside, TargetOptions::default()).expect("opened");
        target.make_directory(b"d").expect("made");
        put(&target, "d/file", b"x").expect("put");
        assert!(std::fs::read_dir(&outside).expect("there").next().is_none());
        assert_eq!(std::fs::read(inside.join("d/file")).expect("there"), b"x");
    }

    #[test]
    fn files_links_and_directories_replace_each_other() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let target = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        target.make_directory(b"x/y").expect("made with what is above");
        put(&target, "x/y/z", b"deep").expect("put");
        put(&target, "x", b"now a file").expect("replaces the directory");
        assert_eq!(std::fs::read(scratch.path().join("x")).expect("there"), b"now a file");
        target.make_special(b"x", &entry(EntryKind::Symlink(b"gone".to_vec()))).expect("replaces the file");
        assert_eq!(target.read_link(b"x"), Some(b"gone".to_vec()));
        target.make_directory(b"x").expect("replaces the link");
        assert!(scratch.path().join("x").is_dir());
    }

    #[test]
    fn attributes_are_those_of_the_entry() {
        use std::os::unix::fs::MetadataExt;
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let target = FileTarget::open(scratch.path(), TargetOptions::default()).expect("opened");
        assert_eq!(put(&target, "f", b"x").expect("put"), Vec::<String>::new());
        target.make_hardlink(b"f", b"g").expect("linked");
        target.make_hardlink(b"f", b"g").expect("again");
        let stat = scratch.path().join("g").metadata().expect("there");
        assert_eq!((stat.mode() & 0o7777, stat.mtime_nsec(), stat.nlink()), (0o640, 123_456_789, 2));
        assert_eq!(target.names(b"").expect("listed"), [b"f".to_vec(), b"g".to_vec()]);
    }
}
