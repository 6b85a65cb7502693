//! Choosing a snapshot: by the start of its id, or `latest` among those that fit.

use std::sync::Arc;

use crate::format::FormatError;
use crate::model::path::EntryPath;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::repository::Repository;
use crate::repository::newest_first::NewestFirst;
use crate::repository::snapshots::SnapshotError;

/// A snapshot that was chosen, and what was passed over.
#[derive(Debug, Clone)]
pub struct ChosenSnapshot {
    /// The one that is meant.
    pub snapshot: Snapshot,
    /// For `latest`: those that fit, too, and are dated ahead of the present, the newest first. The chosen one is among them
    /// where there is no other.
    pub ahead: Vec<SnapshotId>,
    /// For `latest`: those listed besides, which the conditions may or may not accept, the oldest first.
    pub besides: Vec<SnapshotId>,
}

/// Narrows a choice of snapshots; empty conditions let everything pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Any of these hosts.
    pub hosts: Vec<String>,
    /// Any of these jobs.
    pub jobs: Vec<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Made from a source that is, or contains, each of these paths.
    pub paths: Vec<Vec<u8>>,
}

impl SnapshotFilter {
    /// Tells whether all that it accepts is of one host and one job.
    pub fn names_one_series(&self) -> bool {
        self.hosts.len() == 1 && self.jobs.len() == 1
    }

    /// Tells whether a snapshot passes.
    pub fn accepts(&self, snapshot: &Snapshot) -> bool {
        let covers = |source: &[u8], path: &[u8]| {
            let part = |bytes: &[u8]| EntryPath::new(bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()).ok();
            match (part(source), part(path)) {
                (Some(source), Some(path)) => path.is_within(&source),
                _ => source == path || source == b"/",
            }
        };
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && (self.jobs.is_empty() || self.jobs.contains(&snapshot.job))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.paths.iter().all(|path| snapshot.sources.iter().any(|source| covers(source, path)))
    }
}

impl Repository {
    /// Finds the snapshot that `text` means: `latest` among those that pass `filter` and are complete, or the start of an
    /// id; see [`Repository::choose_snapshot`], for which any date will do here.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`], [`SnapshotError::Ambiguous`] or [`SnapshotError::NoneFits`] when no one snapshot is
    /// meant; otherwise why it cannot be opened.
    pub async fn find_snapshot(
        self: &Arc<Self>,
        text: &str,
        filter: &SnapshotFilter,
    ) -> Result<Snapshot, SnapshotError> {
        let end_of_time = Timestamp { seconds: i64::MAX, nanos: 0 };
        Ok(self.choose_snapshot(text, filter, end_of_time).await?.snapshot)
    }

    /// Finds the snapshot that `text` means, like [`Repository::find_snapshot`]. `latest` is the newest that is not dated ahead
    /// of `now`: a clock that was wrong for one night must not decide for a year what is restored. Only where all that fit are
    /// ahead, the last of them is chosen, because then `now` may be what is wrong.
    /// A foreign one is never `latest`, and can be named.
    ///
    /// # Errors
    /// As for [`Repository::find_snapshot`].
    pub async fn choose_snapshot(
        self: &Arc<Self>,
        text: &str,
        filter: &SnapshotFilter,
        now: Timestamp,
    ) -> Result<ChosenSnapshot, SnapshotError> {
        let ids = self.snapshot_ids().await?;
        if text == "latest" {
            return self.latest(ids, filter, now).await;
        }
        let fitting =
            |id: &&SnapshotId| !text.is_empty() && (id.to_string().starts_with(text) || id.object_name() == text);
        let fitting: Vec<SnapshotId> = ids.iter().filter(fitting).copied().collect();
        match fitting.as_slice() {
            [id] => Ok(ChosenSnapshot {
                snapshot: self.listed_snapshot(*id).await?,
                ahead: Vec::new(),
                besides: Vec::new(),
            }),
            [] => Err(SnapshotError::Unknown(text.to_owned())),
            several => Err(SnapshotError::Ambiguous { prefix: text.to_owned(), candidates: several.to_vec() }),
        }
    }

    async fn latest(
        self: &Arc<Self>,
        ids: Vec<SnapshotId>,
        filter: &SnapshotFilter,
        now: Timestamp,
    ) -> Result<ChosenSnapshot, SnapshotError> {
        let (mut latest, mut ahead): (Option<Snapshot>, Vec<Snapshot>) = (None, Vec::new());
        let mut besides = ids.clone();
        let mut newest = NewestFirst::of(self, ids);
        while latest.is_none()
            && let Some((id, snapshot)) = newest.next().await
        {
            let is_ahead = id.time().is_ahead_of(now);
            let snapshot = match snapshot {
                Err(SnapshotError::Damaged { .. } | SnapshotError::Key { .. }) if is_ahead => continue,
                // Nobody says that it is ours.
                Err(SnapshotError::Damaged { source: FormatError::UnknownAuthor { .. }, .. }) => continue,
                snapshot => snapshot?,
            };
            if !filter.accepts(&snapshot) || !snapshot.is_complete() {
                continue;
            }
            if is_ahead {
                ahead.push(snapshot);
            } else {
                latest = Some(snapshot);
            }
        }
        let snapshot = latest.or_else(|| ahead.first().cloned()).ok_or(SnapshotError::NoneFits)?;
        let ahead: Vec<SnapshotId> = ahead.iter().map(|snapshot| snapshot.id).collect();
        besides.retain(|id| *id != snapshot.id && !ahead.contains(id));
        Ok(ChosenSnapshot { snapshot, ahead, besides })
    }
}
