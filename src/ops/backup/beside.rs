//! How an entry of a run stands beside what its parent has at the same path.

use crate::model::entry::{Entry, EntryKind};

/// What an entry is beside the parent's at the same path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Beside {
    /// A regular file was there; if so, whether it looked random.
    pub(super) before: Option<bool>,
    /// The content is another than the parent's, or a new file's.
    pub(super) has_changed: bool,
    /// All of the content was stored before.
    pub(super) is_known: bool,
}

impl Beside {
    /// Returns what an entry is that has the parent's content.
    pub(super) fn unchanged(entry: &Entry) -> Self {
        Self { before: before(Some(entry)), has_changed: false, is_known: true }
    }
}

/// Tells of what was there before, if it was a regular file, whether it looked random.
pub(super) fn before(entry: Option<&Entry>) -> Option<bool> {
    entry.filter(|entry| matches!(entry.kind, EntryKind::File(_))).map(|entry| entry.metadata.looks_random)
}
