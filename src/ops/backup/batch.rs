//! Batches: what goes from the planner to the workers, and from them to the assembler.

use crate::model::entry::{Entry, FileContent};
use crate::model::path::EntryPath;
use crate::ops::backup::beside::Beside;
use crate::ops::backup::trees::ShownRoots;
use crate::progress::EntryEvent;
use crate::repository::nights::ClosedNight;
use crate::source::files::FoundEntry;

/// An entry of the source, and what to do about it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most entries are unchanged ones, which need no allocation this way")]
pub(super) enum Planned {
    /// The parent's entry is still true.
    Unchanged(Entry),
    /// A file with other metadata and the parent's content, and whether that looks random.
    SameContent(Box<FoundEntry>, FileContent, bool),
    /// To be looked at, and read if it is a file; with what the parent has there, if it has anything.
    Changed(Box<FoundEntry>, EntryEvent, Option<Box<Entry>>),
}

/// Some consecutive entries; the number tells their place.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) entries: Vec<Planned>,
}

/// A batch whose entries are complete.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) number: u64,
    pub(super) entries: Vec<(Entry, Beside)>,
    pub(super) unchanged_files: u64,
    pub(super) changed_while_read: u64,
    pub(super) unreadable: u64,
    /// The roots that these are in.
    pub(super) unread_roots: ShownRoots,
    /// What was read and turned out to be coffre's own.
    pub(super) left_out: Vec<EntryPath>,
    pub(super) bytes: CutBytes,
    /// What large files leave for the next night.
    pub(super) nights: Vec<ClosedNight>,
}

/// How much went through the loop that cuts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CutBytes {
    /// Bytes read.
    pub(super) read: u64,
    /// Bytes of them that no earlier run had stored.
    pub(super) new: u64,
}
