//! The plan: the source and the parent's tree are walked side by side, both sorted, and each entry is either taken over
//! unread or marked to be read.

use std::sync::mpsc::SyncSender;

use crate::model::entry::{Entry, EntryKind, Metadata};
use crate::model::path::EntryPath;
use crate::ops::Cancel;
use crate::ops::backup::batch::{Batch, Finished, Planned};
use crate::ops::backup::beside::Beside;
use crate::ops::backup::jobs::Jobs;
use crate::ops::backup::large::LargeFiles;
use crate::ops::backup::options::Comparison;
use crate::ops::backup::parent::ParentEntries;
use crate::ops::backup::reading::ThreadsReading;
use crate::ops::backup::trees::{Held, ShownRoots, roots_named};
use crate::ops::backup::window::BatchWindow;
use crate::progress::{Counter, EntryEvent, Monitor};
use crate::source::files::{FoundEntry, FoundKind, Walk, Walked};

/// Entries in a batch.
const BATCH_ENTRIES: usize = 128;
/// Bytes to be read in a batch, unless one file has more.
const BATCH_BYTES: u64 = 2 << 20;

/// What the walk passed besides what it gave to the workers.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// What could not be read.
    pub(super) problems: u64,
    /// The roots that these are in.
    pub(super) unread_roots: ShownRoots,
    /// What is always left out and was come upon.
    pub(super) left_out: Vec<EntryPath>,
    /// What the parent held in each root.
    pub(super) parent_held: Held,
}

/// What planning needs.
pub(super) struct Planner<'a> {
    pub(super) jobs: &'a Jobs,
    pub(super) finished: SyncSender<Finished>,
    pub(super) window: &'a BatchWindow,
    pub(super) monitor: &'a dyn Monitor,
    /// Ends the run early, for whatever reason.
    pub(super) early: &'a Cancel,
    pub(super) reading: &'a ThreadsReading,
    /// The absolute paths of the roots.
    pub(super) roots: &'a [Vec<u8>],
    pub(super) large: LargeFiles<'a>,
    pub(super) comparison: Comparison,
}

impl Planner<'_> {
    /// Walks to the end, queueing batches in order. Batches without anything to read go straight to the assembler.
    pub(super) fn run(self, mut walk: Walk, mut parent: ParentEntries) -> Passed {
        let mut passed = Passed::default();
        if self.all(&mut walk, &mut parent, &mut passed) {
            passed.parent_held = parent.held(self.early);
        }
        // It ends with its threads, which may wait for a dead mount that the walk itself never came to.
        self.reading.during(|| drop(walk));
        passed
    }

    /// Returns `false` when the run ends early.
    fn all(&self, walk: &mut Walk, parent: &mut ParentEntries, passed: &mut Passed) -> bool {
        let mut batch = Batch { number: 0, entries: Vec::with_capacity(BATCH_ENTRIES) };
        let (mut bytes, mut reads) = (0, false);
        while let Some(walked) = self.reading.during(|| walk.next()) {
            if self.early.is_cancelled() {
                return false;
            }
            let found = match walked {
                Walked::Entry(found) => found,
                Walked::Problem(problem) => {
                    passed.unread_roots.extend(roots_named(self.roots, &problem.subject));
                    self.monitor.problem(problem);
                    passed.problems += 1;
                    continue;
                }
                Walked::LeftOut(path) => {
                    passed.left_out.push(path);
                    continue;
                }
            };
            let size = found.size();
            let planned = self.plan(found, parent);
            match &planned {
                Planned::Unchanged(entry) => {
                    self.monitor.add(Counter::Entries, 1);
                    self.monitor.add(Counter::Bytes, entry.size());
                    self.monitor.entry(entry.path.as_bytes(), EntryEvent::Unchanged);
                    self.large.note_unread(&entry.path, size);
                }
                Planned::SameContent(found, ..) => {
                    self.large.note_unread(&found.path, size);
                    reads = true;
                }
                Planned::Changed(..) => (bytes, reads) = (bytes + size, true),
            }
            batch.entries.push(planned);
            if batch.entries.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                let next = Batch { number: batch.number + 1, entries: Vec::with_capacity(BATCH_ENTRIES) };
                if !self.hand_on(std::mem::replace(&mut batch, next), reads) {
                    return false;
                }
                (bytes, reads) = (0, false);
            }
        }
        self.hand_on(batch, reads)
    }

    /// Compares an entry with the parent's.
    fn plan(&self, found: FoundEntry, parent: &mut ParentEntries) -> Planned {
        let Some(entry) = parent.take(&found.path) else {
            return Planned::Changed(Box::new(found), EntryEvent::New, None);
        };
        if parent.is_named_apart(&found.path) {
            return Planned::Changed(Box::new(found), EntryEvent::Unchanged, Some(Box::new(entry)));
        }
        let Comparison { ctime, inode } = self.comparison;
        let settles = if ctime { found.ctime() } else { found.mtime() };
        let is_same = has_same_content(&found, &entry)
            && (!ctime || found.ctime() == entry.metadata.ctime)
            && (!inode || found.inode() == entry.metadata.inode);
        if !is_same || !parent.is_settled(settles) || !parent.still_has(&entry, self.early) {
            return Planned::Changed(Box::new(found), EntryEvent::Changed, Some(Box::new(entry)));
        }
        match entry.kind {
            EntryKind::File(content) if !is_unchanged(&found, &entry.metadata) => {
                Planned::SameContent(Box::new(found), content, entry.metadata.looks_random)
            }
            _ if is_unchanged(&found, &entry.metadata) => Planned::Unchanged(entry),
            _ => Planned::Changed(Box::new(found), EntryEvent::Changed, Some(Box::new(entry))),
        }
    }

    fn hand_on(&self, batch: Batch, reads: bool) -> bool {
        if !self.window.enter(batch.number) {
            return false;
        }
        if reads {
            return self.jobs.push_batch(batch);
        }
        let mut finished = Finished { number: batch.number, ..Finished::default() };
        for planned in batch.entries {
            if let Planned::Unchanged(entry) = planned {
                finished.unchanged_files += u64::from(matches!(entry.kind, EntryKind::File(_)));
                let beside = Beside::unchanged(&entry);
                finished.entries.push((entry, beside));
            }
        }
        self.finished.send(finished).is_ok()
    }
}

/// Tells whether an entry can be taken over with its metadata. A change of ownership, mode, attributes or content changes
/// ctime, which no ordinary program can set back.
fn is_unchanged(found: &FoundEntry, metadata: &Metadata) -> bool {
    found.ctime() == metadata.ctime && found.inode() == metadata.inode && found.stat().links == metadata.links
}

/// Tells whether kind, size and mtime are the same.
fn has_same_content(found: &FoundEntry, entry: &Entry) -> bool {
    let same_kind = match (&found.kind, &entry.kind) {
        (FoundKind::File { size }, EntryKind::File(content)) => *size == content.size,
        (FoundKind::Directory, EntryKind::Directory)
        | (FoundKind::Fifo, EntryKind::Fifo)
        | (FoundKind::Socket, EntryKind::Socket) => true,
        (FoundKind::Symlink(target), EntryKind::Symlink(old)) => target == old,
        (FoundKind::CharDevice(number), EntryKind::CharDevice(old))
        | (FoundKind::BlockDevice(number), EntryKind::BlockDevice(old)) => number == old,
        _ => false,
    };
    same_kind && found.mtime() == entry.metadata.mtime
}
