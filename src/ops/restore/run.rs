//! One restore on its way, as a value: what walking a snapshot, entering directories and writing files share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::model::entry::{Entry, LinkKey};
use crate::model::path::EntryPath;
use crate::ops::Cancel;
use crate::ops::restore::open_directory::{Finish, OpenDirectory};
use crate::ops::restore::window::FileWindow;
use crate::ops::restore::{RestoreOptions, RestoreReport};
use crate::progress::Monitor;
use crate::repository::reader::Reader;
use crate::sink::partial::IfTaken;
use crate::sink::target::FileTarget;

/// Another name of a file that was met before.
pub(super) struct Link {
    pub(super) key: LinkKey,
    pub(super) first: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) relative: Vec<u8>,
    pub(super) if_taken: IfTaken,
}

/// One restore on its way.
pub(super) struct RestoreRun {
    pub(super) reader: Arc<Reader>,
    pub(super) options: RestoreOptions,
    pub(super) target: Option<Arc<FileTarget>>,
    pub(super) monitor: Arc<dyn Monitor>,
    pub(super) cancel: Cancel,
    pub(super) report: RestoreReport,
    /// What stands before the restored paths and is left out in the target.
    pub(super) strip: usize,
    pub(super) directories: Vec<OpenDirectory>,
    /// Directories that wait until everything in them is written.
    pub(super) finished: Vec<(Vec<u8>, Finish)>,
    /// For files with several names, the first one restored.
    pub(super) first_names: HashMap<LinkKey, Vec<u8>>,
    /// For files with several names that are there already, which file of the snapshot they are.
    pub(super) kept_inodes: HashMap<(u64, u64), LinkKey>,
    pub(super) links: Vec<Link>,
    pub(super) window: FileWindow,
    pub(super) told_full: Arc<AtomicBool>,
    /// The last entry that can have nothing below it.
    pub(super) last_leaf: Option<EntryPath>,
    /// An entry was chosen by the patterns.
    pub(super) something_matches: bool,
    /// A part of the tree could not be read, so what the snapshot does not have cannot be told.
    pub(super) has_gaps: bool,
}

impl RestoreRun {
    pub(super) fn new(
        reader: Arc<Reader>,
        options: RestoreOptions,
        target: Option<Arc<FileTarget>>,
        monitor: Arc<dyn Monitor>,
        cancel: Cancel,
    ) -> Self {
        let window = FileWindow::new(options.memory_bytes);
        Self {
            reader,
            options,
            target,
            monitor,
            cancel,
            report: RestoreReport::default(),
            strip: 0,
            directories: Vec::new(),
            finished: Vec::new(),
            first_names: HashMap::new(),
            kept_inodes: HashMap::new(),
            links: Vec::new(),
            window,
            told_full: Arc::default(),
            last_leaf: None,
            something_matches: false,
            has_gaps: false,
        }
    }
}
