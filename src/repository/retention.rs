//! The log of retention: what readers told of snapshots that are forgotten, brought back, held and released, and what follows
//! from it (`docs/format.md`, section 13).
//!
//! Nothing here deletes. Records name those before them, so that one that is hidden is missed. What somebody told without having
//! read the other counts for keeping: of two, the one that brings back or holds. What cannot be read is doubt: it is told, it stops
//! deletion, and nothing is restored or listed less because of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::crypto::digest::sha256_of;
use crate::crypto::random;
use crate::format::retention::{open_retention, seal_retention};
use crate::model::cleanup::RemovedSnapshot;
use crate::model::forgetting::{RetentionId, RetentionRecord};
use crate::model::hold::{Forgotten, Hold};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;
use crate::progress::Problem;
use crate::repository::Repository;
use crate::repository::access::{AccessError, Deleting};
use crate::repository::state::KnownRetention;
use crate::store::StoreError;

/// Records behind a complete one; the next is complete again.
const INCREMENTS_MAX: usize = 15;
/// Records fetched at the same time, if they are small; whoever can put objects decides how long they are.
const FETCHES: usize = 16;
/// How long a small record is at most.
const SMALL_BYTES: u64 = 1 << 20;
/// How long records that a complete one tells again stay, for those who listed them before it was there.
const STAY_SECONDS: i64 = 24 * 3600;

/// A record that was opened.
#[derive(Debug, Clone)]
struct RecordAsTold {
    id: RetentionId,
    /// SHA-256 of its object.
    digest: [u8; 32],
    record: RetentionRecord,
}

/// What a record says of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Statement {
    Forgotten(RemovedSnapshot, Forgotten),
    BroughtBack,
    Held(Hold),
    Released,
}

impl Statement {
    /// Tells whether it is about holding, and not about forgetting: one says nothing about the other.
    fn is_about_holding(&self) -> bool {
        matches!(self, Statement::Held(_) | Statement::Released)
    }
}

/// What a statement is about: a snapshot, and whether it is about holding it.
type StatementSubject = (SnapshotId, bool);
/// What was said last of each subject: by which record, as which of its statements.
type LastSaid = BTreeMap<StatementSubject, BTreeSet<(usize, usize)>>;

/// All records, as of when they were read.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// In order of their names.
    told: Vec<RecordAsTold>,
    forgotten: BTreeMap<SnapshotId, (RemovedSnapshot, Forgotten)>,
    held: BTreeMap<SnapshotId, Hold>,
    /// What was brought back, and by nobody forgotten who knew of that.
    brought_back: BTreeSet<SnapshotId>,
    /// SHA-256 of the records that no other names.
    heads: Vec<[u8; 32]>,
    /// The latest name that there is, of records that cannot be opened as well.
    latest: Option<RetentionId>,
    doubts: Vec<(ObjectKey, String)>,
}

/// What is to be told.
#[derive(Debug, Clone, Default)]
pub struct RetentionChange {
    /// Snapshots that are forgotten from now on, each as one object, with the reason.
    pub forget: Vec<(RemovedSnapshot, String)>,
    /// Snapshots that are not forgotten any more.
    pub bring_back: Vec<SnapshotId>,
    /// Snapshots that are held from now on.
    pub hold: Vec<(SnapshotId, Hold)>,
    /// Snapshots that are not held any more.
    pub release: Vec<SnapshotId>,
    /// Whether what cannot be read of earlier records is given up.
    pub give_up: bool,
}

/// Who tells, and when.
#[derive(Debug, Clone)]
pub struct ToldBy {
    /// When.
    pub now: Timestamp,
    /// The host.
    pub host: String,
    /// Version of the program.
    pub program: &'static str,
}

/// Why nothing could be told.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// This key may not.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The store failed.
    #[error("the records of retention could not be {0}")]
    Store(&'static str, #[source] StoreError),
    /// One record cannot tell of so many snapshots.
    #[error("{0} snapshots are too many for one record of retention")]
    TooMany(usize),
}

impl Ended for RetentionError {
    fn outcome(&self) -> Outcome {
        match self {
            RetentionError::Access(error) => error.outcome(),
            RetentionError::Store(_, error) => error.outcome(),
            RetentionError::TooMany(_) => Outcome::Refused,
        }
    }
}

impl Retention {
    /// Puts together what records say; `unopened` could not be opened, with the reason, and `known` is the newest that this machine
    /// saw before.
    fn of(mut told: Vec<RecordAsTold>, unopened: Vec<(RetentionId, String)>, known: Option<KnownRetention>) -> Self {
        told.sort_by_key(|told| told.id);
        let latest = told.iter().map(|told| told.id).chain(unopened.iter().map(|(id, _)| *id)).max();
        let mut retention = Self { latest, ..Self::default() };
        let given_up: HashSet<RetentionId> =
            told.iter().flat_map(|told| told.record.given_up.iter().copied()).collect();
        let unopened: Vec<_> = unopened.into_iter().filter(|(id, _)| !given_up.contains(id)).collect();
        let unopened_ids: Vec<RetentionId> = unopened.iter().map(|(id, _)| *id).collect();
        retention.doubts.extend(unopened.into_iter().map(|(id, why)| (ObjectKey::retention(id), why)));
        let behind = |id: RetentionId| told.iter().any(|told| told.record.is_complete && told.id > id);
        if let Some(known) = known.filter(|known| told.iter().all(|told| told.digest != known.digest))
            && !behind(known.id)
            && !given_up.contains(&known.id)
            && retention.doubts.iter().all(|(key, _)| *key != ObjectKey::retention(known.id))
        {
            let why = "it is not in the store, and this machine saw it".to_owned();
            retention.doubts.push((ObjectKey::retention(known.id), why));
        }
        retention.put_together(&told, &unopened_ids);
        retention.told = told;
        retention
    }

    /// Goes through the records in order of their names, each with what those say that it names, and leaves what none that knew of it
    /// said anew.
    fn put_together(&mut self, told: &[RecordAsTold], unopened: &[RetentionId]) {
        let at: HashMap<[u8; 32], usize> = told.iter().enumerate().map(|(at, told)| (told.digest, at)).collect();
        // What was said by each record, or by one that it knows of, and by none between: until the last that names it took it over.
        let mut said: Vec<LastSaid> = Vec::new();
        let mut namers: HashMap<[u8; 32], usize> = HashMap::new();
        told.iter().flat_map(|told| &told.record.before).for_each(|digest| *namers.entry(*digest).or_default() += 1);
        let mut statements: Vec<Vec<(SnapshotId, Statement)>> = Vec::new();
        let mut later: HashSet<(usize, usize)> = HashSet::new();
        let mut missing: BTreeMap<usize, usize> = BTreeMap::new();
        for (this, RecordAsTold { record, .. }) in told.iter().enumerate() {
            let mut known = LastSaid::new();
            for digest in &record.before {
                let namers = namers.get_mut(digest).expect("this is one");
                *namers -= 1;
                match at.get(digest).filter(|before| **before < this) {
                    Some(&before) if *namers == 0 => join(&mut known, std::mem::take(&mut said[before])),
                    Some(&before) => join(&mut known, said[before].clone()),
                    None => *missing.entry(this).or_default() += 1,
                }
            }
            let own = statements_of(record);
            if record.is_complete {
                later.extend(std::mem::take(&mut known).into_values().flatten());
                // What it knew of and could not have, it had to do without.
                missing.remove(&this);
                let told_again = ancestors(told, &at, this);
                missing.retain(|it, _| !told_again.contains(it));
            }
            for (nth, (id, statement)) in own.iter().enumerate() {
                let subject = (*id, statement.is_about_holding());
                later.extend(known.insert(subject, [(this, nth)].into()).into_iter().flatten());
            }
            statements.push(own);
            said.push(known);
        }
        for (this, count) in missing {
            // One that cannot be opened and may be it is told already.
            if unopened.iter().any(|id| *id < told[this].id) {
                continue;
            }
            let what = if count == 1 { "a record" } else { "records" };
            let why = format!("{what} of retention that {} names is not in the store", told[this].id.object_name());
            self.doubts.push((ObjectKey::from_listed(ObjectKind::Retention.prefix()), why));
        }
        let mut standing: BTreeMap<StatementSubject, Vec<Statement>> = BTreeMap::new();
        for (this, own) in statements.into_iter().enumerate() {
            for (nth, (id, statement)) in own.into_iter().enumerate() {
                if !later.contains(&(this, nth)) {
                    standing.entry((id, statement.is_about_holding())).or_default().push(statement);
                }
            }
        }
        for ((id, _), statements) in standing {
            self.settle(id, statements);
        }
        self.heads = told.iter().map(|told| told.digest).filter(|digest| !namers.contains_key(digest)).collect();
    }

    /// Takes what was said of a snapshot last, by several who did not know of each other if there are several.
    fn settle(&mut self, id: SnapshotId, statements: Vec<Statement>) {
        let all_forget = statements.iter().all(|statement| matches!(statement, Statement::Forgotten(..)));
        for statement in statements {
            match statement {
                Statement::Forgotten(removed, forgotten) if all_forget => {
                    // The later one, because that leaves more time to bring it back.
                    let known = self.forgotten.entry(id).or_insert_with(|| (removed, forgotten.clone()));
                    if forgotten.when > known.1.when {
                        *known = (removed, forgotten);
                    }
                }
                Statement::Held(hold) => {
                    let known = self.held.entry(id).or_insert_with(|| hold.clone());
                    if hold.end() > known.end() {
                        *known = hold;
                    }
                }
                Statement::BroughtBack => {
                    self.brought_back.insert(id);
                }
                Statement::Forgotten(..) | Statement::Released => {}
            }
        }
    }

    /// Tells whether a snapshot, with the SHA-256 of its object, is forgotten.
    pub fn forgotten(&self, id: SnapshotId, digest: [u8; 32]) -> Option<&Forgotten> {
        let (removed, forgotten) = self.forgotten.get(&id)?;
        (removed.digest == digest).then_some(forgotten)
    }

    /// Tells whether an object under the name of a snapshot is forgotten.
    pub fn names(&self, id: SnapshotId) -> bool {
        self.forgotten.contains_key(&id)
    }

    /// Returns all that are forgotten, in order of their names, each as the object that it was.
    pub fn all_forgotten(&self) -> impl Iterator<Item = &(RemovedSnapshot, Forgotten)> {
        self.forgotten.values()
    }

    /// Tells whether a snapshot is held, or was until some time.
    pub fn hold(&self, id: SnapshotId) -> Option<&Hold> {
        self.held.get(&id)
    }

    /// Returns all that are held, or were until some time, in order of their names.
    pub fn holds(&self) -> impl Iterator<Item = (SnapshotId, &Hold)> {
        self.held.iter().map(|(id, hold)| (*id, hold))
    }

    /// Returns what cannot be read, and the records that are named and not there, with what is the matter.
    pub fn doubts(&self) -> &[(ObjectKey, String)] {
        &self.doubts
    }

    /// Says what follows from doubts.
    pub fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        self.doubts.iter().map(|(key, why)| {
            let message =
                format!("{why}; so it may be that others are forgotten or held, and nothing is removed meanwhile");
            Problem::damaged(key.to_string(), message)
        })
    }

    /// Returns the records that a complete one tells again, and that nobody needs to know what is missing.
    fn told_again(&self, now: Timestamp) -> Vec<RetentionId> {
        let at: HashMap<[u8; 32], usize> = self.told.iter().enumerate().map(|(at, it)| (it.digest, at)).collect();
        let is_old = |it: &RecordAsTold| now.seconds.saturating_sub(it.record.made.seconds) >= STAY_SECONDS;
        let complete =
            (0..self.told.len()).filter(|this| self.told[*this].record.is_complete && is_old(&self.told[*this]));
        let mut again: BTreeSet<usize> = complete.flat_map(|this| ancestors(&self.told, &at, this)).collect();
        // Whoever names one that is gone must be complete, or go as well; and what stays must be led to as before.
        loop {
            let before = again.len();
            for (this, RecordAsTold { record, .. }) in self.told.iter().enumerate().rev() {
                let named = || record.before.iter().filter_map(|digest| at.get(digest));
                if !named().all(|before| again.contains(before)) {
                    again.remove(&this);
                }
                if !record.is_complete && !again.contains(&this) {
                    named().for_each(|before| {
                        again.remove(before);
                    });
                }
            }
            if again.len() == before {
                break;
            }
        }
        again.into_iter().map(|this| self.told[this].id).collect()
    }

    /// Makes the next record.
    fn next(&self, change: RetentionChange, told_by: &ToldBy) -> (RetentionId, RetentionRecord) {
        let made = Timestamp::from_seconds(told_by.now.seconds);
        let id = RetentionId::behind(self.latest, made, random());
        let increments = self.told.iter().rev().take_while(|told| !told.record.is_complete).count();
        let is_complete = change.give_up || (increments >= INCREMENTS_MAX && self.doubts.is_empty());
        let forget = change.forget.into_iter().map(|(it, reason)| (it, Forgotten { when: made, reason }));
        let mut record = RetentionRecord {
            made,
            host: told_by.host.clone(),
            program: told_by.program.to_owned(),
            before: self.heads.clone(),
            is_complete,
            forgotten: forget.collect(),
            brought_back: change.bring_back,
            held: change.hold,
            released: change.release,
            given_up: Vec::new(),
        };
        if is_complete {
            let (brought_back, released) =
                (std::mem::take(&mut record.brought_back), std::mem::take(&mut record.released));
            let is_new = |id: &SnapshotId| record.forgotten.iter().all(|(it, _)| it.id != *id);
            let still: Vec<_> =
                self.forgotten.iter().filter(|(id, _)| is_new(id) && !brought_back.contains(id)).collect();
            record.forgotten.extend(still.into_iter().map(|(_, it)| it.clone()));
            let is_new = |id: &SnapshotId| record.held.iter().all(|(it, _)| it != id);
            let still: Vec<_> = self.held.iter().filter(|(id, _)| is_new(id) && !released.contains(id)).collect();
            record.held.extend(still.into_iter().map(|(id, hold)| (*id, hold.clone())));
            // What a hold or a record said that this one takes the place of, as well. Somebody who knows of neither may forget all of these, or
            // say again that they are forgotten: of two who read the same, both are complete, and one may have read long before it tells.
            let is_forgotten = |id: &SnapshotId| record.forgotten.iter().any(|(it, _)| it.id == *id);
            let held = record.held.iter().map(|(id, _)| *id);
            let still = held.chain(self.brought_back.iter().copied()).filter(|id| !is_forgotten(id));
            record.brought_back = brought_back.into_iter().chain(still).collect::<BTreeSet<_>>().into_iter().collect();
        }
        if change.give_up {
            let given_up = self.told.iter().flat_map(|told| told.record.given_up.iter().copied());
            let doubtful = self.doubts.iter().filter_map(|(key, _)| key.retention_id());
            record.given_up = given_up.chain(doubtful).collect::<BTreeSet<_>>().into_iter().collect();
        }
        (id, record)
    }
}

/// Returns the records that one leads to.
fn ancestors(told: &[RecordAsTold], at: &HashMap<[u8; 32], usize>, this: usize) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), vec![this]);
    while let Some(next) = open.pop() {
        let before = told[next].record.before.iter().filter_map(|digest| at.get(digest)).filter(|it| **it < next);
        open.extend(before.copied().filter(|before| found.insert(*before)));
    }
    found
}

/// Adds what one record knew to what another did.
fn join(known: &mut LastSaid, more: LastSaid) {
    if known.is_empty() {
        *known = more;
        return;
    }
    more.into_iter().for_each(|(subject, who)| known.entry(subject).or_default().extend(who));
}

/// Returns what a record says, each once; what keeps comes last.
fn statements_of(record: &RetentionRecord) -> Vec<(SnapshotId, Statement)> {
    let forgotten = record.forgotten.iter().map(|(it, why)| (it.id, Statement::Forgotten(*it, why.clone())));
    let released = record.released.iter().map(|id| (*id, Statement::Released));
    let brought_back = record.brought_back.iter().map(|id| (*id, Statement::BroughtBack));
    let held = record.held.iter().map(|(id, hold)| (*id, Statement::Held(hold.clone())));
    forgotten.chain(released).chain(brought_back).chain(held).collect()
}

impl Repository {
    /// Reads all records of retention; a key that cannot read need not ask.
    ///
    /// # Errors
    /// When they cannot be listed, or one is out of reach.
    pub async fn retention(&self) -> Result<Arc<Retention>, StoreError> {
        let retention = Arc::new(self.read_retention(false).await?);
        *self.kept.write().await = Some(retention.clone());
        Ok(retention)
    }

    /// Returns them as they were last read.
    pub(super) async fn known_retention(&self) -> Result<Arc<Retention>, StoreError> {
        if let Some(known) = &*self.kept.read().await {
            return Ok(known.clone());
        }
        let mut kept = self.kept.write().await;
        if kept.is_none() {
            *kept = Some(Arc::new(self.read_retention(false).await?));
        }
        Ok(kept.clone().expect("they were just read"))
    }

    /// Reads all records, of which any replica's listing may tell, or, where it matters most, `every` one's must.
    async fn read_retention(&self, every: bool) -> Result<Retention, StoreError> {
        if !self.keys().can_read() {
            return Ok(Retention::default());
        }
        let mut read = self.read_retention_once(every).await?;
        if !read.doubts.is_empty() {
            // Somebody may have removed what a complete record tells again, after it was listed.
            read = self.read_retention_once(every).await?;
        }
        if let Some(newest) = read.told.last() {
            // That it could not be remembered is told by who opened the repository.
            let _ = self.state().remember_retention(&KnownRetention { id: newest.id, digest: newest.digest });
        }
        Ok(read)
    }

    async fn read_retention_once(&self, every: bool) -> Result<Retention, StoreError> {
        let Some(reader) = self.keys().reader_key() else { return Ok(Retention::default()) };
        let listed = self.objects().retention_records(every).await?;
        let (small, large): (Vec<_>, Vec<_>) = listed.into_iter().partition(|(_, size)| *size <= SMALL_BYTES);
        let fetch = |(id, _)| async move {
            let open = |object: &bytes::Bytes| {
                open_retention(reader, self.id(), id, object).map(|record| (sha256_of(object), record))
            };
            match self.objects().retention(id, open).await {
                Ok(Ok((digest, record))) => Ok((id, Ok(RecordAsTold { id, digest, record }))),
                Ok(Err(error)) => Ok((id, Err(error.to_string()))),
                Err(error) if error.kind.is_damage() => Ok((id, Err(error.clause()))),
                Err(error) => Err(error),
            }
        };
        let mut read: Vec<_> = stream::iter(small).map(fetch).buffered(FETCHES).try_collect().await?;
        for record in large {
            read.push(fetch(record).await?);
        }
        let (mut told, mut unopened) = (Vec::new(), Vec::new());
        for (id, opened) in read {
            match opened {
                Ok(record) => told.push(record),
                Err(why) => unopened.push((id, why)),
            }
        }
        Ok(Retention::of(told, unopened, self.state().known_retention()))
    }
}

impl Deleting {
    /// Reads all records, with those that any replica alone has; each must answer.
    ///
    /// # Errors
    /// When they cannot be listed, or one is out of reach.
    pub async fn retention(&self) -> Result<Arc<Retention>, RetentionError> {
        let read = self.repository().read_retention(true).await;
        let retention = Arc::new(read.map_err(|error| RetentionError::Store("read", error))?);
        *self.repository().kept.write().await = Some(retention.clone());
        Ok(retention)
    }

    /// Puts a record behind those that were `read`; durable on return. Returns what follows from all.
    ///
    /// Whoever brings a snapshot back **must** read lists of cleaning up afterwards, and whoever removes snapshots must read records
    /// after the list that names them is durable: so at least one of the two sees the other.
    ///
    /// # Errors
    /// [`RetentionError`].
    pub async fn tell_retention(
        &self,
        read: &Retention,
        change: RetentionChange,
        told_by: &ToldBy,
    ) -> Result<Arc<Retention>, RetentionError> {
        let repository = self.repository();
        let reader = repository.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let (id, record) = read.next(change, told_by);
        let object = seal_retention(reader, repository.id(), id, &record);
        if object.len() as u64 > ObjectKind::Retention.bytes_max() {
            return Err(RetentionError::TooMany(record.forgotten.len() + record.held.len()));
        }
        let put = repository.objects().put_retention(id, object).await;
        put.map_err(|error| RetentionError::Store("written", error))?;
        self.retention().await
    }

    /// Removes records that a complete one tells again. It may be done at any time, and beside everything.
    ///
    /// # Errors
    /// [`RetentionError::Store`]; some may be removed by then, which harms nothing.
    pub async fn remove_old_retention(&self, read: &Retention, now: Timestamp) -> Result<usize, RetentionError> {
        let again = read.told_again(now);
        for id in &again {
            let removed = self.repository().objects().remove_retention(*id).await;
            removed.map_err(|error| RetentionError::Store("removed", error))?;
        }
        Ok(again.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn id(byte: u8) -> SnapshotId {
        SnapshotId::new(at(1), [byte; 8])
    }

    fn removed(byte: u8) -> RemovedSnapshot {
        RemovedSnapshot { id: id(byte), digest: [byte; 32], before: None }
    }

    fn hold(until: Option<i64>) -> Hold {
        Hold { when: at(0), reason: String::new(), until: until.map(at) }
    }

    /// The record number `number`, whose object has that as its digest, behind those of the digests `before`.
    fn told(number: u8, before: &[u8], record: RetentionRecord) -> RecordAsTold {
        let before = before.iter().map(|before| [*before; 32]).collect();
        let name = RetentionId::new(at(number.into()), [number; 8]);
        RecordAsTold {
            id: name,
            digest: [number; 32],
            record: RetentionRecord { made: at(number.into()), before, ..record },
        }
    }

    fn forgets(ids: &[u8]) -> RetentionRecord {
        let forgotten = ids.iter().map(|byte| (removed(*byte), Forgotten { when: at(9), reason: String::new() }));
        RetentionRecord { forgotten: forgotten.collect(), ..RetentionRecord::default() }
    }

    fn brings_back(ids: &[u8]) -> RetentionRecord {
        RetentionRecord { brought_back: ids.iter().map(|byte| id(*byte)).collect(), ..RetentionRecord::default() }
    }

    fn holds(ids: &[u8], until: Option<i64>) -> RetentionRecord {
        RetentionRecord { held: ids.iter().map(|it| (id(*it), hold(until))).collect(), ..RetentionRecord::default() }
    }

    fn releases(ids: &[u8]) -> RetentionRecord {
        RetentionRecord { released: ids.iter().map(|byte| id(*byte)).collect(), ..RetentionRecord::default() }
    }

    fn complete(record: RetentionRecord) -> RetentionRecord {
        RetentionRecord { is_complete: true, ..record }
    }

    /// What is forgotten, what is held, and how many doubts there are, in whatever order records come.
    fn follows(told: &[RecordAsTold]) -> (Vec<u8>, Vec<u8>, usize) {
        let read = Retention::of(told.to_vec(), Vec::new(), None);
        let reversed = Retention::of(told.iter().rev().cloned().collect(), Vec::new(), None);
        let byte = |id: SnapshotId| id.to_bytes()[15];
        let of = |read: &Retention| -> (Vec<u8>, Vec<u8>, usize) {
            let forgotten = read.all_forgotten().map(|(it, _)| byte(it.id)).collect();
            (forgotten, read.holds().map(|(id, _)| byte(id)).collect(), read.doubts().len())
        };
        assert_eq!(of(&read), of(&reversed));
        of(&read)
    }

    #[test]
    fn what_was_said_last_of_a_snapshot_counts() {
        let mut log = vec![told(1, &[], forgets(&[1, 2, 3])), told(2, &[1], holds(&[4, 5], None))];
        assert_eq!(follows(&log), (vec![1, 2, 3], vec![4, 5], 0));
        log.extend([told(3, &[2], brings_back(&[2])), told(4, &[3], releases(&[5]))]);
        assert_eq!(follows(&log), (vec![1, 3], vec![4], 0));
        log.push(told(5, &[4], forgets(&[2])));
        assert_eq!(follows(&log), (vec![1, 2, 3], vec![4], 0));
        // Within one record, what keeps counts.
        log.push(told(
            6,
            &[5],
            RetentionRecord { released: vec![id(7)], held: holds(&[7], None).held, ..brings_back(&[1]) },
        ));
        assert_eq!(follows(&log), (vec![2, 3], vec![4, 7], 0));
    }

    #[test]
    fn of_two_who_did_not_know_of_each_other_the_one_that_keeps_counts() {
        let first = told(1, &[], RetentionRecord { held: holds(&[3, 4], None).held, ..forgets(&[1, 2]) });
        for (two, three) in [(2, 3), (3, 2)] {
            let log = [
                first.clone(),
                told(two, &[1], RetentionRecord { released: vec![id(3)], ..brings_back(&[1]) }),
                told(three, &[1], RetentionRecord { held: holds(&[3], Some(9)).held, ..forgets(&[1, 2]) }),
            ];
            assert_eq!(follows(&log), (vec![2], vec![3, 4], 0));
            // Whoever knows of both says what is so.
            let both = [two.min(three), two.max(three)];
            let settled =
                [&log[..], &[told(4, &both, RetentionRecord { released: vec![id(3)], ..forgets(&[1]) })]].concat();
            assert_eq!(follows(&settled), (vec![1, 2], vec![4], 0));
        }
        // The hold that lasts longer.
        let log =
            [told(1, &[], holds(&[1], Some(5))), told(2, &[], holds(&[1], Some(8))), told(3, &[], holds(&[1], None))];
        for (until, so_many) in [(Some(5), 1), (Some(8), 2), (None, 3)] {
            let read = Retention::of(log[..so_many].to_vec(), Vec::new(), None);
            assert_eq!(read.hold(id(1)), Some(&hold(until)));
        }
    }

    #[test]
    fn what_a_complete_record_holds_stays_although_somebody_forgets_it_at_the_same_time() {
        let first = told(1, &[], RetentionRecord { held: holds(&[5, 6], None).held, ..forgets(&[6]) });
        let read = Retention::of(vec![first.clone()], Vec::new(), None);
        let change = RetentionChange {
            hold: vec![(id(1), hold(None))],
            bring_back: vec![id(1)],
            give_up: true,
            ..RetentionChange::default()
        };
        let told_by = ToldBy { now: at(4), host: String::new(), program: "" };
        let (name, record) = read.next(change, &told_by);
        assert_eq!((record.is_complete, &record.brought_back), (true, &vec![id(1), id(5)]));
        let complete = RecordAsTold { id: name, digest: [2; 32], record };
        let log = [first, complete, told(3, &[1], forgets(&[1, 5]))];
        assert_eq!(follows(&log), (vec![6], vec![1, 5, 6], 0), "one that is forgotten and held is so as before");
    }

    #[test]
    fn what_a_complete_record_brings_back_stays_although_another_one_says_again_that_it_is_forgotten() {
        let mut log = vec![told(1, &[], forgets(&[1, 2]))];
        (2..=15).for_each(|number| log.push(told(number, &[number - 1], forgets(&[]))));
        let read = Retention::of(log.clone(), Vec::new(), None);
        let told_by = ToldBy { now: at(4), host: String::new(), program: "" };
        let next = |digest: u8, change: RetentionChange| {
            let (name, record) = read.next(change, &told_by);
            RecordAsTold { id: name, digest: [digest; 32], record }
        };
        let forget = vec![(removed(3), String::new())];
        let forgets = next(100, RetentionChange { forget, ..RetentionChange::default() });
        let brings_back = next(101, RetentionChange { bring_back: vec![id(1)], ..RetentionChange::default() });
        assert!(forgets.record.is_complete && brings_back.record.is_complete, "both come behind fifteen");
        assert_eq!((forgets.record.forgotten.len(), &brings_back.record.brought_back), (3, &vec![id(1)]));
        log.extend([forgets, brings_back]);
        assert_eq!(follows(&log), (vec![2, 3], vec![], 0));
    }

    /// As where somebody is asked for a confirmation, and answers much later.
    #[test]
    fn what_was_brought_back_stays_although_somebody_tells_who_read_sixteen_records_before() {
        let mut log = vec![told(1, &[], forgets(&[1, 2]))];
        (2..=16).for_each(|number| log.push(told(number, &[number - 1], forgets(&[]))));
        let told_by = ToldBy { now: at(20), host: String::new(), program: "" };
        let put = |log: &mut Vec<RecordAsTold>, read: &Retention, change: RetentionChange| {
            let (id, record) = read.next(change, &told_by);
            log.push(RecordAsTold { id, digest: [log.len() as u8 + 1; 32], record });
        };
        let forgetting =
            |byte| RetentionChange { forget: vec![(removed(byte), String::new())], ..RetentionChange::default() };
        let long_ago = Retention::of(log.clone(), Vec::new(), None);
        put(&mut log, &long_ago, RetentionChange { bring_back: vec![id(1)], ..RetentionChange::default() });
        for _ in 0..16 {
            let read = Retention::of(log.clone(), Vec::new(), None);
            put(&mut log, &read, RetentionChange::default());
        }
        let newest = &log.last().expect("some").record;
        assert!(newest.is_complete && newest.brought_back == [id(1)], "{newest:?}");
        put(&mut log, &long_ago, forgetting(3));
        assert_eq!(follows(&log), (vec![2, 3], vec![], 0));
        // Whoever knows of it may forget it.
        let read = Retention::of(log.clone(), Vec::new(), None);
        put(&mut log, &read, forgetting(1));
        assert_eq!(follows(&log), (vec![1, 2, 3], vec![], 0));
    }

    #[test]
    fn a_complete_record_tells_all_again_that_it_knew_of() {
        let log = [
            told(1, &[], RetentionRecord { held: holds(&[8], None).held, ..forgets(&[1, 2]) }),
            told(2, &[1], forgets(&[3])),
            told(3, &[1], forgets(&[4])),
            // It did not know of the third.
            told(4, &[2], complete(forgets(&[2]))),
        ];
        assert_eq!(follows(&log), (vec![2, 4], vec![], 0));
        // What is before it may be gone; not what somebody names who is not complete.
        assert_eq!(follows(&log[1..]), (vec![2, 4], vec![], 1));
        assert_eq!(follows(&log[3..]), (vec![2], vec![], 0));
    }

    #[test]
    fn a_record_that_is_hidden_is_missed() {
        let log = [told(1, &[], forgets(&[1])), told(2, &[1], brings_back(&[1])), told(3, &[2], forgets(&[2]))];
        assert_eq!(follows(&log), (vec![2], vec![], 0));
        let doubts = |log: &[RecordAsTold], unopened: &[RetentionId], known: Option<u8>| {
            let known = known.map(|it| KnownRetention { id: log_name(it), digest: [it; 32] });
            let unopened = unopened.iter().map(|id| (*id, "why".to_owned())).collect();
            Retention::of(log.to_vec(), unopened, known).doubts().to_vec()
        };
        fn log_name(number: u8) -> RetentionId {
            RetentionId::new(at(number.into()), [number; 8])
        }
        let without = [log[0].clone(), log[2].clone()];
        assert_eq!(doubts(&without, &[], None).len(), 1, "the third names it");
        assert_eq!(doubts(&log[..2], &[], None), [], "nobody names the newest");
        let why = "it is not in the store, and this machine saw it".to_owned();
        assert_eq!(doubts(&log[..2], &[], Some(3)), [(ObjectKey::retention(log_name(3)), why)]);
        assert_eq!(doubts(&log, &[], Some(3)), []);
        // One that does not open is told once.
        assert_eq!(doubts(&log[..2], &[log_name(3)], Some(3)), [(ObjectKey::retention(log_name(3)), "why".to_owned())]);
        // Once a complete one is there, what was before it may be gone.
        let later = [log[0].clone(), told(9, &[3], complete(forgets(&[1])))];
        assert_eq!(doubts(&later, &[], Some(3)), []);
        let given_up = RetentionRecord { given_up: vec![log_name(3)], ..complete(forgets(&[1])) };
        assert_eq!(doubts(&[told(2, &[1], given_up)], &[log_name(3)], Some(3)), []);
    }

    #[test]
    fn a_log_is_told_again_in_one_record_now_and_then_and_what_was_before_may_go() {
        let told_by = |now| ToldBy { now: at(now), host: "h".into(), program: "p" };
        let mut log: Vec<RecordAsTold> = Vec::new();
        let mut completes = 0;
        for number in 1..=40u8 {
            let read = Retention::of(log.clone(), Vec::new(), None);
            let change = RetentionChange {
                forget: vec![(removed(number), String::new())],
                hold: vec![(id(100 + number), hold(None))],
                bring_back: if number > 2 { vec![id(number - 2)] } else { Vec::new() },
                ..RetentionChange::default()
            };
            // Clocks may stand.
            let (name, record) = read.next(change, &told_by(100));
            assert!(log.iter().all(|told| told.id < name));
            completes += usize::from(record.is_complete);
            log.push(RecordAsTold { id: name, digest: [number; 32], record });
        }
        assert_eq!(completes, 2);
        let whole = follows(&log);
        assert_eq!((whole.0, whole.1.len(), whole.2), (vec![39, 40], 40, 0));
        let read = Retention::of(log.clone(), Vec::new(), None);
        assert_eq!(read.told_again(at(100)), [], "somebody may have listed them");
        let again = read.told_again(at(100 + STAY_SECONDS));
        assert_eq!(again.len(), 31);
        log.retain(|told| !again.contains(&told.id));
        assert_eq!(follows(&log), follows(&read.told));
        // What one that is not complete names, stays.
        let beside = [read.told.clone(), vec![told(200, &[30], forgets(&[]))]].concat();
        let beside = Retention::of(beside, Vec::new(), None);
        let again = beside.told_again(at(100 + STAY_SECONDS));
        assert_eq!(again, read.told[..15].iter().map(|told| told.id).collect::<Vec<_>>());
        let left: Vec<_> = beside.told.iter().filter(|told| !again.contains(&told.id)).cloned().collect();
        assert_eq!(follows(&left), follows(&beside.told));
    }

    #[test]
    fn what_cannot_be_read_is_given_up_by_a_complete_record() {
        // One is missing, and another one, which came later, is damaged.
        let log = vec![told(1, &[], forgets(&[1])), told(3, &[2], holds(&[2], None))];
        let damaged = RetentionId::new(at(7), [7; 8]);
        let unopened = vec![(damaged, "why".to_owned())];
        let read = Retention::of(log.clone(), unopened.clone(), None);
        assert_eq!(read.doubts().len(), 2);
        let change = RetentionChange { give_up: true, ..RetentionChange::default() };
        let told_by = ToldBy { now: at(4), host: String::new(), program: "" };
        let (name, record) = read.next(change, &told_by);
        assert_eq!((name.time(), record.is_complete, &record.given_up), (at(8), true, &vec![damaged]));
        let mut log = log;
        log.push(RecordAsTold { id: name, digest: [4; 32], record });
        let read = Retention::of(log, unopened, None);
        assert_eq!((read.doubts(), read.all_forgotten().count(), read.holds().count()), (&[][..], 1, 1));
    }
}
