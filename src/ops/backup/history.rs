//! How large streams used to be: a dump that is suddenly small may be one of a database that somebody emptied.
//!
//! The sizes are kept in a local file, because a host with the writer key alone cannot read its snapshots. Where the file is
//! missing, a host that can read looks into its last snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::entry::{Entry, EntryKind};
use crate::model::facts::fact;
use crate::model::path::EntryPath;
use crate::model::series::Series;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::ops::backup::error::BackupError;
use crate::ops::backup::options::BackupOptions;
use crate::ops::backup::parent::READER_SHARE;
use crate::ops::backup::remembered::{COMPARED, Remembered, median};
use crate::ops::backup::stored::StoredStream;
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::newest_first::NewestFirst;
use crate::repository::reader::Reader;
use crate::source::names::parts_of;

/// A stream of at least this size is expected to have something in common with its last one.
const LARGE_BYTES: u64 = 16 << 20;
/// Part of a large stream that must be known already, or deduplication has stopped.
const KNOWN_PART: f64 = 0.1;

/// Sizes of earlier streams, by path.
pub(super) struct History(Remembered<u64>);

impl History {
    /// Loads what is known about streams at `paths`.
    pub(super) async fn load(
        repository: &Arc<Repository>,
        index: &Arc<Index>,
        options: &BackupOptions,
        series: &Series,
        paths: impl Iterator<Item = &EntryPath>,
        snapshots: Vec<SnapshotId>,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Self, BackupError> {
        let mut sizes = Remembered::load(repository, series, "sizes");
        let paths: Vec<&EntryPath> = paths.collect();
        if !paths.is_empty()
            && !sizes.is_known
            && let Ok(reading) = repository.reading()
        {
            let memory_bytes = options.memory_bytes / READER_SHARE;
            let reader = Arc::new(Reader::new(reading, index.clone(), memory_bytes, monitor.clone()));
            sizes.by_name = from_snapshots(repository, &reader, series, &paths, snapshots).await?;
        }
        Ok(Self(sizes))
    }

    /// Compares streams with their earlier sizes and returns what is to be looked at.
    pub(super) fn judge(&self, streams: &[StoredStream], shrink_limit: f64) -> Vec<Problem> {
        let mut found = Vec::new();
        for stream in streams {
            let name = stream.path.to_string();
            let Some(earlier) = self.0.last(&name) else { continue };
            let median = median(earlier);
            let part = stream.judged_size as f64 / median.max(1) as f64;
            if part < shrink_limit {
                let message = format!(
                    "only {:.0} % of what it used to be: {} bytes, {median} in the median of {} earlier ones",
                    part * 100.0,
                    stream.judged_size,
                    earlier.len()
                );
                found.push(Problem::suspicious(name, message));
            }
        }
        found
    }

    /// Says that a stream has nothing in common with earlier ones, if that is so.
    pub(super) fn stopped_deduplicating(&self, stream: &StoredStream) -> Option<Problem> {
        let name = stream.path.to_string();
        let median = median(self.0.last(&name)?);
        let known = stream.size.saturating_sub(stream.new_bytes) as f64;
        // What came to it is new, and no wonder.
        let expected = stream.size.min(median);
        let is_new = median > 0 && stream.size >= LARGE_BYTES && known < expected as f64 * KNOWN_PART;
        is_new.then(|| {
            let message = "has nothing in common with the last one; is it compressed, encrypted or in another order?";
            Problem::advice(name, message.to_owned())
        })
    }

    /// Remembers these streams for the next run. Failing to only costs it the comparison.
    pub(super) fn keep(mut self, streams: &[StoredStream]) {
        for stream in streams {
            self.0.push(stream.path.to_string(), stream.judged_size);
        }
        self.0.keep();
    }
}

/// Looks up the sizes in the last snapshots of the series.
async fn from_snapshots(
    repository: &Arc<Repository>,
    reader: &Arc<Reader>,
    series: &Series,
    paths: &[&EntryPath],
    snapshots: Vec<SnapshotId>,
) -> Result<BTreeMap<String, Vec<u64>>, BackupError> {
    let mut sizes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut seen = 0;
    let mut newest = NewestFirst::recent(repository, snapshots);
    while seen < COMPARED
        && let Some((_, snapshot)) = newest.next().await
    {
        // One that cannot be opened is no reason not to back up; verifying tells about it.
        let Ok(snapshot) = snapshot else { continue };
        if !series.has(&snapshot) {
            continue;
        }
        seen += 1;
        for &path in paths {
            if let Ok(Some(entry)) = reader.entry(snapshot.root, path.clone()).await {
                let size = entry.size() + size_of_parts(reader, &snapshot, &entry).await;
                sizes.entry(path.to_string()).or_default().insert(0, size);
            }
        }
    }
    Ok(sizes)
}

/// Returns the bytes of the streams of single tables that belong to the main stream of a database.
async fn size_of_parts(reader: &Arc<Reader>, snapshot: &Snapshot, main: &Entry) -> u64 {
    let has_parts = matches!(&main.kind, EntryKind::Stream(_, detail) if detail.facts.has(fact::PARTS));
    let Some(directory) = parts_of(&main.path).filter(|_| has_parts) else { return 0 };
    let mut walk = reader.walk(snapshot.root, Some(directory));
    let mut size = 0;
    while let Some(Ok(entry)) = walk.next().await {
        size += entry.size();
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(sizes: &[u64]) -> History {
        History(Remembered::of("db/shop.sql", sizes))
    }

    fn stream(size: u64, new_bytes: u64) -> StoredStream {
        StoredStream {
            path: EntryPath::new("db/shop.sql").expect("safe"),
            size,
            judged_size: size,
            new_bytes,
            changed: None,
            night: None,
        }
    }

    #[test]
    fn a_stream_is_flagged_when_it_is_much_smaller_than_it_used_to_be() {
        let cases: [(&[u64], u64, bool); 6] = [
            (&[], 1, false),
            (&[1000, 1000, 1000], 499, true),
            (&[1000, 1000, 1000], 500, false),
            // One small dump among many does not make the next small one right.
            (&[1000, 1000, 10, 1000, 1000], 20, true),
            // What was large long ago is forgotten.
            (&[9000, 9000, 9000, 100, 100, 100, 100, 100, 100, 100], 90, false),
            (&[1000], 5000, false),
        ];
        for (earlier, size, flagged) in cases {
            assert_eq!(!history(earlier).judge(&[stream(size, 0)], 0.5).is_empty(), flagged, "{earlier:?} {size}");
        }
        assert!(history(&[1000]).judge(&[stream(1, 0)], 0.0).is_empty());
    }

    #[test]
    fn a_large_stream_without_known_chunks_is_told() {
        let large = LARGE_BYTES * 2;
        assert!(history(&[large]).stopped_deduplicating(&stream(large, large)).is_some());
        assert!(history(&[large]).stopped_deduplicating(&stream(large, large / 2)).is_none());
        assert!(history(&[]).stopped_deduplicating(&stream(large, large)).is_none());
        assert!(history(&[100]).stopped_deduplicating(&stream(100, 100)).is_none());
        // A table came to it that is larger than all the rest, which is as it was.
        assert!(history(&[large]).stopped_deduplicating(&stream(large * 20, large * 19)).is_none());
    }
}
