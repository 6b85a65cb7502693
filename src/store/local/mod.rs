//! A store in a directory, on a disk or a mounted file system.
//!
//! An object is a file of its name. It is written under `tmp/`, made durable, and renamed into place, so a name is
//! either absent or whole, whatever crashes. The directories are made durable too, before `put` returns. What the disk cannot
//! read of one object, while it gives others, is that object's damage; any other failure is the way ([`device`]).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::blocking::blocking;
use crate::model::id::hex;
use crate::model::key::ObjectKey;
use crate::store::signs::Signs;
use crate::store::transfer::Transfer;
use crate::store::{Listing, ObjectInfo, OpenMode, Store, StoreError, StoreErrorKind};

mod device;

/// Where files are written before they get their name.
const TEMPORARY: &str = "tmp";

/// A temporary file this old belongs to nobody any more: no single object takes a day to write.
const TEMPORARY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Bytes handed to the kernel between two nudges to start writing them out. Large enough that the system calls cost
/// nothing, small enough that the disk starts while most of a pack is still being copied.
const WRITE_BLOCK_BYTES: usize = 4 << 20;

/// Bytes read of a whole object between two times that it is told how far it is.
const READ_BLOCK_BYTES: usize = 4 << 20;

/// Directories below the root that a listing enters, which bounds what a loop of symbolic links can cost.
const DEPTH_MAX: usize = 16;

/// A store in a directory.
#[derive(Debug, Clone)]
pub struct LocalStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    location: String,
    /// Inode of the root: another directory in its place is what an unmounted disk leaves.
    identity: u64,
    /// Directories known to exist durably.
    known: Mutex<HashSet<PathBuf>>,
    signs: Signs,
}

impl LocalStore {
    /// Opens the directory `root`. A new one is made readable for its owner alone, since it will hold key slots.
    ///
    /// # Errors
    /// [`StoreErrorKind::NoSuchPlace`] when the directory is missing and `mode` does not allow making it.
    pub fn open(root: &Path, mode: OpenMode) -> Result<Self, StoreError> {
        let error = |source| error_at("open", root.display(), source);
        match fs::metadata(root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let message = "it is there, but is not a directory";
                return Err(StoreError::new("open", root.display(), StoreErrorKind::NoSuchPlace, message));
            }
            Err(source) if source.kind() == ErrorKind::NotFound && mode == OpenMode::Create => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(error)?;
                let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
                sync_directory(parent.unwrap_or(Path::new("."))).map_err(error)?;
            }
            Err(source) if source.kind() == ErrorKind::NotFound => {
                let message = "no such directory";
                return Err(StoreError::new("open", root.display(), StoreErrorKind::NoSuchPlace, message));
            }
            Err(source) => return Err(error(source)),
        }
        let location = root.display().to_string();
        let identity = identity(root).map_err(error)?;
        let (root, known, signs) = (root.to_owned(), Mutex::default(), Signs::default());
        let store = Self(Arc::new(Inner { root, location, identity, known, signs }));
        if mode != OpenMode::Read {
            store.0.remove_old_temporaries();
        }
        Ok(store)
    }

    /// Runs blocking file work away from the threads that drive the network.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, _asked) = (self.0.clone(), self.0.signs.request());
        let answer = blocking(move || work(&inner)).await;
        self.0.signs.note();
        answer
    }

    /// Does the same with work that moves a body, and that ends early when nobody waits for it any more.
    async fn moving<T: Send + 'static>(
        &self,
        transfer: &Transfer,
        work: impl FnOnce(&Inner, &Moving) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (_asking, gone) = mpsc::channel();
        let moving = Moving { transfer: transfer.clone(), signs: self.0.signs.clone(), gone };
        self.blocking(move |inner| work(inner, &moving)).await
    }
}

/// A body on its way between memory and a file.
struct Moving {
    transfer: Transfer,
    signs: Signs,
    /// Closed by who asked, who sends nothing.
    gone: mpsc::Receiver<std::convert::Infallible>,
}

impl Moving {
    /// Waits until some of the `most` bytes that come next may move, and returns how many.
    ///
    /// # Errors
    /// `ConnectionAborted` when nobody waits for it any more.
    fn part(&self, most: usize) -> io::Result<usize> {
        let part = self.transfer.part(most);
        match self.gone.recv_timeout(self.transfer.wait_for(part as u64)) {
            Err(RecvTimeoutError::Timeout) => Ok(part),
            Err(RecvTimeoutError::Disconnected) => Err(ErrorKind::ConnectionAborted.into()),
            Ok(never) => match never {},
        }
    }

    /// Notes that the first `bytes` of it have moved.
    fn reach(&self, bytes: usize) {
        self.signs.note();
        self.transfer.reach(bytes as u64);
    }
}

#[async_trait]
impl Store for LocalStore {
    fn location(&self) -> &str {
        &self.0.location
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError> {
        let key = key.clone();
        self.moving(transfer, move |inner, moving| inner.put(&key, &body, moving)).await
    }

    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
        let key = key.clone();
        self.moving(transfer, move |inner, moving| inner.get(&key, moving)).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let key = key.clone();
        self.moving(transfer, move |inner, moving| inner.get_range(&key, range, moving)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        let key = key.clone();
        self.blocking(move |inner| {
            let metadata = fs::metadata(inner.path("head", &key)?).map_err(|e| inner.object_error("head", &key, e))?;
            if metadata.is_file() {
                Ok(ObjectInfo { size: metadata.len(), key })
            } else {
                Err(StoreError::not_found("head", &key))
            }
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let prefix = prefix.to_owned();
        self.blocking(move |inner| inner.list(&prefix)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.blocking(move |inner| match fs::remove_file(inner.path("delete", &key)?) {
            Ok(()) => Ok(()),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(inner.object_error("delete", &key, e)),
        })
        .await
    }

    fn signs(&self) -> Signs {
        self.0.signs.clone()
    }
}

impl Inner {
    /// Returns the file of `key`, and refuses names that would lead out of the root or among the temporary files.
    fn path(&self, operation: &'static str, key: &ObjectKey) -> Result<PathBuf, StoreError> {
        let mut parts = key.as_str().split('/');
        let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if parts.clone().all(sound) && parts.next() != Some(TEMPORARY) {
            Ok(self.root.join(key.as_str()))
        } else {
            Err(StoreError::new(operation, key, StoreErrorKind::Other, "not a name that a directory can hold"))
        }
    }

    fn put(&self, key: &ObjectKey, body: &[u8], moving: &Moving) -> Result<(), StoreError> {
        let path = self.path("put", key)?;
        let directory = path.parent().expect("a key is below the root");
        self.check_root("put", key)?;
        let error = |source| self.object_error("put", key, source);
        let temporary = self.write_temporary(body, moving).map_err(error)?;
        let renamed = self.ensure_directory(directory).and_then(|()| {
            fs::rename(&temporary, &path).or_else(|failed| {
                // The directory may have been removed since we learnt of it.
                self.known.lock().expect("no panic while held").clear();
                if failed.kind() != ErrorKind::NotFound {
                    return Err(failed);
                }
                self.ensure_directory(directory)?;
                fs::rename(&temporary, &path)
            })
        });
        if let Err(failed) = renamed {
            let _ = fs::remove_file(&temporary);
            return Err(error(failed));
        }
        sync_directory(directory).map_err(error)
    }

    /// Writes a temporary file durably and returns where it is.
    fn write_temporary(&self, body: &[u8], moving: &Moving) -> io::Result<PathBuf> {
        let directory = self.root.join(TEMPORARY);
        let mut random = [0; 12];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = hex(&random);
        let path = directory.join(name);
        let mut file = match File::create_new(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Only when the whole repository is still there: a disk that is not mounted must not be filled.
                fs::create_dir(&directory)
                    .or_else(|e| if e.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })?;
                File::create_new(&path)?
            }
            other => other?,
        };
        if let Err(failed) = write_and_sync(&mut file, body, moving) {
            let _ = fs::remove_file(&path);
            return Err(failed);
        }
        Ok(path)
    }

    /// Makes a directory below the root, durably. Costs nothing once it is known.
    fn ensure_directory(&self, directory: &Path) -> io::Result<()> {
        if directory == self.root || self.known.lock().expect("no panic while held").contains(directory) {
            return Ok(());
        }
        let parent = directory.parent().expect("below the root");
        self.ensure_directory(parent)?;
        match fs::create_dir(directory) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        // Also where it was there: whoever made it may not have got as far as making it durable.
        sync_directory(parent)?;
        self.known.lock().expect("no panic while held").insert(directory.to_owned());
        Ok(())
    }

    fn get(&self, key: &ObjectKey, moving: &Moving) -> Result<Bytes, StoreError> {
        let error = |source| self.object_error("get", key, source);
        let file = File::open(self.path("get", key)?).map_err(error)?;
        let expected = file.metadata().map_err(error)?.len();
        moving.transfer.check_length(key, expected)?;
        let mut body = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        // It may grow or shrink while it is read.
        let mut file = file.take(key.bytes_max() + 1);
        while let left @ 1.. = expected.saturating_sub(body.len() as u64) {
            let part = moving.part(READ_BLOCK_BYTES.min(left as usize)).map_err(error)?;
            if (&mut file).take(part as u64).read_to_end(&mut body).map_err(error)? == 0 {
                break;
            }
            moving.reach(body.len());
        }
        file.read_to_end(&mut body).map_err(error)?;
        moving.reach(body.len());
        moving.transfer.check_length(key, body.len() as u64)?;
        Ok(body.into())
    }

    fn get_range(&self, key: &ObjectKey, range: Range<u64>, moving: &Moving) -> Result<Bytes, StoreError> {
        let file = File::open(self.path("get", key)?).map_err(|e| self.object_error("get", key, e))?;
        let size = file.metadata().map_err(|e| self.object_error("get", key, e))?.len();
        let truncated = || {
            let message = format!("bytes {}..{} were asked for, the object has {size}", range.start, range.end);
            StoreError::new("get", key, StoreErrorKind::Truncated, message)
        };
        // Before the buffer is made: a range from a damaged index may be absurd.
        if range.end > size {
            return Err(truncated());
        }
        let mut body = vec![0; usize::try_from(range.end - range.start).map_err(|_| truncated())?];
        let mut read = 0;
        while read < body.len() {
            let rest = &mut body[read..];
            let part = moving.part(rest.len().min(READ_BLOCK_BYTES)).map_err(|e| self.object_error("get", key, e))?;
            file.read_exact_at(&mut rest[..part], range.start + read as u64).map_err(|e| match e.kind() {
                ErrorKind::UnexpectedEof => truncated(),
                _ => self.object_error("get", key, e),
            })?;
            read += part;
            moving.reach(read);
        }
        Ok(body.into())
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let error = |source| error_at("list", prefix, source);
        let start = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
        if start.split('/').any(|part| part == "." || part == "..") || start.starts_with('/') {
            return Ok(Vec::new());
        }
        self.check_root("list", prefix)?;
        let mut found = Listing::of(prefix);
        let mut pending = vec![(start.to_owned(), 0)];
        while let Some((name, depth)) = pending.pop() {
            let entries = match fs::read_dir(self.root.join(&name)) {
                Ok(entries) => entries,
                Err(e) if is_absent(&e) => continue,
                Err(e) => return Err(error(e)),
            };
            for entry in entries {
                let entry = entry.map_err(error)?;
                let Ok(base) = entry.file_name().into_string() else { continue };
                let child = if name.is_empty() { base } else { format!("{name}/{base}") };
                if child == TEMPORARY || !(child.starts_with(prefix) || prefix.starts_with(&child)) {
                    continue;
                }
                // Follows symbolic links: a repository put together from several disks can be read.
                let metadata = match fs::metadata(entry.path()) {
                    Ok(metadata) => metadata,
                    Err(e) if is_absent(&e) => continue,
                    Err(e) => return Err(error(e)),
                };
                if metadata.is_dir() && depth < DEPTH_MAX {
                    pending.push((child, depth + 1));
                } else if metadata.is_file() && child.starts_with(prefix) {
                    found.push(&child, metadata.len())?;
                }
            }
        }
        Ok(found.finish())
    }

    /// Makes sure that the directory is still the one that was opened: in an empty one that an unmounted disk leaves, everything
    /// would seem to be gone, and whatever is stored would fill the wrong disk.
    fn check_root(&self, operation: &'static str, subject: impl std::fmt::Display) -> Result<(), StoreError> {
        match identity(&self.root) {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) => {
                let message = format!("{} is another directory than before; is the disk still mounted?", self.location);
                Err(StoreError::new(operation, subject, StoreErrorKind::Unavailable, message))
            }
            Err(source) if is_absent(&source) => {
                let message = format!("no such directory: {}", self.location);
                Err(StoreError::new(operation, subject, StoreErrorKind::NoSuchPlace, message))
            }
            Err(source) => Err(error_at(operation, subject, source)),
        }
    }

    /// Makes the error of an operation on an object. It is not there only where the directory is, and is unreadable only where
    /// the disk reads others.
    fn object_error(&self, operation: &'static str, key: &ObjectKey, source: io::Error) -> StoreError {
        if operation == "get" && device::may_be_the_objects(&source) {
            let object = self.root.join(key.as_str());
            if self.check_root(operation, key).is_ok() && device::gives_others(&self.root, &object) {
                let message = "the disk cannot read it, and reads others";
                return StoreError::new(operation, key, StoreErrorKind::Unreadable, message).with_source(source);
            }
        }
        if let Some(elsewhere) = is_absent(&source).then(|| self.check_root(operation, key).err()).flatten() {
            return elsewhere;
        }
        match source.kind() {
            ErrorKind::IsADirectory if operation != "put" => StoreError::not_found(operation, key),
            _ if operation != "put" && is_absent(&source) => StoreError::not_found(operation, key),
            _ => error_at(operation, key, source),
        }
    }

    /// Removes what crashed runs left behind. Failing to is no reason not to work.
    fn remove_old_temporaries(&self) {
        let Ok(entries) = fs::read_dir(self.root.join(TEMPORARY)) else { return };
        for entry in entries.flatten() {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            if age.is_ok_and(|age| age > TEMPORARY_LIFETIME) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Writes `body` so that the disk is busy from the first block on, and returns when it is durable.
fn write_and_sync(file: &mut File, body: &[u8], moving: &Moving) -> io::Result<()> {
    let mut written = 0;
    while written < body.len() {
        let part = moving.part((body.len() - written).min(WRITE_BLOCK_BYTES))?;
        file.write_all(&body[written..written + part])?;
        start_writeback(file, written, part);
        written += part;
        moving.reach(written);
    }
    file.sync_data()
}

/// Asks the kernel to begin writing a part of the file out. A hint: `sync_data` reports what fails.
#[cfg(target_os = "linux")]
fn start_writeback(file: &File, offset: usize, length: usize) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for the duration of the call, and no memory is passed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset as i64, length as i64, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writeback(_: &File, _: usize, _: usize) {}

fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some network file systems have no such thing, and no need of it.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Returns what tells a directory from an empty mount point: its inode. (A file system that is mounted again, as automounters do
/// it, may have another device number.)
fn identity(root: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(root)?;
    if metadata.is_dir() { Ok(metadata.ino()) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Failures of the way to a file system: the device or server behind it is gone, for now or for good.
const WAY: [i32; 11] = [
    libc::ESTALE,
    libc::ETIMEDOUT,
    libc::EBUSY,
    libc::ENODEV,
    libc::ENXIO,
    libc::ENOTCONN,
    libc::ECONNRESET,
    libc::ECONNABORTED,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EREMOTEIO,
];

fn error_at(operation: &'static str, subject: impl std::fmt::Display, source: io::Error) -> StoreError {
    let (kind, message) = match source.kind() {
        ErrorKind::NotFound => (StoreErrorKind::NoSuchPlace, "the directory is not there"),
        ErrorKind::StorageFull => (StoreErrorKind::Full, "no space is left on the file system"),
        ErrorKind::QuotaExceeded => (StoreErrorKind::Full, "the disk quota is used up"),
        ErrorKind::PermissionDenied => (StoreErrorKind::Denied, "permission denied"),
        ErrorKind::ReadOnlyFilesystem => (StoreErrorKind::Denied, "the file system is read-only"),
        _ if source.raw_os_error() == Some(libc::EIO) => {
            (StoreErrorKind::Unavailable, "the disk or its file system failed")
        }
        _ if source.raw_os_error().is_some_and(|code| WAY.contains(&code)) => {
            (StoreErrorKind::Unavailable, "the file system does not answer")
        }
        _ if matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            (StoreErrorKind::Unavailable, "too many open files")
        }
        _ => (StoreErrorKind::Other, "the file system failed"),
    };
    StoreError::new(operation, subject, kind, message).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::pace::{Pace, Rate};

    fn store(mode: OpenMode) -> (tempfile::TempDir, LocalStore) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = LocalStore::open(&directory.path().join("repo"), OpenMode::Create).expect("made");
        drop(store);
        let store = LocalStore::open(&directory.path().join("repo"), mode).expect("opened");
        (directory, store)
    }

    #[test]
    fn a_directory_that_is_missing_is_made_only_on_demand() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("a/b");
        for mode in [OpenMode::Read, OpenMode::Write] {
            let error = LocalStore::open(&root, mode).expect_err("missing");
            assert_eq!(error.kind, StoreErrorKind::NoSuchPlace);
            assert_eq!(error.to_string(), format!("open {}: no such directory", root.display()));
        }
        LocalStore::open(&root, OpenMode::Create).expect("made with its parents");
        LocalStore::open(&root, OpenMode::Read).expect("there now");
    }

    #[tokio::test]
    async fn a_body_that_nobody_waits_for_any_more_moves_no_further() {
        let (directory, store) = store(OpenMode::Write);
        let (body, key) = (Bytes::from(vec![1; 64 << 10]), ObjectKey::from_listed("packs/00/a"));
        // A thousand years for the whole of it.
        let pace = Pace::begin(Arc::new(Rate::new(1.0)), None).await;
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let transfer = Transfer::new(move |bytes| told.send(bytes).expect("heard")).at(pace);
        tokio::select! {
            stored = store.put_telling(&key, body, &transfer) => panic!("{stored:?}"),
            first = heard.recv() => assert_eq!(first, Some(1)),
        }
        drop(transfer);
        while heard.recv().await.is_some() {}
        // It let go of the transfer, with all that it had.
        assert_eq!(fs::read_dir(directory.path().join("repo/tmp")).expect("there").count(), 0);
        assert_eq!(store.list("").await.expect("listed"), []);
    }

    #[tokio::test]
    async fn old_temporary_files_go_when_opened_for_writing() {
        let (directory, store) = store(OpenMode::Write);
        store.put(&ObjectKey::from_listed("config/1"), Bytes::from_static(b"x")).await.expect("stored");
        let temporary = directory.path().join("repo/tmp");
        for (name, age) in [("old", 25 * 3600), ("young", 60)] {
            let file = File::create(temporary.join(name)).expect("created");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("time set");
        }
        LocalStore::open(&directory.path().join("repo"), OpenMode::Read).expect("opened");
        assert!(temporary.join("old").exists(), "reading cleans nothing");
        LocalStore::open(&directory.path().join("repo"), OpenMode::Write).expect("opened");
        assert!(!temporary.join("old").exists() && temporary.join("young").exists());
        let names: Vec<_> = store.list("").await.expect("listed").into_iter().map(|info| info.key).collect();
        assert_eq!(names, [ObjectKey::from_listed("config/1")]);
    }

    #[tokio::test]
    async fn names_that_lead_elsewhere_are_refused() {
        let (_directory, store) = store(OpenMode::Write);
        for name in ["../x", "/x", "a//b", "a/./b", "", "tmp/x", "a\0b"] {
            let error = store.put(&ObjectKey::from_listed(name), Bytes::new()).await.expect_err(name);
            assert_eq!(error.kind, StoreErrorKind::Other, "{name}");
        }
    }

    #[tokio::test]
    async fn a_shard_removed_by_hand_is_made_again() {
        let (directory, store) = store(OpenMode::Write);
        let key = ObjectKey::from_listed("packs/00/a");
        store.put(&key, Bytes::from_static(b"x")).await.expect("stored");
        fs::remove_dir_all(directory.path().join("repo/packs")).expect("removed");
        store.put(&key, Bytes::from_static(b"y")).await.expect("stored again");
        assert_eq!(&store.get(&key).await.expect("there")[..], b"y");
    }

    #[tokio::test]
    async fn a_root_that_vanished_is_not_filled_again() {
        let (directory, store) = store(OpenMode::Write);
        fs::remove_dir_all(directory.path().join("repo")).expect("removed");
        let error = store.put(&ObjectKey::from_listed("packs/00/a"), Bytes::new()).await.expect_err("unmounted");
        assert_eq!(error.kind, StoreErrorKind::NoSuchPlace);
        assert_eq!(store.list("").await.expect_err("unmounted").kind, StoreErrorKind::NoSuchPlace);
        assert!(!directory.path().join("repo").exists());
    }

    #[tokio::test]
    async fn an_unmounted_disk_has_lost_nothing_and_is_not_filled_behind_its_back() {
        let (directory, store) = store(OpenMode::Write);
        let key = ObjectKey::from_listed("packs/00/a");
        store.put(&key, Bytes::from_static(b"x")).await.expect("stored");
        let (root, away) = (directory.path().join("repo"), directory.path().join("away"));
        fs::rename(&root, &away).expect("renamed");
        for kind in [StoreErrorKind::NoSuchPlace, StoreErrorKind::Unavailable] {
            assert_eq!(store.get(&key).await.expect_err("unmounted").kind, kind);
            assert_eq!(store.get_range(&key, 0..1).await.expect_err("unmounted").kind, kind);
            assert_eq!(store.head(&key).await.expect_err("unmounted").kind, kind);
            assert_eq!(store.list("packs/").await.expect_err("unmounted").kind, kind);
            assert_eq!(store.put(&key, Bytes::new()).await.expect_err("unmounted").kind, kind);
            if kind == StoreErrorKind::NoSuchPlace {
                fs::create_dir(&root).expect("the mount point");
            }
        }
        assert_eq!(fs::read_dir(&root).expect("there").count(), 0);
        fs::remove_dir(&root).expect("removed");
        fs::rename(&away, &root).expect("mounted again");
        assert_eq!(&store.get(&key).await.expect("there")[..], b"x");
    }

    /// What it gives is an I/O error, and it is on no disk.
    #[tokio::test]
    async fn an_error_about_which_nothing_more_can_be_known_is_the_way() {
        let (directory, store) = store(OpenMode::Write);
        let key = ObjectKey::from_listed("packs/00/a");
        store.put(&ObjectKey::from_listed("packs/00/b"), Bytes::from_static(&[1; 9000])).await.expect("stored");
        std::os::unix::fs::symlink("/proc/self/mem", directory.path().join("repo/packs/00/a")).expect("linked");
        let error = store.get(&key).await.expect_err("no memory is at 0");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (StoreErrorKind::Unavailable, "the disk or its file system failed")
        );
    }

    #[test]
    fn system_errors_become_kinds() {
        for (code, kind) in [
            (libc::ENOSPC, StoreErrorKind::Full),
            (libc::EDQUOT, StoreErrorKind::Full),
            (libc::EACCES, StoreErrorKind::Denied),
            (libc::EPERM, StoreErrorKind::Denied),
            (libc::EROFS, StoreErrorKind::Denied),
            (libc::ESTALE, StoreErrorKind::Unavailable),
            (libc::EMFILE, StoreErrorKind::Unavailable),
            (libc::EIO, StoreErrorKind::Unavailable),
            (libc::ENOTCONN, StoreErrorKind::Unavailable),
            (libc::EINVAL, StoreErrorKind::Other),
        ] {
            assert_eq!(error_at("put", "x", io::Error::from_raw_os_error(code)).kind, kind, "{code}");
        }
    }
}
