//! What a run knows of the streams that it stored.

use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::ops::backup::report::FailedStream;
use crate::progress::Problem;
use crate::repository::nights::FinishedNight;

/// What is known of a stream that was stored.
#[derive(Debug, Clone)]
pub(super) struct StoredStream {
    pub(super) path: EntryPath,
    pub(super) size: u64,
    /// What earlier sizes are compared with: of the main stream of a database, the bytes of all its streams, however many
    /// tables have one of their own this time.
    pub(super) judged_size: u64,
    /// Bytes that no earlier run had stored.
    pub(super) new_bytes: u64,
    /// Tables of the database, where its engine counts them.
    pub(super) tables: Option<u64>,
    /// What its dump does not carry as it was.
    pub(super) changed: Option<String>,
    /// What it leaves for the next night.
    pub(super) night: Option<FinishedNight>,
}

impl StoredStream {
    /// Says what will come back as something else, if anything will.
    pub(super) fn what_is_changed(&self) -> Option<Problem> {
        let changed = self.changed.as_ref()?;
        let message = format!("a dump of SQL does not carry these columns as they are: {changed}");
        Some(Problem::suspicious(self.path.to_string(), message))
    }
}

/// All streams of a run.
#[derive(Debug, Default)]
pub(super) struct StoredStreams {
    /// Their entries, and those of the directories they are in, in path order.
    pub(super) entries: Vec<Entry>,
    pub(super) streams: Vec<StoredStream>,
    pub(super) missing: Vec<FailedStream>,
}

impl StoredStreams {
    /// Returns the bytes of all of them.
    pub(super) fn size(&self) -> u64 {
        self.streams.iter().map(|stream| stream.size).sum()
    }
}
