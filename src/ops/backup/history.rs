//! How large streams used to be, and how many tables there were: a dump that is suddenly small may be one of a database that somebody emptied.
//!
//! The figures are kept in a local file, because a host with the writer key alone cannot read its snapshots. Where the file is
//! missing, a host that can read looks into its last snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::entry::{Entry, EntryKind};
use crate::model::facts::fact;
use crate::model::path::EntryPath;
use crate::model::series::Series;
use crate::model::snapshot::{Anomaly, Snapshot, SnapshotId};
use crate::ops::backup::anomalies::{StreamFigures, judge_stream, noticed_of};
use crate::ops::backup::error::BackupError;
use crate::ops::backup::options::{AnomalyLimits, BackupOptions};
use crate::ops::backup::parent::READER_SHARE;
use crate::ops::backup::remembered::{COMPARED, Remembered, Subjects, median};
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

/// What streams held in earlier runs that nobody has to look at any more, by path: bytes and tables.
pub(super) struct History(Remembered<(u64, Option<u64>)>);

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
        let mut known = Remembered::load(repository, series, "streams");
        let paths: Vec<&EntryPath> = paths.collect();
        if !paths.is_empty()
            && !known.is_known
            && let Ok(reading) = repository.reading()
        {
            let memory_bytes = options.memory_bytes / READER_SHARE;
            let reader = Arc::new(Reader::new(reading, index.clone(), memory_bytes, monitor.clone()));
            known.by_name = from_snapshots(repository, &reader, series, &paths, snapshots).await?;
        }
        Ok(Self(known))
    }

    /// Tells whether anything is known of a stream, by its name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.0.last(name).is_some()
    }

    /// Compares streams with what they used to hold and returns what is odd.
    pub(super) fn judge(&self, streams: &[StoredStream], limits: &AnomalyLimits) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for stream in streams {
            let name = stream.path.to_string();
            let figures = |&(bytes, tables): &(u64, Option<u64>)| StreamFigures { bytes, tables };
            let earlier: Vec<_> = self.0.last(&name).unwrap_or_default().iter().map(figures).collect();
            let now = StreamFigures { bytes: stream.judged_size, tables: stream.tables };
            let noticed = judge_stream(now, &earlier, limits);
            found.extend(noticed_of(&name, noticed));
        }
        found
    }

    /// Says that a stream has nothing in common with earlier ones, if that is so.
    pub(super) fn stopped_deduplicating(&self, stream: &StoredStream) -> Option<Problem> {
        let name = stream.path.to_string();
        let sizes: Vec<u64> = self.0.last(&name)?.iter().map(|(bytes, _)| *bytes).collect();
        let median = median(&sizes);
        let known = stream.size.saturating_sub(stream.new_bytes) as f64;
        // What came to it is new, and no wonder.
        let expected = stream.size.min(median);
        let is_new = median > 0 && stream.size >= LARGE_BYTES && known < expected as f64 * KNOWN_PART;
        is_new.then(|| {
            let message = "has nothing in common with the last one; is it compressed, encrypted or in another order?";
            Problem::advice(name, message.to_owned())
        })
    }

    /// Remembers these streams for the next run, but for those that are `flagged`; those that were `accepted` in place of earlier ones.
    /// Failing to only costs it the comparison.
    pub(super) fn keep(self, streams: &[StoredStream], flagged: &Subjects, accepted: &Subjects) {
        let figures = streams.iter().map(|stream| (stream.path.to_string(), (stream.judged_size, stream.tables)));
        self.0.keep(figures, flagged, accepted);
    }
}

/// Looks up bytes and tables in the last snapshots of the series that nobody has to look at.
async fn from_snapshots(
    repository: &Arc<Repository>,
    reader: &Arc<Reader>,
    series: &Series,
    paths: &[&EntryPath],
    snapshots: Vec<SnapshotId>,
) -> Result<BTreeMap<String, Vec<(u64, Option<u64>)>>, BackupError> {
    let mut known: BTreeMap<String, Vec<(u64, Option<u64>)>> = BTreeMap::new();
    let mut seen = 0;
    let mut newest = NewestFirst::recent(repository, snapshots);
    while seen < COMPARED
        && let Some((_, snapshot)) = newest.next().await
    {
        // One that cannot be opened is no reason not to back up; verifying tells about it.
        let Ok(snapshot) = snapshot else { continue };
        if !series.has(&snapshot) || snapshot.is_suspicious() {
            continue;
        }
        seen += 1;
        for &path in paths {
            if let Ok(Some(entry)) = reader.entry(snapshot.root, path.clone()).await {
                let size = entry.size() + size_of_parts(reader, &snapshot, &entry).await;
                known.entry(path.to_string()).or_default().insert(0, (size, tables_of(&entry)));
            }
        }
    }
    Ok(known)
}

fn tables_of(entry: &Entry) -> Option<u64> {
    match &entry.kind {
        EntryKind::Stream(_, detail) => detail.facts.get(fact::TABLES),
        _ => None,
    }
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
        History(Remembered::of("db/shop.sql", &sizes.iter().map(|size| (*size, None)).collect::<Vec<_>>()))
    }

    fn stream(size: u64, new_bytes: u64) -> StoredStream {
        StoredStream {
            path: EntryPath::new("db/shop.sql").expect("safe"),
            size,
            judged_size: size,
            new_bytes,
            tables: None,
            changed: None,
            night: None,
        }
    }

    #[test]
    fn what_is_flagged_is_no_measure_for_the_next_run_until_it_is_accepted() {
        let name = "db/shop.sql".to_owned();
        let after = |flagged: bool, accepted: bool| {
            let directory = tempfile::tempdir().expect("made");
            let file = directory.path().join("known");
            let mut known = history(&[1000, 1000]);
            known.0.file.clone_from(&file);
            let is = |it: bool| it.then(|| name.clone()).into_iter().collect::<Subjects>();
            known.keep(&[stream(10, 0)], &is(flagged), &is(accepted));
            let text = crate::repository::cache::record::read(&file).expect("kept");
            String::from_utf8(text).expect("text")
        };
        assert_eq!(after(false, false), r#"{"db/shop.sql":[[1000,null],[1000,null],[10,null]]}"#);
        assert_eq!(after(true, false), r#"{"db/shop.sql":[[1000,null],[1000,null]]}"#);
        assert_eq!(after(false, true), r#"{"db/shop.sql":[[10,null]]}"#);
        let limits = AnomalyLimits::default();
        assert_eq!(history(&[1000]).judge(&[stream(10, 0)], &limits).len(), 1);
        assert_eq!(history(&[]).judge(&[stream(10, 0)], &limits).len(), 0);
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
