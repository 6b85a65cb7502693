//! The ledger of verifications: which packs of a replica were read whole, and when, kept in the replica itself, so that it
//! outlives every cache and any host goes on where another ended.
//!
//! Each run puts one small record and never changes one: putting, getting and listing are all the rights that it takes. A
//! record has what its run read; one in sixteen is complete, so whoever looks back needs the newest few. What could not be put
//! is kept in the cache and goes into the next record.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::crypto::derive::ReaderKey;
use crate::crypto::random;
use crate::format::verified::{open_verified, seal_verified};
use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::model::time::Timestamp;
use crate::model::verified::{Verified, VerifiedId};
use crate::repository::Repository;
use crate::store::StoreError;

/// Records after a complete one; the next is complete again.
pub(super) const INCREMENTS_MAX: usize = 15;
/// Records fetched at the same time.
const FETCHES: usize = 16;
/// Records looked at, at most: some more than a sixteenth, in case one is damaged or several hosts wrote at once.
const LOOKED_AT: usize = 64;

/// What is known of earlier verifications.
#[derive(Debug, Default)]
pub struct Ledger {
    read: HashMap<PackId, i64>,
    cursor: Option<PackId>,
    newest: Option<VerifiedId>,
    increments: usize,
    has_complete: bool,
    is_kept_locally: bool,
    damaged: Vec<ObjectKey>,
}

impl Ledger {
    /// Returns the pack behind which reading in parts goes on.
    pub fn cursor(&self) -> Option<PackId> {
        self.cursor
    }

    /// Returns when a pack was last read whole, to the second.
    pub fn last_read(&self, pack: PackId) -> Option<Timestamp> {
        self.read.get(&pack).copied().map(Timestamp::from_seconds)
    }

    /// Returns the records that cannot be opened; what they alone knew counts as never read.
    pub fn damaged(&self) -> &[ObjectKey] {
        &self.damaged
    }

    /// Takes over what a record tells.
    fn take(&mut self, record: &Verified) {
        for (when, packs) in &record.read {
            for pack in packs {
                let known = self.read.entry(*pack).or_insert(when.seconds);
                *known = (*known).max(when.seconds);
            }
        }
    }

    /// Makes the record of a run; a complete one forgets packs that are not among `packs`.
    fn record(&self, run: &ReadingRecord, packs: &[PackId], is_complete: bool) -> Verified {
        let read = if is_complete {
            let mut by_time: BTreeMap<i64, Vec<PackId>> = BTreeMap::new();
            for pack in packs {
                if let Some(when) = self.read.get(pack) {
                    by_time.entry(*when).or_default().push(*pack);
                }
            }
            by_time.into_iter().map(|(when, packs)| (Timestamp::from_seconds(when), packs)).collect()
        } else {
            vec![(Timestamp::from_seconds(run.finished.seconds), run.packs.clone())]
        };
        let (host, program) = (run.host.clone(), run.program.to_owned());
        Verified { finished: run.finished, host, program, cursor: self.cursor, is_complete, read }
    }
}

/// What a verification read.
#[derive(Debug, Clone, Default)]
pub struct ReadingRecord {
    /// The packs that were read and are whole.
    pub packs: Vec<PackId>,
    /// The pack behind which the next part begins, when a part was read.
    pub cursor: Option<PackId>,
    /// When the reading ended.
    pub finished: Timestamp,
    /// Host that read.
    pub host: String,
    /// Version of the program.
    pub program: &'static str,
}

impl Repository {
    /// Reads the ledger of a repository that is open over one replica: the newest records back to a complete one, and what is kept in the cache.
    ///
    /// # Errors
    /// When the store cannot be read. Without a reader key there is nothing to read.
    pub async fn ledger(&self) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::default();
        let Some(reader) = self.keys().reader_key() else { return Ok(ledger) };
        let ids = self.objects().verified_records().await?;
        ledger.newest = ids.last().copied();
        let mut records = stream::iter(ids.into_iter().rev().take(LOOKED_AT))
            .map(|id| async move {
                let open = |object: &bytes::Bytes| open_verified(reader, self.id(), id, object);
                match self.objects().verified(id, open).await {
                    Ok(record) => Ok((id, record.ok())),
                    Err(error) if error.kind.is_damage() => Ok((id, None)),
                    Err(error) => Err(error),
                }
            })
            .buffered(FETCHES);
        while let Some((id, record)) = records.try_next().await? {
            let Some(record) = record else {
                ledger.damaged.push(ObjectKey::verified(id));
                continue;
            };
            ledger.cursor = ledger.cursor.or(record.cursor);
            ledger.take(&record);
            if record.is_complete {
                ledger.has_complete = true;
                break;
            }
            ledger.increments += 1;
        }
        if let Some((id, record)) = self.local_record(reader) {
            ledger.take(&record);
            ledger.is_kept_locally = true;
            if ledger.newest.is_none_or(|newest| newest < id) {
                ledger.cursor = record.cursor.or(ledger.cursor);
            }
        }
        Ok(ledger)
    }

    /// Notes what a run read, in the repository if it may be written, else in the cache. `packs` are all that there are.
    ///
    /// # Errors
    /// Why the repository does not have it; the cache has.
    pub async fn note_reading(
        &self,
        ledger: &mut Ledger,
        run: &ReadingRecord,
        packs: &[PackId],
    ) -> Result<(), StoreError> {
        let Some(reader) = self.keys().reader_key() else { return Ok(()) };
        ledger.read.extend(run.packs.iter().map(|pack| (*pack, run.finished.seconds)));
        ledger.cursor = run.cursor.or(ledger.cursor);
        let id = VerifiedId::behind(ledger.newest, run.finished, random());
        let is_complete = !ledger.has_complete || ledger.is_kept_locally || ledger.increments >= INCREMENTS_MAX;
        let object = seal_verified(reader, self.id(), id, &ledger.record(run, packs, is_complete));
        match self.objects().put_verified(id, object).await {
            Ok(()) => {
                self.cache().forget_verified(self.first_replica());
                Ok(())
            }
            Err(error) => {
                let object = seal_verified(reader, self.id(), id, &ledger.record(run, packs, true));
                self.cache().keep_verified(self.first_replica(), &id.object_name(), &object);
                Err(error)
            }
        }
    }

    /// Opens the record that the cache keeps because it could not be put.
    fn local_record(&self, reader: &ReaderKey) -> Option<(VerifiedId, Verified)> {
        let (name, object) = self.cache().kept_verified(self.first_replica())?;
        let id = VerifiedId::from_object_name(&name)?;
        Some((id, open_verified(reader, self.id(), id, &object).ok()?))
    }
}
