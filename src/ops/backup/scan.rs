//! The scan: a second walk that only counts, ahead of a first backup, so that its progress has totals and an end in sight.

use crate::ops::Cancel;
use crate::ops::backup::reading::ThreadsReading;
use crate::progress::{Monitor, Totals};
use crate::source::files::{Walk, WalkOptions, Walked};

/// Entries that the scan reads ahead: it is nobody's source, so few are enough.
const AHEAD_ENTRIES: usize = 4096;

/// Counts what `files` has and says so at the end, with what is `done` besides. Problems are told by the walk that matters.
pub(super) fn scan(
    files: &WalkOptions,
    done: Totals,
    monitor: &dyn Monitor,
    cancel: &Cancel,
    reading: &ThreadsReading,
) {
    let Ok(mut walk) = Walk::with_ahead(&WalkOptions { threads: 1, ..files.clone() }, AHEAD_ENTRIES) else { return };
    let (mut entries, mut bytes) = (done.entries.unwrap_or(0), done.bytes.unwrap_or(0));
    while let Some(walked) = reading.during(|| walk.next()) {
        if cancel.is_cancelled() {
            return reading.during(|| drop(walk));
        }
        if let Walked::Entry(entry) = walked {
            entries += 1;
            bytes += entry.size();
        }
    }
    monitor.totals(Totals { entries: Some(entries), bytes: Some(bytes), ..Totals::default() });
}
