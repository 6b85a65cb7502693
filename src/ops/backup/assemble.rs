//! Assembling: finished batches are put back in order and their entries, with those of streams, become the tree.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::mpsc::Receiver;
use std::vec::IntoIter;

use crate::model::entry::{Entry, EntryKind};
use crate::model::path::EntryPath;
use crate::model::snapshot::{SnapshotCounts, TreeRoot};
use crate::ops::backup::batch::Finished;
use crate::ops::backup::parent::{LastTree, LastTreeSink};
use crate::ops::backup::stopped::Stopped;
use crate::ops::backup::trees::{Held, ShownRoots, TreeCounter};
use crate::ops::backup::window::BatchWindow;
use crate::repository::nights::ClosedNight;
use crate::repository::tree::TreeBuilder;
use crate::repository::writer::Writer;

/// The tree of a run and what was counted in it.
pub(super) struct Assembled {
    pub(super) root: TreeRoot,
    pub(super) counts: SnapshotCounts,
    pub(super) last_tree: LastTree,
    /// What each root holds.
    pub(super) held: Held,
    pub(super) unchanged_files: u64,
    pub(super) changed_while_read: u64,
    /// The roots with something in them that could not be read.
    pub(super) unread_roots: ShownRoots,
    /// What was left out once it was read.
    pub(super) left_out: Vec<EntryPath>,
    /// Bytes read from files.
    pub(super) read_bytes: u64,
    /// What large files leave for the next night.
    pub(super) nights: Vec<ClosedNight>,
}

/// Puts batches in order and builds the tree until all senders are gone.
pub(super) fn assemble(
    writer: &Writer,
    last_tree: LastTree,
    streams: Vec<Entry>,
    finished: &Receiver<Finished>,
    window: &BatchWindow,
    mut held: TreeCounter,
) -> Result<Assembled, Stopped> {
    let sink = LastTreeSink::new(writer, last_tree);
    let mut builder = TreeBuilder::new(&sink);
    let mut totals = Finished::default();
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
            totals.bytes.read += batch.bytes.read;
            totals.left_out.extend(batch.left_out);
            totals.unread_roots.extend(batch.unread_roots);
            totals.nights.extend(batch.nights);
            counts.unreadable += batch.unreadable;
            counts.new_bytes += batch.bytes.new;
            for (entry, beside) in &batch.entries {
                push_streams_before(entry, &mut streams, &mut builder, &mut counts)?;
                count(&mut counts, entry);
                held.count(entry, Some(beside));
                builder.push(entry)?;
            }
            window.advance(turn);
        }
    }
    for stream in streams {
        count(&mut counts, &stream);
        builder.push(&stream)?;
    }
    let root = builder.finish()?;
    Ok(Assembled {
        root,
        counts,
        last_tree: sink.finish(),
        held: held.finish(),
        unchanged_files: totals.unchanged_files,
        changed_while_read: totals.changed_while_read,
        unread_roots: totals.unread_roots,
        left_out: totals.left_out,
        read_bytes: totals.bytes.read,
        nights: totals.nights,
    })
}

/// Appends the streams whose paths come before `entry`, and refuses one whose path is taken.
fn push_streams_before(
    entry: &Entry,
    streams: &mut Peekable<IntoIter<Entry>>,
    builder: &mut TreeBuilder<'_, LastTreeSink<'_>>,
    counts: &mut SnapshotCounts,
) -> Result<(), Stopped> {
    while let Some(stream) = streams.peek() {
        if stream.is_directory() && stream.path == entry.path {
            // A directory that was only made up for a stream in it, unless something else is there.
            if !entry.is_directory() {
                return Err(Stopped::Taken { name: stream.path.to_string() });
            }
            streams.next();
            continue;
        }
        if !stream.is_directory() && entry.path.is_within(&stream.path) {
            return Err(Stopped::Taken { name: stream.path.to_string() });
        }
        if stream.path > entry.path {
            return Ok(());
        }
        count(counts, stream);
        builder.push(stream)?;
        streams.next();
    }
    Ok(())
}

/// Counts an entry as the snapshot does.
fn count(counts: &mut SnapshotCounts, entry: &Entry) {
    match entry.kind {
        EntryKind::File(_) => counts.files += 1,
        EntryKind::Directory => counts.directories += 1,
        EntryKind::Stream(..) => counts.streams += 1,
        _ => counts.others += 1,
    }
    counts.bytes += entry.size();
}
