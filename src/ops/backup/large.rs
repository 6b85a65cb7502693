//! Large files: stored by what changed since they were last read, as streams are.
//!
//! What is kept of one for the next night goes by host, job and path, so it is there whichever paths a run was asked for.

use crate::model::path::EntryPath;
use crate::ops::backup::nightly::NightCutter;
use crate::ops::backup::options::BackupOptions;
use crate::progress::Monitor;
use crate::repository::nights::{NightPlace, night_name};
use crate::repository::writer::Writer;

/// Which files are large, and where something is kept of each.
#[derive(Clone, Copy)]
pub(super) struct LargeFiles<'a> {
    pub(super) writer: &'a Writer,
    pub(super) options: &'a BackupOptions,
}

impl<'a> LargeFiles<'a> {
    /// Returns where something is kept of a file of `size` bytes for the next night; `None` where it is no large one, or nothing can be kept.
    pub(super) fn place(&self, path: &EntryPath, size: u64) -> Option<NightPlace> {
        let Self { writer, options } = self;
        if !options.stream_options.recipes || size < options.large_file_bytes {
            return None;
        }
        // No stream has a path that begins so.
        let content = [b"/", path.as_bytes()].concat();
        writer.nights_of(&night_name(&options.host, &options.job, &content))
    }

    /// Makes what cuts a large file.
    pub(super) fn cutter(&self, path: &EntryPath, place: NightPlace, monitor: &'a dyn Monitor) -> NightCutter<'a> {
        NightCutter::new(self.writer, monitor, format!("/{path}"), place, self.options.dry_run).of_file()
    }

    /// Says of a file that is taken for unchanged that what is kept of it is still wanted.
    pub(super) fn note_unread(&self, path: &EntryPath, size: u64) {
        if let Some(place) = self.place(path, size) {
            place.note_unchanged();
        }
    }
}
