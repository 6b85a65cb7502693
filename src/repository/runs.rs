//! The log of runs: what readers and writers put on record, read from the newest back (`docs/format.md`, section 13).
//!
//! A record is sealed like a snapshot: whoever may write puts one, readers alone read them. It decides over nothing that is stored;
//! what it says is what people are told, and when work is due again. So one that cannot be read, or is missing, is told and ends
//! nothing. Names of records of work have a mark that only readers make and see: however many others somebody puts, when work was done
//! last is found.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};

use crate::crypto::derive::{ReaderKey, derive};
use crate::crypto::digest::sha256_of;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::format::FormatError;
use crate::format::evidence::decode_run;
use crate::format::object::{EVIDENCE, SealedAt};
use crate::model::author::Author;
use crate::model::id::RepositoryId;
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::{RUN_STAYS_DAYS, RunId, RunKind, RunRecord};
use crate::model::time::{DAY_SECONDS, Timestamp};
use crate::repository::access::{AccessError, Deleting, Reading, Writing};
use crate::repository::keys::SessionKeyError;
use crate::repository::recheck::Altered;
use crate::repository::session::SessionError;
use crate::repository::{MAIN_DOMAIN, Repository};
use crate::store::StoreError;

/// Records fetched at the same time.
const FETCHES: usize = 16;
/// The same where the first one is mostly enough.
const FETCHES_OF_WORK: usize = 2;
/// Records looked at, at most, of each kind of work and of all others: whoever may put one may put many.
const LOOKED_AT: usize = 1024;
/// Where the mark begins in the 16 bytes of a name: behind the second and four random bytes.
const MARK_AT: usize = 12;

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
const UNMARKED: &str = "it does not count: its name lacks the mark of what it says";

/// Records of runs, and what is the matter with others.
#[derive(Debug, Clone, Default)]
pub struct RunLog {
    /// Those that count, the newest first.
    pub runs: Vec<RunRecord>,
    /// Those that do not count or cannot be opened, and those that are named and not there, each with why.
    pub odd: Vec<(ObjectKey, String)>,
    /// Whether there are more in the time asked for than anybody looks at.
    pub is_cut_off: bool,
}

impl RunLog {
    /// Returns the newest record of a kind that is done.
    pub fn last_done(&self, kind: &RunKind) -> Option<&RunRecord> {
        self.runs.iter().find(|run| run.kind == *kind && run.is_done())
    }

    fn add(&mut self, id: RunId, opened: OpenedRun) {
        match opened {
            Some(Ok(record)) => self.runs.push(record),
            Some(Err(why)) => self.odd.push((ObjectKey::run(id), why)),
            None => {}
        }
    }
}

/// A record that was opened, or why it counts for nothing; none where its keys were destroyed.
type OpenedRun = Option<Result<RunRecord, String>>;

/// Makes and sees the marks in names of records of work, as only readers can.
struct RunMarks(Secret);

impl RunMarks {
    fn of(reader: &ReaderKey, repository: RepositoryId) -> Self {
        Self(derive(&reader.0, &repository.0, "marks of runs"))
    }

    /// Returns the name with the mark of `kind` in the place of its last bytes.
    fn marked(&self, id: RunId, kind: &RunKind) -> RunId {
        let mut bytes = id.to_bytes();
        let hash = blake3::keyed_hash(self.0.expose(), &[&bytes[..MARK_AT], kind.name().as_bytes()].concat());
        bytes[MARK_AT..].copy_from_slice(&hash.as_bytes()[..16 - MARK_AT]);
        RunId::from_bytes(bytes)
    }

    /// Returns the work whose mark a name has.
    fn kind_of(&self, id: RunId) -> Option<RunKind> {
        RunKind::OF_READERS.into_iter().find(|kind| self.marked(id, kind) == id)
    }
}

impl Reading {
    /// Reads the records `since` some time, and of each kind of work those before it as well, from the newest back to one that is done.
    ///
    /// # Errors
    /// When they cannot be listed, or one is out of reach.
    pub async fn runs(&self, now: Timestamp, since: Timestamp) -> Result<RunLog, StoreError> {
        let repository = self.repository();
        let listed = repository.objects().runs().await?;
        let mut log = RunLog::default();
        let (ahead, ids): (Vec<RunId>, Vec<RunId>) = listed.iter().partition(|id| id.time().is_ahead_of(now));
        let why = "it is dated ahead of this machine's clock";
        log.odd.extend(ahead.into_iter().take(1).map(|id| (ObjectKey::run(id), why.to_owned())));
        let marks = repository.run_marks();
        let mut by_kind = BTreeMap::<Option<RunKind>, Vec<RunId>>::new();
        for id in ids.into_iter().rev() {
            let kind = marks.as_ref().and_then(|marks| marks.kind_of(id));
            by_kind.entry(kind).or_default().push(id);
        }
        let (mut recent, mut older) = (Vec::new(), Vec::new());
        for (kind, ids) in by_kind {
            let count = ids.partition_point(|id| id.time() >= since);
            log.is_cut_off |= count > LOOKED_AT;
            let mut ids = ids.into_iter();
            recent.extend(ids.by_ref().take(count.min(LOOKED_AT)));
            older.extend(kind.map(|kind| (kind, ids.take(LOOKED_AT).collect::<Vec<_>>())));
        }
        let mut opened = repository.opened_runs(recent, FETCHES);
        while let Some((id, run)) = opened.next().await {
            log.add(id, run?);
        }
        for (kind, ids) in older {
            let mut opened = repository.opened_runs(ids, FETCHES_OF_WORK);
            while log.last_done(&kind).is_none()
                && let Some((id, run)) = opened.next().await
            {
                log.add(id, run?);
            }
        }
        // Names tell the second only.
        log.runs.sort_by_key(|run| Reverse(run.finished));
        let mut named: BTreeSet<RunId> = log.runs.iter().filter_map(|run| Some(run.before?.0)).collect();
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
    /// Returns what makes and sees marks; none for who reads nothing.
    fn run_marks(&self) -> Option<RunMarks> {
        self.keys().reader_key().map(|reader| RunMarks::of(reader, self.id()))
    }

    /// Opens records in the order given, `at_once` side by side.
    fn opened_runs(
        self: &Arc<Self>,
        ids: Vec<RunId>,
        at_once: usize,
    ) -> impl Stream<Item = (RunId, Result<OpenedRun, StoreError>)> + use<> {
        let repository = self.clone();
        let opening = move |id| {
            let repository = repository.clone();
            async move { (id, repository.open_run(id).await) }
        };
        stream::iter(ids).map(opening).buffered(at_once)
    }

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
        let is_work = RunKind::OF_READERS.contains(&record.kind);
        let mark = self.run_marks().and_then(|marks| marks.kind_of(id));
        Ok(Some(match opened.author {
            Author::Writer(_) if record.kind != RunKind::Backup => Err(NOT_FOR_WRITERS.to_owned()),
            Author::Reader if is_work && mark.as_ref() != Some(&record.kind) => Err(UNMARKED.to_owned()),
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
        let marks = repository.run_marks().filter(|_| RunKind::OF_READERS.contains(&record.kind));
        let id = marks.map_or(id, |marks| marks.marked(id, &record.kind));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::derive::derive_into;

    fn marks(reader: u8) -> RunMarks {
        RunMarks::of(&ReaderKey(Secret::take(&mut [reader; 32])), RepositoryId([2; 16]))
    }

    /// From the page of the format alone: an earlier program must find what a later one marked.
    #[test]
    fn marks_are_part_of_the_format() {
        let second = 1_795_000_000_i64;
        let id = marks(1).marked(RunId::new(Timestamp::from_seconds(second), [7; 8]), &RunKind::Prune);
        let mut key = [0; 32];
        derive_into(&Secret::take(&mut [1; 32]), &[2; 16], "marks of runs", &mut key);
        let start = [&second.to_be_bytes()[..], &[7_u8; 4]].concat();
        let hash = blake3::keyed_hash(&key, &[&start[..], b"prune"].concat());
        assert_eq!(id.to_bytes()[..], [&start[..], &hash.as_bytes()[..4]].concat()[..]);
    }

    #[test]
    fn a_mark_tells_its_own_kind_to_readers_alone() {
        let id = RunId::new(Timestamp::from_seconds(1_795_000_000), [7; 8]);
        assert_eq!(marks(1).kind_of(id), None);
        for kind in RunKind::OF_READERS {
            let marked = marks(1).marked(id, &kind);
            assert_eq!((marks(1).kind_of(marked), marks(9).kind_of(marked)), (Some(kind.clone()), None), "{kind}");
            let later =
                RunId::new(Timestamp::from_seconds(1_795_000_001), marked.to_bytes()[8..].try_into().expect("8"));
            assert_eq!(marks(1).kind_of(later), None, "{kind}");
        }
    }
}
