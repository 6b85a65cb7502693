//! The parent: the last snapshot of the same host, job and paths, whose tree tells what has not changed.
//!
//! Its tree is read from a local file that the last run left, or, by a host that may read, from the repository. The file is
//! all that a host with the writer key alone has, and saves everyone else the fetching.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::model::entry::{ChunkList, Entry};
use crate::model::id::{ChunkId, DomainId, PackId};
use crate::model::path::EntryPath;
use crate::model::snapshot::{Snapshot, SnapshotId, TreeRoot};
use crate::model::time::Timestamp;
use crate::ops::Cancel;
use crate::ops::backup::error::BackupError;
use crate::ops::backup::kinship::{Kinship, kinship, tree_name};
use crate::ops::backup::options::{BackupOptions, ParentChoice};
use crate::ops::backup::reliance::relies_on_content;
use crate::ops::backup::trees::{Held, TreeCounter};
use crate::progress::{Monitor, Problem, Totals};
use crate::repository::Repository;
use crate::repository::access::Reading;
use crate::repository::cache::record::checksum;
use crate::repository::cache::temporary::Temporary;
use crate::repository::choose::SnapshotFilter;
use crate::repository::index::checked::CheckedIndex;
use crate::repository::newest_first::NewestFirst;
use crate::repository::reader::Reader;
use crate::repository::tree::{Node, NodeSink};
use crate::repository::uploader::UploadStopped;
use crate::repository::writer::Writer;

const MARK: &[u8; 8] = b"coffreA\x06";
/// Mark, snapshot name (33 bytes), its start (seconds and nanoseconds), entries, bytes, length of all leaves; then a checksum
/// of these and of what stands behind the leaves: the paths that were asked for, each ended by a zero, and their length together; the
/// ids of the packs that its run relied on.
const HEADER_LEN: usize = 8 + 33 + 5 * 8 + SUM_LEN;
const SUM_LEN: usize = 16;
/// The kernel's clock for files moves in steps of up to 10 ms: a file that was read and one that was changed again right
/// after may show the same time.
const CLOCK_STEP: Duration = Duration::from_millis(10);
/// File systems that keep whole seconds (ext3, ext4 with small inodes, an overlay on one) or every second one (FAT) move in
/// steps of their own.
const COARSE_CLOCK_STEP: Duration = Duration::from_secs(2);
/// Leaves decoded ahead of the walk.
const LEAVES_AHEAD: usize = 8;
/// The most that is read of roots and ids: those of four million packs.
const KNOWN_BYTES_MAX: u64 = 64 << 20;
/// The part of the memory that the reader of a parent's tree shares out.
pub(super) const READER_SHARE: u64 = 4;
/// The longest leaf believed.
const LEAF_MAX: usize = 16 << 20;

/// Where unchanged entries are taken from.
pub(super) struct Parent {
    found: FoundParent,
    index: Arc<CheckedIndex>,
    totals: Option<Totals>,
    /// It was made from other paths.
    overlaps: bool,
    last_tree: LastTree,
}

enum FoundParent {
    Nothing,
    /// The file that the last run left.
    Local {
        snapshot: SnapshotId,
        started: Timestamp,
        leaves: Take<BufReader<File>>,
        /// What it was made from.
        roots: Vec<Vec<u8>>,
        /// The packs that lists are taken over with, where they are trusted.
        trusted: Option<Vec<PackId>>,
        /// Looks into lists that are not trusted, where this host may.
        reader: Option<Arc<Reader>>,
    },
    /// The repository itself.
    Remote {
        snapshot: SnapshotId,
        started: Timestamp,
        root: TreeRoot,
        /// What it was made from.
        roots: Vec<Vec<u8>>,
        reader: Arc<Reader>,
    },
}

/// Looks for a run's parent.
pub(super) struct ParentSearch<'a> {
    pub(super) repository: &'a Arc<Repository>,
    pub(super) index: &'a Arc<CheckedIndex>,
    pub(super) options: &'a BackupOptions,
    /// The paths of the run.
    pub(super) roots: &'a [Vec<u8>],
    /// The domain that it writes in.
    pub(super) domain: DomainId,
    pub(super) monitor: &'a Arc<dyn Monitor>,
}

impl ParentSearch<'_> {
    /// Looks for the parent that the options ask for, where they leave it open among the snapshots of `ids`.
    pub(super) async fn find(self, ids: &[SnapshotId]) -> Result<Parent, BackupError> {
        let path = self.repository.cache().trees().join(tree_name(self.options, self.roots));
        let has_files = self.options.files.is_some();
        let last_tree = LastTree::new(path.clone(), has_files && !self.options.dry_run);
        let index = self.index.clone();
        let mut parent = Parent { found: FoundParent::Nothing, index, totals: None, overlaps: false, last_tree };
        if !has_files {
            return Ok(parent);
        }
        match &self.options.parent {
            ParentChoice::None => {}
            ParentChoice::Snapshot(text) => {
                if let Some(snapshot) = self.chosen(text).await? {
                    parent.totals = Some(totals(&snapshot));
                    parent.found = self.remote(&snapshot, self.repository.reading()?);
                }
            }
            ParentChoice::Auto => {
                if let Some((found, totals)) = self.local(&path, ids) {
                    (parent.found, parent.totals) = (found, Some(totals));
                } else if let Ok(reading) = self.repository.reading()
                    && let Some((snapshot, kinship)) = self.nearest(ids).await
                {
                    parent.found = self.remote(&snapshot, reading);
                    // What was counted of other paths is not what lies ahead.
                    parent.overlaps = kinship == Kinship::Overlapping;
                    parent.totals = (kinship == Kinship::Same).then(|| totals(&snapshot));
                }
            }
        }
        Ok(parent)
    }

    /// Finds the snapshot that was asked for; says why where nothing can be taken over from it.
    async fn chosen(&self, text: &str) -> Result<Option<Snapshot>, BackupError> {
        let snapshot = self.repository.find_snapshot(text, &SnapshotFilter::default()).await?;
        let why = match snapshot.foreign {
            Some(foreign) => format!("is {foreign}"),
            None if snapshot.forgotten.is_some() => "is forgotten".into(),
            None if snapshot.at.domain != self.domain => "belongs to another domain".into(),
            None => return Ok(Some(snapshot)),
        };
        let message = format!("{why}, so nothing is taken over from it");
        self.monitor.problem(Problem::advice(format!("snapshot {}", snapshot.id.short()), message));
        Ok(None)
    }

    /// Opens the file that the last run left, if its snapshot is still there.
    fn local(&self, path: &Path, ids: &[SnapshotId]) -> Option<(FoundParent, Totals)> {
        let (header, known, leaves) = open_local(path)?;
        if !ids.contains(&header.snapshot) {
            return None;
        }
        let LocalHeader { snapshot, started, entries, bytes } = header;
        let reader = self.repository.reading().ok().map(|reading| self.reader(reading));
        // Lists are trusted while every pack that the parent needed is there, and in the index by the word of somebody who is still
        // trusted, whatever has become of others: a segment that was lost is missed by its packs, and one that was merged is not.
        let is_known = self.index.are_reliable(&known.packs);
        // Trusting relies on every pack that the parent needed, and what can be read but once must not be lost for one that this
        // run does not need.
        let trusts_lists = is_known && (self.options.is_repeatable() || reader.is_none());
        let trusted = trusts_lists.then_some(known.packs);
        let found = FoundParent::Local { snapshot, started, leaves, roots: known.roots, trusted, reader };
        Some((found, Totals { entries: Some(entries), bytes: Some(bytes), ..Totals::default() }))
    }

    /// Returns the newest snapshot of the same files, or else of some of them.
    async fn nearest(&self, ids: &[SnapshotId]) -> Option<(Snapshot, Kinship)> {
        let mut overlapping = None;
        let mut newest = NewestFirst::recent(self.repository, ids.to_vec());
        while let Some((_, snapshot)) = newest.next().await {
            // One that cannot be opened is no reason not to back up; verifying tells about it.
            let Ok(snapshot) = snapshot else { continue };
            // What is taken over would be erased with its domain.
            if snapshot.at.domain != self.domain {
                continue;
            }
            match kinship(&snapshot, self.options, self.roots) {
                Some(Kinship::Same) => return Some((snapshot, Kinship::Same)),
                Some(Kinship::Overlapping) if overlapping.is_none() => overlapping = Some(snapshot),
                _ => {}
            }
        }
        overlapping.map(|snapshot| (snapshot, Kinship::Overlapping))
    }

    fn remote(&self, snapshot: &Snapshot, reading: Reading) -> FoundParent {
        FoundParent::Remote {
            snapshot: snapshot.id,
            started: snapshot.started,
            root: snapshot.root,
            roots: snapshot.sources.clone(),
            reader: self.reader(reading),
        }
    }

    /// Makes a reader that reads ahead a little, beside everything else.
    fn reader(&self, reading: Reading) -> Arc<Reader> {
        let memory_bytes = self.options.memory_bytes / READER_SHARE;
        Arc::new(Reader::new(reading, self.index.index().clone(), memory_bytes, self.monitor.clone()))
    }
}

impl Parent {
    /// Returns the parent's id.
    pub(super) fn snapshot(&self) -> Option<SnapshotId> {
        match &self.found {
            FoundParent::Nothing => None,
            FoundParent::Local { snapshot, .. } | FoundParent::Remote { snapshot, .. } => Some(*snapshot),
        }
    }

    /// Returns what the parent counted, an estimate of what lies ahead.
    pub(super) fn totals(&self) -> Option<Totals> {
        self.totals
    }

    /// Starts reading the parent's entries in the background.
    ///
    /// They are counted for each of `roots` as they pass, and hashed if `has_digest`.
    pub(super) fn start(self, runtime: &Handle, roots: &[Vec<u8>], has_digest: bool) -> (LastTree, ParentEntries) {
        let (sender, receiver) = sync_channel(LEAVES_AHEAD);
        let (mut trusted, mut walker, mut parent_started) = (None, None, Timestamp::default());
        let mut named = Vec::new();
        match self.found {
            FoundParent::Nothing => {}
            FoundParent::Local { mut leaves, roots, trusted: packs, reader, started, .. } => {
                (parent_started, named) = (started, roots);
                trusted = packs;
                walker = reader.map(|reader| (runtime.clone(), reader));
                std::thread::spawn(move || {
                    while let Some(leaf) = read_leaf(&mut leaves) {
                        if sender.send(leaf).is_err() {
                            return;
                        }
                    }
                });
            }
            FoundParent::Remote { root, roots, reader, started, .. } => {
                (parent_started, named) = (started, roots);
                walker = Some((runtime.clone(), reader.clone()));
                runtime.spawn(async move {
                    let mut walk = reader.walk(root, None);
                    let mut leaf = Vec::new();
                    while let Some(next) = walk.next().await {
                        // What cannot be read of the parent is read from the source again.
                        leaf.extend(next);
                        if leaf.len() >= 256 {
                            let full = std::mem::take(&mut leaf);
                            let sender = sender.clone();
                            let sent = tokio::task::spawn_blocking(move || sender.send(full)).await;
                            if !matches!(sent, Ok(Ok(()))) {
                                return;
                            }
                        }
                    }
                    let _ = tokio::task::spawn_blocking(move || sender.send(leaf)).await;
                });
            }
        }
        named.retain(|root| !roots.contains(root));
        let entries = ParentEntries {
            receiver,
            named_apart: named,
            leaf: Vec::new().into_iter(),
            next: None,
            index: self.index,
            parent_started,
            trusted: trusted.map(|packs| (packs, Once::new())),
            walker,
            counter: TreeCounter::new(roots, has_digest && !self.overlaps),
        };
        (self.last_tree, entries)
    }
}

/// A time of whole seconds is taken for that of a coarse clock: on a fine one it is one in millions, and costs one reading.
fn is_settled(started: Timestamp, ctime: Timestamp) -> bool {
    started.since(ctime) > if ctime.nanos == 0 { COARSE_CLOCK_STEP } else { CLOCK_STEP }
}

fn totals(snapshot: &Snapshot) -> Totals {
    Totals { entries: Some(snapshot.counts.entries()), bytes: Some(snapshot.counts.bytes), ..Totals::default() }
}

/// The parent's entries in path order, taken as the walk of the source passes them.
pub(super) struct ParentEntries {
    receiver: Receiver<Vec<Entry>>,
    /// What the parent's run was asked for by its path, and this one is not.
    named_apart: Vec<Vec<u8>>,
    leaf: std::vec::IntoIter<Entry>,
    next: Option<Entry>,
    index: Arc<CheckedIndex>,
    parent_started: Timestamp,
    /// The packs that the parent needed, where its chunk lists are taken over unread; noted when the first one is.
    trusted: Option<(Vec<PackId>, Once)>,
    walker: Option<(Handle, Arc<Reader>)>,
    counter: TreeCounter,
}

impl ParentEntries {
    /// Passes what is left and returns what the parent held in each root, unless the run ends meanwhile.
    pub(super) fn held(mut self, cancel: &Cancel) -> Held {
        while self.advance().is_some() {
            if cancel.is_cancelled() {
                return Held::default();
            }
        }
        self.counter.finish()
    }

    /// Returns the parent's entry at `path`, passing those before it. Paths must be asked for in order.
    pub(super) fn take(&mut self, path: &EntryPath) -> Option<Entry> {
        loop {
            let entry = match self.next.take() {
                Some(entry) => entry,
                None => self.advance()?,
            };
            match entry.path.cmp(path) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(entry),
                std::cmp::Ordering::Greater => {
                    self.next = Some(entry);
                    return None;
                }
            }
        }
    }

    fn advance(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.leaf.next() {
                self.counter.count(&entry, None);
                return Some(entry);
            }
            self.leaf = self.receiver.recv().ok()?.into_iter();
        }
    }

    /// Tells whether an inode with this ctime had come to rest before the parent looked at it. One that had not may have
    /// been changed again after it was read, without a trace in its times.
    pub(super) fn is_settled(&self, ctime: Timestamp) -> bool {
        is_settled(self.parent_started, ctime)
    }

    /// Tells whether an entry may be in the parent only because it was asked for there by its path: what is coffre's own is left out
    /// otherwise, and that is seen when it is read.
    pub(super) fn is_named_apart(&self, path: &EntryPath) -> bool {
        self.named_apart.iter().any(|root| root.strip_prefix(b"/") == Some(path.as_bytes()))
    }

    /// Tells whether every chunk of an entry is still stored, so that it may be referred to again; that it is not where the run `ends`
    /// meanwhile.
    pub(super) fn still_has(&self, entry: &Entry, ends: &Cancel) -> bool {
        let Some(content) = entry.content() else { return true };
        if let ChunkList::Inline(chunks) = &content.chunks
            && chunks.iter().all(|chunk| self.index.rely_on(&chunk.id))
        {
            return true;
        }
        match (&self.trusted, &self.walker) {
            // What the recipes of windows name is in packs that the parent relied on.
            (Some((packs, noted)), _) => {
                noted.call_once(|| self.index.rely_on_packs(packs));
                match &content.chunks {
                    ChunkList::Inline(chunks) => chunks.iter().all(|chunk| self.index.rely_on_named(&chunk.id.key())),
                    ChunkList::Indirect { root, .. } => self.index.rely_on(root),
                }
            }
            (None, Some((runtime, reader))) => runtime.block_on(relies_on_content(&self.index, reader, content, ends)),
            (None, None) => false,
        }
    }
}

/// The file of leaves that this run leaves for the next.
pub(super) struct LastTree {
    path: PathBuf,
    file: Option<(Temporary, BufWriter<File>)>,
    leaves_len: u64,
}

impl LastTree {
    fn new(path: PathBuf, wanted: bool) -> Self {
        let file = wanted.then(|| Self::make(&path).ok()).flatten();
        Self { path, file, leaves_len: 0 }
    }

    fn make(path: &std::path::Path) -> std::io::Result<(Temporary, BufWriter<File>)> {
        let temporary = Temporary::create(path)?;
        let mut file = BufWriter::with_capacity(1 << 18, temporary.file().try_clone()?);
        file.write_all(&[0; HEADER_LEN])?;
        Ok((temporary, file))
    }

    fn push(&mut self, leaf: &[u8]) {
        let Some((_, file)) = &mut self.file else { return };
        let length = u32::try_from(leaf.len()).expect("leaves are far below 4 GiB");
        let written = file
            .write_all(&length.to_le_bytes())
            .and_then(|()| file.write_all(&checksum(leaf)))
            .and_then(|()| file.write_all(leaf));
        self.leaves_len += (4 + SUM_LEN + leaf.len()) as u64;
        if written.is_err() {
            self.file = None;
        }
    }

    /// Makes the file valid, now that the snapshot is stored; `started` is when its run began, whatever it is dated. Failing only costs the next run time.
    pub(super) fn keep(mut self, snapshot: &Snapshot, started: Timestamp, known: &KnownThen) {
        let Some((temporary, mut file)) = self.file.take() else { return };
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(MARK);
        header.extend_from_slice(snapshot.id.object_name().as_bytes());
        header.extend_from_slice(&started.seconds.to_le_bytes());
        header.extend_from_slice(&u64::from(started.nanos).to_le_bytes());
        for number in [snapshot.counts.entries(), snapshot.counts.bytes, self.leaves_len] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        let known = known.encode();
        let sum = header_sum(&header, &known);
        header.extend_from_slice(&sum);
        debug_assert_eq!(header.len(), HEADER_LEN);
        let written = file
            .write_all(&known)
            .and_then(|()| file.flush())
            .and_then(|()| std::os::unix::fs::FileExt::write_all_at(file.get_ref(), &header, 0));
        if written.is_ok() {
            let _ = temporary.persist(&self.path);
        }
    }
}

fn header_sum(header: &[u8], known: &[u8]) -> [u8; SUM_LEN] {
    checksum(&[header, known].concat())
}

/// What a run was asked for, and knew of the store when it made its snapshot.
pub(super) struct KnownThen {
    /// The absolute paths that it was asked for.
    pub(super) roots: Vec<Vec<u8>>,
    /// The packs that the snapshot needs, and perhaps some more.
    pub(super) packs: Vec<PackId>,
}

impl KnownThen {
    fn encode(&self) -> Vec<u8> {
        // No path has a zero in it.
        let roots: Vec<u8> = self.roots.iter().flat_map(|root| root.iter().copied().chain([0])).collect();
        let roots_len = (roots.len() as u64).to_le_bytes();
        let packs = self.packs.iter().flat_map(|pack| pack.0);
        roots_len.into_iter().chain(roots).chain(packs).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (roots_len, rest) = bytes.split_first_chunk::<8>()?;
        let (roots, packs) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*roots_len)).ok()?)?;
        let id = |id: &[u8]| <[u8; 16]>::try_from(id).expect("16 bytes");
        Some(Self {
            roots: roots.split_inclusive(|&byte| byte == 0).map(|root| root[..root.len() - 1].to_vec()).collect(),
            packs: packs.chunks_exact(16).map(|bytes| PackId(id(bytes))).collect(),
        })
    }
}

/// Stores nodes with the writer, and leaves also in the file for the next run.
pub(super) struct LastTreeSink<'a> {
    writer: &'a Writer,
    last_tree: RefCell<LastTree>,
}

impl<'a> LastTreeSink<'a> {
    pub(super) fn new(writer: &'a Writer, last_tree: LastTree) -> Self {
        Self { writer, last_tree: RefCell::new(last_tree) }
    }

    pub(super) fn finish(self) -> LastTree {
        self.last_tree.into_inner()
    }
}

impl NodeSink for LastTreeSink<'_> {
    type Error = UploadStopped;

    fn store_node(&self, node: &[u8]) -> Result<ChunkId, UploadStopped> {
        self.writer.store_node(node)
    }

    fn store_leaf(&self, leaf: &[u8]) -> Result<ChunkId, UploadStopped> {
        self.last_tree.borrow_mut().push(leaf);
        self.writer.store_node(leaf)
    }
}

struct LocalHeader {
    snapshot: SnapshotId,
    started: Timestamp,
    entries: u64,
    bytes: u64,
}

/// Opens the file of a last tree: what it is of, what was known of the store then, and its leaves. One that is not as it was
/// written gives `None`.
fn open_local(path: &std::path::Path) -> Option<(LocalHeader, KnownThen, Take<BufReader<File>>)> {
    let mut file = File::open(path).ok()?;
    let mut header = [0; HEADER_LEN];
    file.read_exact(&mut header).ok()?;
    if &header[..8] != MARK {
        return None;
    }
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let leaves_len = number(73);
    let mut known = Vec::new();
    file.seek(SeekFrom::Start(leaves_len.checked_add(HEADER_LEN as u64)?)).ok()?;
    (&mut file).take(KNOWN_BYTES_MAX).read_to_end(&mut known).ok()?;
    if header_sum(&header[..HEADER_LEN - SUM_LEN], &known) != header[HEADER_LEN - SUM_LEN..] {
        return None;
    }
    let snapshot = SnapshotId::from_object_name(std::str::from_utf8(&header[8..41]).ok()?)?;
    let started = Timestamp { seconds: number(41).cast_signed(), nanos: u32::try_from(number(49)).ok()? };
    let header = LocalHeader { snapshot, started, entries: number(57), bytes: number(65) };
    let known = KnownThen::decode(&known)?;
    file.seek(SeekFrom::Start(HEADER_LEN as u64)).ok()?;
    Some((header, known, BufReader::with_capacity(1 << 18, file).take(leaves_len)))
}

/// Reads the next leaf; `None` at the end and at the first damage, after which everything counts as changed.
fn read_leaf(reader: &mut impl Read) -> Option<Vec<Entry>> {
    let (mut length, mut hash) = ([0; 4], [0; 16]);
    reader.read_exact(&mut length).ok()?;
    reader.read_exact(&mut hash).ok()?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LEAF_MAX {
        return None;
    }
    let mut leaf = vec![0; length];
    reader.read_exact(&mut leaf).ok()?;
    if checksum(&leaf) != hash {
        return None;
    }
    match Node::decode(&leaf) {
        Ok(Node::Entries(entries)) => Some(entries),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_believed_after_a_step_of_the_clock_that_gave_it() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        let cases = [
            // A fine clock: 10 ms.
            (at(100, 500_000_000), at(100, 489_999_999), true),
            (at(100, 500_000_000), at(100, 490_000_000), false),
            (at(100, 500_000_000), at(100, 500_000_001), false),
            // Whole seconds: in the same second anything may still happen, and on FAT in the next one.
            (at(100, 500_000_000), at(100, 0), false),
            (at(101, 999_999_999), at(100, 0), false),
            (at(102, 0), at(100, 0), false),
            (at(102, 1), at(100, 0), true),
            // The clock was set back since.
            (at(100, 0), at(200, 1), false),
        ];
        for (started, ctime, expected) in cases {
            assert_eq!(is_settled(started, ctime), expected, "{started:?} {ctime:?}");
        }
    }
}
