//! Assembling: finished batches are put back in order and their entries, with those of streams, become the tree.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex};
use std::vec::IntoIter;

use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::snapshot::{MissingStream, SnapshotCounts, TreeRoot};
use crate::ops::backup::parent::{LastTree, LastTreeSink};
use crate::ops::backup::streams::StoredStream;
use crate::ops::backup::trees::{Held, TreeCounter};
use crate::ops::backup::{BackupError, count};
use crate::progress::Problem;
use crate::repository::tree::TreeBuilder;
use crate::repository::writer::Writer;

/// Batches that may be under way or finished before their turn: bounds what waits behind one large file.
const BATCHES_AHEAD: u64 = 64;

/// A batch whose entries are complete.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) unchanged_files: u64,
    pub(super) changed_while_read: u64,
    pub(super) unreadable: u64,
    pub(super) read_bytes: u64,
    pub(super) new_bytes: u64,
}

impl Finished {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            entries: Vec::new(),
            unchanged_files: 0,
            changed_while_read: 0,
            unreadable: 0,
            read_bytes: 0,
            new_bytes: 0,
        }
    }
}

/// Lets batches start only a bounded distance ahead of the one whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Window {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Window {
    /// Waits until batch `number` may start; `false` when nothing may start any more.
    pub(super) fn enter(&self, number: u64) -> bool {
        let mut state = self.state.lock().expect("no panic while held");
        while number >= state.0 + BATCHES_AHEAD && !state.1 {
            state = self.changed.wait(state).expect("no panic while held");
        }
        !state.1
    }

    fn advance(&self, turn: u64) {
        self.state.lock().expect("no panic while held").0 = turn;
        self.changed.notify_all();
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.state.lock().expect("no panic while held").1 = true;
        self.changed.notify_all();
    }
}

/// The tree of a run and what it counted.
pub(super) struct Assembled {
    pub(super) root: TreeRoot,
    pub(super) counts: SnapshotCounts,
    pub(super) last_tree: LastTree,
    /// The streams in it, and those that failed.
    pub(super) streams: Vec<StoredStream>,
    pub(super) missing: Vec<MissingStream>,
    /// What each root holds, and what it held in the parent.
    pub(super) held: Held,
    pub(super) parent_held: Held,
    /// Roots of which only the symbolic link is kept.
    pub(super) links: Vec<Problem>,
    /// What was left out although nobody excluded it.
    pub(super) left_out: Vec<EntryPath>,
    pub(super) unchanged_files: u64,
    pub(super) changed_while_read: u64,
    pub(super) read_bytes: u64,
}

/// Why no tree came about.
pub(super) enum AssembleError {
    /// Uploading has stopped.
    Upload,
    /// A stream and a file have the same path.
    Name(BackupError),
}

/// Puts batches in order and builds the tree until all senders are gone.
pub(super) fn assemble(
    writer: &Writer,
    last_tree: LastTree,
    streams: Vec<Entry>,
    finished: &Receiver<Finished>,
    window: &Window,
    mut held: TreeCounter,
) -> Result<Assembled, AssembleError> {
    let sink = LastTreeSink::new(writer, last_tree);
    let mut builder = TreeBuilder::new(&sink);
    let mut totals = Finished::new(0);
    let mut counts = SnapshotCounts::default();
    let mut streams = streams.into_iter().peekable();
    let mut early: BTreeMap<u64, Finished> = BTreeMap::new();
    let mut turn = 0;
    while let Ok(batch) = finished.recv() {
        early.insert(batch.number, batch);
        while let Some(batch) = early.remove(&turn) {
            turn += 1;
            totals.unchanged_files += batch.unchanged_files;
            totals.changed_while_read += batch.changed_while_read;
            totals.read_bytes += batch.read_bytes;
            counts.unreadable += batch.unreadable;
            counts.new_bytes += batch.new_bytes;
            for entry in &batch.entries {
                push_streams_before(entry, &mut streams, &mut builder, &mut counts)?;
                count(&mut counts, entry);
                held.count(entry);
                builder.push(entry).map_err(|_| AssembleError::Upload)?;
            }
            window.advance(turn);
        }
    }
    for stream in streams {
        count(&mut counts, &stream);
        builder.push(&stream).map_err(|_| AssembleError::Upload)?;
    }
    let root = builder.finish().map_err(|_| AssembleError::Upload)?;
    Ok(Assembled {
        root,
        counts,
        last_tree: sink.finish(),
        streams: Vec::new(),
        missing: Vec::new(),
        held: held.finish(),
        parent_held: Held::default(),
        links: Vec::new(),
        left_out: Vec::new(),
        unchanged_files: totals.unchanged_files,
        changed_while_read: totals.changed_while_read,
        read_bytes: totals.read_bytes,
    })
}

/// Appends the streams whose paths come before `entry`, and refuses one whose path is taken.
fn push_streams_before(
    entry: &Entry,
    streams: &mut Peekable<IntoIter<Entry>>,
    builder: &mut TreeBuilder<'_, LastTreeSink<'_>>,
    counts: &mut SnapshotCounts,
) -> Result<(), AssembleError> {
    while let Some(stream) = streams.peek() {
        if stream.is_directory() && stream.path == entry.path {
            // A directory that was only made up for a stream in it.
            streams.next();
            continue;
        }
        if !stream.is_directory() && entry.path.is_within(&stream.path) {
            return Err(AssembleError::Name(BackupError::StreamName {
                name: stream.path.to_string(),
                why: "a file or directory of this backup has this path".into(),
            }));
        }
        if stream.path > entry.path {
            return Ok(());
        }
        count(counts, stream);
        builder.push(stream).map_err(|_| AssembleError::Upload)?;
        streams.next();
    }
    Ok(())
}
