//! The log of runs: what readers and writers put on record, read from the newest back (`docs/format.md`, section 13).
//!
//! A record is sealed like a snapshot: whoever may write puts one, readers alone read them. It decides over nothing that is stored;
//! what it says is what people are told, and when work is due again. So one that cannot be read, or is missing, is told and ends
//! nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::crypto::digest::sha256_of;
use crate::crypto::random;
use crate::format::FormatError;
use crate::format::evidence::decode_run;
use crate::format::object::{EVIDENCE, SealedAt};
use crate::model::author::Author;
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::{RUN_STAYS_DAYS, RunId, RunKind, RunRecord};
use crate::model::time::Timestamp;
use crate::repository::access::{AccessError, Deleting, Reading, Writing};
use crate::repository::keys::SessionKeyError;
use crate::repository::recheck::Altered;
use crate::repository::session::SessionError;
use crate::repository::{MAIN_DOMAIN, Repository};
use crate::store::StoreError;

/// Records fetched at the same time.
const FETCHES: usize = 16;
/// Records looked at, at most: whoever may put one may put many.
const LOOKED_AT: usize = 1024;
const DAY_SECONDS: i64 = 24 * 3600;

/// Why a run could not be put on record.
#[derive(Debug, thiserror::Error)]
pub enum NoteRunError {
    /// This key may not.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Nothing can be sealed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The record does not open to what was sealed. It was not stored.
    #[error("the record of the run is not as it was made: the memory or the processor of this machine is faulty")]
    Altered(#[from] Altered),
    /// The store does not take it.
    #[error("the record of the run could not be stored")]
    Store(#[from] StoreError),
}

impl Ended for NoteRunError {
    fn outcome(&self) -> Outcome {
        match self {
            NoteRunError::Access(error) => error.outcome(),
            NoteRunError::Session(error) => error.outcome(),
            NoteRunError::Altered(_) => Outcome::Failed,
            NoteRunError::Store(error) => error.outcome(),
        }
    }
}

/// Why a record that opens does not count.
const FOREIGN: &str = "it does not count: by a writer that may not say this";
const NOT_FOR_WRITERS: &str = "it does not count: writers cannot do what it says";

/// Records of runs, and what is the matter with others.
#[derive(Debug, Clone, Default)]
pub struct RunLog {
    /// Those that count, the newest first.
    pub runs: Vec<RunRecord>,
    /// Those that do not count or cannot be opened, and those that are named and not there, each with why.
    pub odd: Vec<(ObjectKey, String)>,
    /// Whether there are more than anybody looks at.
    pub is_cut_off: bool,
}

impl RunLog {
    /// Returns the newest record of a kind that is done.
    pub fn last_done(&self, kind: &RunKind) -> Option<&RunRecord> {
        self.runs.iter().find(|run| run.kind == *kind && run.is_done())
    }
}

/// A record that was opened, or why it counts for nothing; none where its keys were destroyed.
type OpenedRun = Option<Result<RunRecord, String>>;

impl Reading {
    /// Reads records from the newest back, until `is_enough` says so of what was read and the time of the next.
    ///
    /// # Errors
    /// When they cannot be listed, or one is out of reach.
    pub async fn runs(
        &self,
        now: Timestamp,
        is_enough: impl Fn(&RunLog, Timestamp) -> bool,
    ) -> Result<RunLog, StoreError> {
        let repository = self.repository();
        let listed = repository.objects().runs().await?;
        let mut log = RunLog::default();
        let (ahead, mut ids): (Vec<RunId>, Vec<RunId>) = listed.iter().partition(|id| id.time().is_ahead_of(now));
        let why = "it is dated ahead of this machine's clock";
        log.odd.extend(ahead.into_iter().take(1).map(|id| (ObjectKey::run(id), why.to_owned())));
        log.is_cut_off = ids.len() > LOOKED_AT;
        ids.drain(..ids.len().saturating_sub(LOOKED_AT));
        let mut named = BTreeSet::new();
        while let Some(last) = ids.last().filter(|last| !is_enough(&log, last.time())).copied() {
            let mut batch = ids.split_off(ids.len().saturating_sub(FETCHES));
            batch.reverse();
            debug_assert_eq!(batch.first(), Some(&last));
            let opening = stream::iter(batch).map(|id| async move { Ok((id, repository.open_run(id).await?)) });
            let opened: Vec<(RunId, OpenedRun)> = opening.buffered(FETCHES).try_collect().await?;
            for (id, opened) in opened {
                match opened {
                    Some(Ok(record)) => {
                        named.extend(record.before.map(|(before, _)| before));
                        log.runs.push(record);
                    }
                    Some(Err(why)) => log.odd.push((ObjectKey::run(id), why)),
                    None => {}
                }
            }
        }
        // Names tell the second only.
        log.runs.sort_by_key(|run| std::cmp::Reverse(run.finished));
        named.extend(repository.state().known_run().map(|(id, _)| id));
        for id in named.into_iter().filter(|id| !listed.contains(id) && !is_old(*id, now)) {
            // A listing may lag.
            if !repository.objects().has(&ObjectKey::run(id)).await {
                log.odd.push((ObjectKey::run(id), "it was there and is not any more".to_owned()));
            }
        }
        Ok(log)
    }
}

/// Tells whether a record may be gone.
fn is_old(id: RunId, now: Timestamp) -> bool {
    now.seconds.saturating_sub(id.time().seconds) > RUN_STAYS_DAYS * DAY_SECONDS
}

impl Repository {
    async fn open_run(&self, id: RunId) -> Result<OpenedRun, StoreError> {
        let open = |object: &bytes::Bytes| self.opened_run(id, object);
        match self.objects().run(id, open).await {
            Ok(opened) => Ok(opened.unwrap_or_else(|error| Some(Err(error.to_string())))),
            Err(error) if error.kind.is_damage() => Ok(Some(Err(error.clause()))),
            Err(error) => Err(error),
        }
    }

    /// Opens the object of a record.
    fn opened_run(&self, id: RunId, object: &[u8]) -> Result<OpenedRun, FormatError> {
        let (header, _) = EVIDENCE.split(object)?;
        let secret = match self.keys().session_secret(&header) {
            Err(SessionKeyError::NoDomain(at)) if self.keys().is_erased(at) => return Ok(None),
            secret => secret.map_err(|error| FormatError::Invalid { what: EVIDENCE.what(), why: error.to_string() })?,
        };
        let place = SealedAt { repository: self.id(), object: &id.to_bytes(), root: &secret.0 };
        let opened = EVIDENCE.open(object, &place, self.keys())?;
        let record = decode_run(id, opened.value())?;
        Ok(Some(match opened.author {
            Author::Writer(_) if record.kind != RunKind::Backup => Err(NOT_FOR_WRITERS.to_owned()),
            author => match self.keys().foreign_at(author, header.at, &record.host) {
                Some(_) => Err(FOREIGN.to_owned()),
                None => Ok(record),
            },
        }))
    }
}

impl Writing {
    /// Puts a run on record, behind the one that this machine put before; durable on return.
    ///
    /// # Errors
    /// [`NoteRunError`]; nothing is stored then, or it is not known.
    pub async fn note_run(&self, mut record: RunRecord) -> Result<(), NoteRunError> {
        let repository: &Arc<Repository> = self.repository();
        let session = self.begin_session(MAIN_DOMAIN)?;
        record.before = repository.state().known_run();
        let id = RunId::new(record.finished, random());
        let object = session.seal_run(id, &record);
        session.check_run(id, &record, &object)?;
        let digest = sha256_of(&object);
        repository.objects().put_run(id, object).await?;
        // Without it the next record names none, which harms nothing.
        let _ = repository.state().remember_run(id, digest);
        Ok(())
    }
}

impl Deleting {
    /// Removes records that need not stay any longer. Returns how many there were.
    ///
    /// # Errors
    /// When they cannot be listed, or one cannot be removed; others may be removed by then.
    pub async fn remove_old_runs(&self, now: Timestamp) -> Result<usize, StoreError> {
        let objects = self.repository().objects();
        let old: Vec<RunId> = objects.runs().await?.into_iter().filter(|id| is_old(*id, now)).collect();
        for id in &old {
            objects.remove_run(*id).await?;
        }
        Ok(old.len())
    }
}
