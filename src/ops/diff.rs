//! Comparing two snapshots: what was added, removed and changed, at the cost of the difference.

use std::sync::Arc;

use crate::model::entry::{Entry, EntryKind, Metadata};
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::LookError;
use crate::progress::{Counter, Monitor};
use crate::repository::reader::Reader;
use crate::repository::reader::walk::TreeWalk;

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the later snapshot has it.
    Added,
    /// Only the earlier snapshot has it.
    Removed,
    /// Its content, or where a link points, is another.
    Content,
    /// Its owner, mode, times or attributes are others.
    Metadata,
    /// It is another kind of thing.
    Kind,
}

/// How much differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffReport {
    /// Entries that only the later snapshot has.
    pub added: u64,
    /// Entries that only the earlier snapshot has.
    pub removed: u64,
    /// Entries with other content, or of another kind.
    pub changed: u64,
    /// Entries with other metadata alone.
    pub metadata: u64,
    /// Bytes of the entries that were added, and of the changed ones as they are now.
    pub added_bytes: u64,
    /// Bytes of the entries that were removed, and of the changed ones as they were.
    pub removed_bytes: u64,
}

/// Calls `visit` with every entry that differs, in path order: the change, the earlier entry and the later one.
///
/// `monitor` hears of each path that was looked at. With `within`, only what lies at or below that path. Inode numbers and times of inode changes are not compared.
///
/// # Errors
/// [`LookError::Tree`] when a node that differs cannot be read: a comparison with gaps would mislead.
pub async fn diff(
    reader: &Arc<Reader>,
    earlier: &Snapshot,
    later: &Snapshot,
    within: Option<&EntryPath>,
    monitor: &dyn Monitor,
    mut visit: impl FnMut(Change, Option<&Entry>, Option<&Entry>),
) -> Result<DiffReport, LookError> {
    monitor.phase("comparing");
    let (mut left, mut right) = reader.differing(earlier.root, later.root).await?;
    let mut report = DiffReport::default();
    let (mut old, mut new) = (next(&mut left, within).await?, next(&mut right, within).await?);
    loop {
        let order = match (&old, &new) {
            (None, None) => return Ok(report),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => old.path.cmp(&new.path),
        };
        monitor.add(Counter::Entries, 1);
        let change = match order {
            std::cmp::Ordering::Less => Some(Change::Removed),
            std::cmp::Ordering::Greater => Some(Change::Added),
            std::cmp::Ordering::Equal => old.as_ref().zip(new.as_ref()).and_then(|(old, new)| compare(old, new)),
        };
        let shown_old = old.as_ref().filter(|_| order.is_le());
        let shown_new = new.as_ref().filter(|_| order.is_ge());
        if let Some(change) = change {
            report.count(change, shown_old, shown_new);
            visit(change, shown_old, shown_new);
        }
        if order.is_le() {
            old = next(&mut left, within).await?;
        }
        if order.is_ge() {
            new = next(&mut right, within).await?;
        }
    }
}

impl DiffReport {
    fn count(&mut self, change: Change, old: Option<&Entry>, new: Option<&Entry>) {
        match change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Content | Change::Kind => self.changed += 1,
            Change::Metadata => self.metadata += 1,
        }
        if change != Change::Metadata {
            self.added_bytes += new.map_or(0, Entry::size);
            self.removed_bytes += old.map_or(0, Entry::size);
        }
    }
}

async fn next(walk: &mut TreeWalk, within: Option<&EntryPath>) -> Result<Option<Entry>, LookError> {
    while let Some(next) = walk.next().await {
        let entry = next.map_err(|damaged| LookError::Tree(damaged.error))?;
        if within.is_none_or(|within| entry.path.is_within(within)) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

fn compare(old: &Entry, new: &Entry) -> Option<Change> {
    if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
        return Some(Change::Kind);
    }
    let same_content = match (&old.kind, &new.kind) {
        (EntryKind::Stream(old, _), EntryKind::Stream(new, _)) => old == new,
        (old, new) => old == new,
    };
    if !same_content {
        return Some(Change::Content);
    }
    let lasting = |m: &Metadata| Metadata { ctime: m.mtime, inode: 0, device: 0, looks_random: false, ..m.clone() };
    // A stream's time is that of its run.
    let is_stream = matches!(new.kind, EntryKind::Stream(..));
    (!is_stream && lasting(&old.metadata) != lasting(&new.metadata)).then_some(Change::Metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    fn entry(kind: EntryKind, mtime: i64, inode: u64) -> Entry {
        let metadata = Metadata { mtime: Timestamp::from_seconds(mtime), inode, ..Metadata::default() };
        Entry { path: EntryPath::new("x").expect("safe"), kind, metadata }
    }

    #[test]
    fn what_a_restore_would_not_show_is_no_difference() {
        let fifo = || EntryKind::Fifo;
        assert_eq!(compare(&entry(fifo(), 1, 1), &entry(fifo(), 1, 2)), None);
        assert_eq!(compare(&entry(fifo(), 1, 1), &entry(fifo(), 2, 1)), Some(Change::Metadata));
        assert_eq!(compare(&entry(fifo(), 1, 1), &entry(EntryKind::Socket, 1, 1)), Some(Change::Kind));
        let link = |to: &str| EntryKind::Symlink(to.into());
        assert_eq!(compare(&entry(link("a"), 1, 1), &entry(link("b"), 2, 1)), Some(Change::Content));
    }
}
