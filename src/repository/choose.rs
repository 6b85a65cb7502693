//! Choosing a snapshot: by the start of its id, or `latest` among those that fit.

use std::cmp::Reverse;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::format::FormatError;
use crate::model::key::ObjectKey;
use crate::model::path::EntryPath;
use crate::model::series::Series;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::repository::Repository;
use crate::repository::newest_first::NewestFirst;
use crate::repository::sequences::NOT_THERE;
use crate::repository::snapshots::{SnapshotError, SnapshotListing, cause_of};
use crate::repository::state::Newest;

/// Snapshots with ids that start alike which are opened to see which of them are snapshots.
const TOLD_APART: usize = 64;

/// A snapshot that was chosen, and what was passed over.
#[derive(Debug, Clone)]
pub struct ChosenSnapshot {
    /// The one that is meant.
    pub snapshot: Snapshot,
    /// For `latest`: those that fit, too, and are dated ahead of the present, the newest first. The chosen one is among them
    /// where there is no other.
    pub ahead: Vec<SnapshotId>,
    /// For `latest`: those that cannot be opened and are dated after the chosen one, the newest first, with the reason. Whoever can put
    /// objects can make such; any may have been one that fits.
    pub unopened: Vec<(SnapshotId, String)>,
    /// For `latest`: those listed besides, which the conditions may or may not accept, the oldest first.
    pub besides: Vec<SnapshotId>,
}

impl ChosenSnapshot {
    fn of(snapshot: Snapshot) -> Self {
        Self { snapshot, ahead: Vec::new(), unopened: Vec::new(), besides: Vec::new() }
    }
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
        self.accepts_series(&Series::of(snapshot)) && self.accepts_tags(&snapshot.tags)
    }

    /// Tells whether snapshots with these labels may pass.
    fn accepts_tags(&self, tags: &[String]) -> bool {
        self.tags.iter().all(|tag| tags.contains(tag))
    }

    /// Tells whether snapshots of a series pass, whatever their labels.
    pub fn accepts_series(&self, series: &Series) -> bool {
        let covers = |source: &[u8], path: &[u8]| {
            let part = |bytes: &[u8]| EntryPath::new(bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()).ok();
            match (part(source), part(path)) {
                (Some(source), Some(path)) => path.is_within(&source),
                _ => source == path || source == b"/",
            }
        };
        (self.hosts.is_empty() || self.hosts.contains(&series.host))
            && (self.jobs.is_empty() || self.jobs.contains(&series.job))
            && self.paths.iter().all(|path| series.sources.iter().any(|source| covers(source, path)))
    }
}

impl Repository {
    /// Finds the snapshot that `text` means: `latest` among those that pass `filter` and are complete, or the start of an
    /// id; see [`Repository::choose_snapshot`], for which any date will do here.
    ///
    /// # Errors
    /// [`SnapshotError::Unknown`], [`SnapshotError::Ambiguous`] or [`SnapshotError::NoneFits`] when no one snapshot is
    /// meant, [`SnapshotError::LatestLost`]; otherwise why it cannot be opened.
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
    /// A foreign one is never `latest`, and can be named. One that cannot be opened is passed over and told, unless this machine
    /// knows that it is the latest: then, and when that one is not there, `latest` means nothing, and only an id will do.
    ///
    /// # Errors
    /// As for [`Repository::find_snapshot`].
    pub async fn choose_snapshot(
        self: &Arc<Self>,
        text: &str,
        filter: &SnapshotFilter,
        now: Timestamp,
    ) -> Result<ChosenSnapshot, SnapshotError> {
        let listing = self.list_snapshots().await?;
        if text == "latest" {
            return self.latest(listing, filter, now).await;
        }
        let fitting =
            |id: &&SnapshotId| !text.is_empty() && (id.to_string().starts_with(text) || id.object_name() == text);
        let fitting: Vec<SnapshotId> = listing.counting.iter().filter(fitting).copied().collect();
        if fitting.len() > TOLD_APART {
            return Err(SnapshotError::Ambiguous { prefix: text.to_owned(), candidates: fitting });
        }
        // Whoever can put objects can give one the digits of another; it does not open. What was removed since is not among these.
        let mut opened: Vec<_> = self.listed_snapshots(fitting).collect().await;
        if opened.iter().any(|(_, it)| it.is_ok()) {
            opened.retain(|(_, it)| it.is_ok());
        }
        match opened.len() {
            0 => Err(SnapshotError::Unknown(text.to_owned())),
            1 => opened.remove(0).1.map(ChosenSnapshot::of),
            _ => {
                let candidates = opened.into_iter().map(|(id, _)| id).collect();
                Err(SnapshotError::Ambiguous { prefix: text.to_owned(), candidates })
            }
        }
    }

    async fn latest(
        self: &Arc<Self>,
        listing: SnapshotListing,
        filter: &SnapshotFilter,
        now: Timestamp,
    ) -> Result<ChosenSnapshot, SnapshotError> {
        let (mut latest, mut ahead): (Option<Snapshot>, Vec<Snapshot>) = (None, Vec::new());
        let mut besides = listing.counting.clone();
        let mut unopened: Vec<(SnapshotId, SnapshotError)> = Vec::new();
        let mut newest = NewestFirst::of(self, listing.counting.clone());
        while latest.is_none()
            && let Some((id, snapshot)) = newest.next().await
        {
            let is_ahead = id.time().is_ahead_of(now);
            let snapshot = match snapshot {
                // Nobody says that it is ours.
                Err(SnapshotError::Damaged { source: FormatError::UnknownAuthor { .. }, .. }) => continue,
                Err(error) if error.is_erased(self.keys()) => continue,
                // Whoever can put objects can put one that does not open, so it decides nothing.
                Err(error) if error.is_damage() => {
                    if !is_ahead {
                        unopened.push((id, error));
                    }
                    continue;
                }
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
        let chosen = latest.or_else(|| ahead.first().cloned());
        if let Some(lost) = self.lost_latest(chosen.as_ref(), &listing, &unopened, filter, now).await {
            return Err(lost);
        }
        let Some(snapshot) = chosen else {
            // Where nothing else is there, what is wrong is more than that nothing fits.
            return Err(unopened.into_iter().next().map_or(SnapshotError::NoneFits, |(_, error)| error));
        };
        let ahead: Vec<SnapshotId> = ahead.iter().map(|snapshot| snapshot.id).collect();
        besides.retain(|id| *id != snapshot.id && !ahead.contains(id));
        let unopened = unopened.into_iter().map(|(id, error)| (id, cause_of(&error))).collect();
        Ok(ChosenSnapshot { snapshot, ahead, unopened, besides })
    }

    /// Tells that this machine made or saw one that fits and is newer than the `chosen` one, where it is not there or does not open.
    async fn lost_latest(
        &self,
        chosen: Option<&Snapshot>,
        listing: &SnapshotListing,
        unopened: &[(SnapshotId, SnapshotError)],
        filter: &SnapshotFilter,
        now: Timestamp,
    ) -> Option<SnapshotError> {
        let fits = |known: &Newest| {
            known.is_complete && filter.accepts_series(&known.sequence.series) && filter.accepts_tags(&known.tags)
        };
        let is_newer = |known: &Newest| {
            let follows = |chosen: &Snapshot| known.sequence.has(chosen) && known.number > chosen.position.number;
            chosen.is_none_or(|chosen| known.id.time() > chosen.id.time() || follows(chosen))
        };
        let is_gone = |id: SnapshotId| listing.cleanups.is_gone(&ObjectKey::snapshot(id));
        let mut known = self.state().all_newest();
        known.retain(|known| fits(known) && is_newer(known) && !known.id.time().is_ahead_of(now) && !is_gone(known.id));
        known.sort_by_key(|known| Reverse(known.id));
        for known in known {
            let why = match unopened.iter().find(|(id, _)| *id == known.id) {
                Some((_, error)) => format!("it cannot be opened: {}", cause_of(error)),
                None if self.is_missing(known.id, listing).await => format!("it {NOT_THERE}"),
                None => continue,
            };
            return Some(SnapshotError::LatestLost {
                id: known.id,
                number: known.number,
                sequence: known.sequence.to_string(),
                why,
                instead: chosen.map(|chosen| chosen.id),
            });
        }
        None
    }
}
