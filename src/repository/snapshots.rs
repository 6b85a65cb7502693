//! Snapshots: listing and opening them.
//!
//! The store's listing decides which there are. Their bytes never change, so they come from the cache where it has them;
//! one that does not open from there is fetched before anything is said about it.

use std::collections::HashSet;
use std::future::ready;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};

use crate::blocking::blocking;
use crate::crypto::digest::sha256_of;
use crate::format::FormatError;
use crate::format::object::{Authors, SNAPSHOT, SealedAt};
use crate::format::snapshot::decode_snapshot;
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{Foreign, Snapshot, SnapshotId};
use crate::repository::Repository;
use crate::repository::cleanups::Cleanups;
use crate::repository::keys::{Keys, SessionKeyError};
use crate::repository::retention::Retention;
use crate::repository::snapshot_cache::SnapshotCache;
use crate::repository::verdict::Verdict;
use crate::store::{StoreError, StoreErrorKind};

/// Snapshots fetched at the same time.
pub(super) const FETCHES: usize = 16;

/// Why a snapshot could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store failed.
    #[error("snapshot {id} could not be fetched")]
    Fetch {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The snapshots could not be listed.
    #[error("the snapshots could not be listed")]
    List(#[source] StoreError),
    /// Its key could not be had.
    #[error("snapshot {id} cannot be opened")]
    Key {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        #[source]
        source: SessionKeyError,
    },
    /// It is damaged.
    #[error("snapshot {id} is damaged")]
    Damaged {
        /// The snapshot.
        id: SnapshotId,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// No snapshot has this id.
    #[error("there is no snapshot {0:?}")]
    Unknown(String),
    /// Several snapshots have ids that start like this.
    #[error("{prefix:?} could be {}", candidates.iter().map(SnapshotId::to_string).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// The ids that start with it.
        candidates: Vec<SnapshotId>,
    },
    /// No snapshot fits the conditions for `latest`.
    #[error("no snapshot fits")]
    NoneFits,
    /// What is `latest` is known to this machine, and cannot be had.
    #[error("the latest is snapshot {}, number {number} of {sequence}, and {why}", id.short())]
    LatestLost {
        /// The snapshot.
        id: SnapshotId,
        /// Its number.
        number: u64,
        /// Its sequence, in words.
        sequence: String,
        /// What is the matter with it, as a clause.
        why: String,
        /// The newest that is there, if any fits.
        instead: Option<SnapshotId>,
    },
}

impl Ended for SnapshotError {
    fn outcome(&self) -> Outcome {
        match self {
            SnapshotError::Fetch { source, .. } | SnapshotError::List(source) => source.outcome(),
            SnapshotError::Key { source, .. } => source.outcome(),
            SnapshotError::Damaged { .. } | SnapshotError::LatestLost { .. } => Outcome::Damaged,
            SnapshotError::Unknown(_) | SnapshotError::Ambiguous { .. } | SnapshotError::NoneFits => Outcome::Missing,
        }
    }
}

impl SnapshotError {
    /// Tells whether it is of an epoch whose keys were destroyed: nobody can read it any more, and nobody is to.
    pub fn is_erased(&self, keys: &Keys) -> bool {
        matches!(self, SnapshotError::Key { source: SessionKeyError::NoDomain(at), .. } if keys.is_erased(*at))
    }

    /// Tells whether no session of this repository made it, as far as it can be told from itself.
    pub fn is_nobodys(&self) -> bool {
        match self {
            SnapshotError::Key { source, .. } => {
                matches!(source, SessionKeyError::NoDomain(_) | SessionKeyError::Invalid(_))
            }
            SnapshotError::Damaged { source, .. } => {
                matches!(source, FormatError::WrongMark(_) | FormatError::Truncated(_))
            }
            _ => false,
        }
    }

    /// Tells whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, SnapshotError::Fetch { source, .. } if source.kind == StoreErrorKind::NotFound)
    }

    /// Tells whether the stored snapshot is missing or wrong, rather than out of reach, forbidden, or not meant by anything.
    pub fn is_damage(&self) -> bool {
        self.outcome() == Outcome::Damaged
    }
}

/// Snapshots as they were listed, and what was told of cleaning up by then.
#[derive(Debug, Clone)]
pub struct SnapshotListing {
    /// Those that the store lists, the oldest first.
    pub listed: Vec<SnapshotId>,
    /// Those of them that count, are forgotten, or cannot be opened: neither removed nor of a run that a clean-up had given up.
    pub counting: Vec<SnapshotId>,
    /// What was told of cleaning up.
    pub cleanups: Arc<Cleanups>,
    /// What was told of retention.
    pub retention: Arc<Retention>,
}

impl SnapshotListing {
    /// Returns those that count and are not forgotten, as far as their names tell it.
    pub fn that_stay(self) -> Vec<SnapshotId> {
        let Self { mut counting, retention, .. } = self;
        counting.retain(|id| !retention.names(*id));
        counting
    }
}

/// What readers told of snapshots.
#[derive(Debug, Clone, Default)]
struct ToldOfSnapshots {
    cleanups: Arc<Cleanups>,
    retention: Arc<Retention>,
}

/// Says why a snapshot does not open, without its name.
pub(super) fn cause_of(error: &SnapshotError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), crate::progress::chain)
}

/// Opens snapshots, or looks at their objects, side by side, and gives them in the order of `ids`.
pub(super) fn side_by_side<T, F, O>(
    repository: &Arc<Repository>,
    ids: Vec<SnapshotId>,
    open: F,
) -> impl Stream<Item = (SnapshotId, Result<T, SnapshotError>)> + Send + use<T, F, O>
where
    T: Send,
    F: Fn(Arc<Repository>, SnapshotId) -> O + Send,
    O: Future<Output = Result<T, SnapshotError>> + Send,
{
    let repository = repository.clone();
    let opening = move |id| {
        let opened = open(repository.clone(), id);
        async move { (id, opened.await) }
    };
    stream::iter(ids).map(opening).buffered(FETCHES)
}

impl Repository {
    /// Tells whether a list of cleaning up names a snapshot as gone by now. One that was listed and cannot be found may have been removed
    /// since lists were read.
    ///
    /// # Errors
    /// [`SnapshotError::List`].
    pub async fn was_removed(&self, id: SnapshotId) -> Result<bool, SnapshotError> {
        let cleanups = self.cleanups().await.map_err(SnapshotError::List)?;
        Ok(cleanups.is_gone(&ObjectKey::snapshot(id)))
    }

    /// Lists the ids of all snapshots that count, the oldest first: neither those that were removed, wherever they may have come
    /// back from, nor those of runs that a clean-up had given up.
    ///
    /// # Errors
    /// [`SnapshotError::List`].
    pub async fn snapshot_ids(self: &Arc<Self>) -> Result<Vec<SnapshotId>, SnapshotError> {
        Ok(self.list_snapshots().await?.counting)
    }

    /// Lists the snapshots, and reads what was told of cleaning up.
    ///
    /// # Errors
    /// [`SnapshotError::List`].
    pub async fn list_snapshots(self: &Arc<Self>) -> Result<SnapshotListing, SnapshotError> {
        let listing = futures::future::try_join3(self.objects().snapshots(), self.cleanups(), self.retention());
        let (listed, cleanups, retention) = listing.await.map_err(SnapshotError::List)?;
        self.snapshot_cache().keep_only(&listed.ids);
        let counting = self.that_count(listed.ids.clone(), &cleanups).await;
        Ok(SnapshotListing { listed: listed.ids, counting, cleanups, retention })
    }

    /// Leaves those of listed snapshots that count. One that cannot be opened is left, for whoever opens it to tell.
    pub(crate) async fn that_count(self: &Arc<Self>, mut ids: Vec<SnapshotId>, cleanups: &Cleanups) -> Vec<SnapshotId> {
        ids.retain(|id| !cleanups.is_gone(&ObjectKey::snapshot(*id)));
        let doubtful = ids.iter().copied().filter(|id| cleanups.may_be_void(*id)).collect();
        let mut opening = self.listed_snapshots(doubtful);
        let mut void = HashSet::new();
        while let Some((id, opened)) = opening.next().await {
            let is_void =
                |opened: Snapshot| opened.digest.is_some_and(|digest| cleanups.is_void((id, digest), opened.session));
            if opened.is_ok_and(is_void) {
                void.insert(id);
            }
        }
        ids.retain(|id| !void.contains(id));
        ids
    }

    /// Fetches a snapshot from the store and opens it.
    ///
    /// # Errors
    /// [`SnapshotError`] tells whether the store, the key or the snapshot is the reason.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, SnapshotError> {
        let told = self.told().await?;
        let open = |object: &bytes::Bytes| {
            let opened = self.open_snapshot(id, object, self.keys(), &told)?;
            self.keep_snapshot(&opened, object);
            Ok(opened)
        };
        self.objects().snapshot(id, open).await.map_err(|source| SnapshotError::Fetch { id, source })?
    }

    /// Opens a snapshot that the store lists, from the cache if it has it.
    pub(super) async fn listed_snapshot(self: &Arc<Self>, id: SnapshotId) -> Result<Snapshot, SnapshotError> {
        let (repository, told) = (self.clone(), self.told().await?);
        let opening = blocking(move || {
            let kept = repository.snapshot_cache().get(id)?;
            let verdict = Verdict::of(repository.keys(), id, &kept.object).remembered(kept.verdict);
            repository.open_snapshot(id, &kept.object, &verdict, &told).ok()
        });
        match opening.await {
            Some(opened) => Ok(opened),
            None => self.snapshot(id).await,
        }
    }

    /// Returns what says which snapshots count, are forgotten and held; a key that opens none need not ask.
    async fn told(&self) -> Result<ToldOfSnapshots, SnapshotError> {
        if !self.keys().can_read() {
            return Ok(ToldOfSnapshots::default());
        }
        let told = futures::future::try_join(self.known_cleanups(), self.known_retention());
        let (cleanups, retention) = told.await.map_err(SnapshotError::List)?;
        Ok(ToldOfSnapshots { cleanups, retention })
    }

    /// Opens a snapshot's object; `authors` judges who wrote it, `told` says whether it counts, and whether it is to stay.
    fn open_snapshot(
        &self,
        id: SnapshotId,
        object: &[u8],
        authors: &impl Authors,
        told: &ToldOfSnapshots,
    ) -> Result<Snapshot, SnapshotError> {
        let ToldOfSnapshots { cleanups, retention } = told;
        let damaged = |source| SnapshotError::Damaged { id, source };
        let (header, _) = SNAPSHOT.split(object).map_err(damaged)?;
        let secret = self.keys().session_secret(&header).map_err(|source| SnapshotError::Key { id, source })?;
        let place = SealedAt { repository: self.id(), object: &id.to_bytes(), root: &secret.0 };
        let opened = SNAPSHOT.open(object, &place, authors).map_err(damaged)?;
        let snapshot = decode_snapshot(id, &header, opened.author, opened.value()).map_err(damaged)?;
        let digest = sha256_of(object);
        let counts = || cleanups.counts(self.keys().counting(snapshot.author), id, digest);
        let foreign = self.keys().foreign(&snapshot).filter(|foreign| *foreign != Foreign::Revoked || !counts());
        let foreign = foreign.or(cleanups.is_exchanged(id, digest).then_some(Foreign::Exchanged));
        let (forgotten, held) = (retention.forgotten(id, digest).cloned(), retention.hold(id).cloned());
        Ok(Snapshot { foreign, forgotten, held, digest: Some(digest), ..snapshot })
    }

    /// Tells whether a snapshot's object is of an epoch whose keys were destroyed.
    pub(super) fn is_of_erased(&self, object: &[u8]) -> bool {
        SNAPSHOT.split(object).is_ok_and(|(header, _)| self.keys().is_erased(header.at))
    }

    /// Keeps the object of a snapshot whose author was checked in the cache.
    pub(super) fn keep_snapshot(&self, snapshot: &Snapshot, object: &[u8]) {
        let verdict = Verdict::of(self.keys(), snapshot.id, object).on(snapshot.author);
        self.snapshot_cache().keep(snapshot.id, verdict, object);
    }

    pub(super) fn snapshot_cache(&self) -> SnapshotCache {
        SnapshotCache::new(self.cache().snapshots())
    }

    /// Opens snapshots that the store lists, side by side and in the order given, without those that a clean-up removed since they were
    /// listed; few are in memory at the same time.
    pub fn listed_snapshots(
        self: &Arc<Self>,
        ids: Vec<SnapshotId>,
    ) -> impl Stream<Item = (SnapshotId, Result<Snapshot, SnapshotError>)> + Send + use<> {
        let opened = side_by_side(self, ids, |repository, id| async move {
            let opened = repository.listed_snapshot(id).await;
            repository.unless_removed(id, opened).await
        });
        opened.filter_map(|(id, opened)| ready(opened.transpose().map(|opened| (id, opened))))
    }

    /// Fetches snapshots from the store and opens them, side by side and in the order given, without those that a clean-up removed since
    /// they were listed: what verifying must do, which the cache could tell nothing about what is stored.
    pub fn stored_snapshots(
        self: &Arc<Self>,
        ids: Vec<SnapshotId>,
    ) -> impl Stream<Item = (SnapshotId, Result<Snapshot, SnapshotError>)> + Send + use<> {
        let opened = side_by_side(self, ids, |repository, id| async move {
            let opened = repository.snapshot(id).await;
            repository.unless_removed(id, opened).await
        });
        opened.filter_map(|(id, opened)| ready(opened.transpose().map(|opened| (id, opened))))
    }

    /// Leaves what became of a snapshot that was listed, unless it is not there because it was removed since.
    async fn unless_removed(
        &self,
        id: SnapshotId,
        opened: Result<Snapshot, SnapshotError>,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        match opened {
            Err(error) if error.is_not_found() && self.was_removed(id).await? => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Opens all snapshots, the oldest first; each may be damaged by itself.
    ///
    /// # Errors
    /// When they cannot be listed, or one of them is out of reach: that says nothing about it.
    pub async fn snapshots(
        self: &Arc<Self>,
    ) -> Result<Vec<(SnapshotId, Result<Snapshot, SnapshotError>)>, SnapshotError> {
        Ok(self.open_snapshots().await?.1)
    }

    /// Does the same, and returns the listing as well, in which there may be some that were removed since.
    ///
    /// # Errors
    /// As [`Repository::snapshots`].
    pub async fn open_snapshots(
        self: &Arc<Self>,
    ) -> Result<(SnapshotListing, Vec<(SnapshotId, Result<Snapshot, SnapshotError>)>), SnapshotError> {
        let listing = self.list_snapshots().await?;
        let mut opening = self.listed_snapshots(listing.counting.clone());
        let mut snapshots = Vec::new();
        while let Some((id, snapshot)) = opening.next().await {
            match snapshot {
                Err(error) if !error.is_damage() => return Err(error),
                snapshot => snapshots.push((id, snapshot)),
            }
        }
        // Names tell the second only.
        snapshots.sort_by_key(|(id, snapshot)| snapshot.as_ref().map_or_else(|_| id.time(), |it| it.started));
        Ok((listing, snapshots))
    }
}
