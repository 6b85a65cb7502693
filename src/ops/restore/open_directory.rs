//! A directory that a walk is inside of: what is known of it until it is left.

use crate::model::entry::Metadata;
use crate::model::path::EntryPath;
use crate::sink::names::Names;
use crate::sink::partial::IfTaken;

/// A directory of the snapshot that the walk is inside of.
pub(super) struct OpenDirectory {
    /// Its path in the snapshot; the top of a whole snapshot has none.
    pub(super) path: Option<EntryPath>,
    pub(super) relative: Vec<u8>,
    /// `None` for one that has no entry.
    pub(super) metadata: Option<Metadata>,
    /// It is restored itself, and not only passed through.
    pub(super) is_restored: bool,
    pub(super) state: DirectoryState,
    /// What stood in it before; unknown where it could not be listed.
    pub(super) names: Option<Names>,
    /// The first of them that the walk has not passed.
    pub(super) next_name: usize,
    pub(super) device: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirectoryState {
    /// Nothing was put into it yet.
    Ahead,
    Open {
        is_new: bool,
        mode_before: Option<u32>,
    },
    /// It cannot be entered, so nothing below it is restored.
    Refused,
}

/// What is left to do for a directory when everything in it is written.
pub(super) enum Finish {
    Attributes(Metadata),
    Mode(u32),
}

impl OpenDirectory {
    pub(super) fn new(
        path: Option<EntryPath>,
        relative: Vec<u8>,
        metadata: Option<Metadata>,
        is_restored: bool,
    ) -> Self {
        let (names, next_name, device) = (None, 0, 0);
        Self { path, relative, metadata, is_restored, state: DirectoryState::Ahead, names, next_name, device }
    }

    /// Tells what to do when a name in it is taken: what was not there before stays.
    pub(super) fn if_taken(&self, name: &[u8]) -> IfTaken {
        match &self.names {
            Some(names) if !names.contains(name) => IfTaken::Refuse,
            _ => IfTaken::Replace,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.state == DirectoryState::Refused
    }

    /// Returns the path in the target of a name in it.
    pub(super) fn below(&self, name: &[u8]) -> Vec<u8> {
        if self.relative.is_empty() { name.to_vec() } else { [&*self.relative, b"/", name].concat() }
    }
}
