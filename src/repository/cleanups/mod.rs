//! What cleaning up has told: the lists of `cleanup/`, and what follows from them for writers and readers
//! (`docs/format.md`, sections 13 to 15).
//!
//! Nothing here deletes. A writer asks which packs it must not rely on and whether its own session was given up; a reader,
//! which snapshots there are; whoever will delete, which of them need not be walked through again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::crypto::digest::sha256_of;
use crate::crypto::random;
use crate::format::FormatError;
use crate::format::cleanup::decode_cleanup;
use crate::format::object::CLEANUP;
use crate::model::author::Author;
use crate::model::cleanup::{CleanupId, CleanupList, RemovedSnapshot};
use crate::model::id::{DomainId, PackId, SessionId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;
use crate::progress::{Monitor, Problem};
use crate::repository::keys::Keys;
use crate::repository::{OpenError, Repository};
use crate::store::{StoreError, StoreErrorKind};

pub mod compacting;

/// How long a list is honoured that nobody says is being acted upon. Who cleans up acts upon one for half as long.
pub const HONOURED_SECONDS: i64 = 30 * 24 * 3600;

/// Lists fetched at the same time.
const FETCHES: usize = 8;
/// Times that lists are listed while others are told again and removed, before one that is listed and is not there counts as lost.
const LISTINGS: usize = 4;

/// A list that was opened.
#[derive(Debug, Clone)]
struct ListAsTold {
    domain: DomainId,
    id: CleanupId,
    /// SHA-256 of its object.
    digest: [u8; 32],
    list: CleanupList,
}

impl ListAsTold {
    /// The number up to which a snapshot must have honoured lists for these deletions to leave it whole.
    fn first(&self) -> u64 {
        self.list.first.unwrap_or(self.id.counter).min(self.id.counter)
    }
}

/// What an object of a list gave.
#[derive(Debug, Clone)]
enum OpenedList {
    List(Arc<ListAsTold>),
    /// It is of an epoch that was erased, or that this writer was not let into: it dooms nothing that this key relies on.
    NotForUs,
    /// It is of an epoch that may have begun since the keyring was read.
    Ahead,
}

/// Where a list stands in the chain of its domain.
#[derive(Debug, Clone, Copy)]
struct ListLink {
    domain: DomainId,
    counter: u64,
    before: Option<[u8; 32]>,
}

/// All lists, as of when they were read.
#[derive(Debug, Clone, Default)]
pub struct Cleanups {
    /// In order of their numbers; those that a later one names as gone are not among them.
    told: Vec<Arc<ListAsTold>>,
    /// All that were opened, those named as gone among them: whoever reads the lists again opens what is new.
    opened: BTreeMap<CleanupId, OpenedList>,
    /// All that were opened, by the SHA-256 of their objects: a chain goes on over those that are named as gone.
    links: HashMap<[u8; 32], ListLink>,
    gone: HashSet<String>,
    /// Where in them each snapshot is accounted for, and the SHA-256 that its object had.
    accounted: HashMap<SnapshotId, Vec<(usize, [u8; 32])>>,
    /// Snapshots that count although their writers were thrown out: what each list says, and the SHA-256 of the object.
    counting: HashSet<(usize, SnapshotId, [u8; 32])>,
    /// The snapshots that they account for, or say count, by the SHA-256 of their objects.
    by_digest: HashMap<[u8; 32], SnapshotId>,
    /// The snapshots that were removed, by the SHA-256 of their objects.
    removed: HashMap<[u8; 32], RemovedSnapshot>,
    damaged: Vec<(ObjectKey, String)>,
    /// There is a list of an epoch that began while the repository was open, and into which this key was not let.
    is_shut_out: bool,
}

/// Lists that were read, one after the other.
#[derive(Default)]
struct ListsRead {
    told: Vec<Arc<ListAsTold>>,
    damaged: Vec<(ObjectKey, String)>,
    ahead: Vec<CleanupId>,
    /// They are listed and are not there.
    lost: Vec<CleanupId>,
    not_for_us: usize,
}

impl Repository {
    /// Lists all lists of cleaning up, and opens those that were not when this was last done: they are written once. One that cannot be
    /// opened is left out: [`Cleanups::damaged`].
    ///
    /// Where one is of an epoch that is newer than the keyring, that is read again: whoever goes on in an older epoch must keep to
    /// what is told in the newest.
    ///
    /// # Errors
    /// When they cannot be listed, or one is out of reach.
    pub async fn cleanups(&self) -> Result<Arc<Cleanups>, StoreError> {
        let before = self.lists.read().await.clone();
        let cleanups = Arc::new(self.read_cleanups(before.as_deref()).await?);
        *self.lists.write().await = Some(cleanups.clone());
        Ok(cleanups)
    }

    /// Returns the lists as they were last read, for what they say of snapshots.
    pub async fn known_cleanups(&self) -> Result<Arc<Cleanups>, StoreError> {
        if let Some(known) = &*self.lists.read().await {
            return Ok(known.clone());
        }
        let mut lists = self.lists.write().await;
        if lists.is_none() {
            *lists = Some(Arc::new(self.read_cleanups(None).await?));
        }
        Ok(lists.clone().expect("they were just read"))
    }

    /// Lists and reads. What another list tells again may go meanwhile: then there is a newer one, so they are listed once more.
    async fn read_cleanups(&self, before: Option<&Cleanups>) -> Result<Cleanups, StoreError> {
        let (mut cleanups, mut lost) = self.read_listed_cleanups(before).await?;
        for _ in 1..LISTINGS {
            if lost.is_empty() {
                return Ok(cleanups);
            }
            (cleanups, lost) = self.read_listed_cleanups(Some(&cleanups)).await?;
        }
        let why = |id: CleanupId| (ObjectKey::cleanup(id), "it is listed and cannot be found".to_owned());
        cleanups.damaged.extend(lost.into_iter().map(why));
        Ok(cleanups)
    }

    /// Does it once; returns as well those that were listed, are not there, and that no other list names as gone.
    async fn read_listed_cleanups(&self, before: Option<&Cleanups>) -> Result<(Cleanups, Vec<CleanupId>), StoreError> {
        let (mut reading, mut opened) = (ListsRead::default(), BTreeMap::new());
        let mut ids = Vec::new();
        for id in self.objects().cleanups().await? {
            match before.and_then(|before| before.opened.get(&id)) {
                Some(known) => {
                    reading.add(id, known.clone());
                    opened.insert(id, known.clone());
                }
                None => ids.push(id),
            }
        }
        opened.extend(self.read_lists(ids, self.keys(), &mut reading).await?);
        // It was so since the repository was opened.
        let mut is_shut_out = before.is_some_and(|before| before.is_shut_out);
        let ahead = std::mem::take(&mut reading.ahead);
        if !ahead.is_empty() {
            let before = reading.not_for_us;
            match self.newest_keyring().await {
                Ok(keyring) => match self.keys().with(keyring) {
                    Ok(keys) => opened.extend(self.read_lists(ahead, &keys, &mut reading).await?),
                    Err(_) => reading.ahead = ahead,
                },
                Err(OpenError::Store { source, .. }) => return Err(source),
                Err(_) => reading.ahead = ahead,
            }
            is_shut_out |= reading.not_for_us > before;
        }
        let ListsRead { told, mut damaged, ahead, mut lost, .. } = reading;
        let nobodys =
            ahead.into_iter().map(|id| (ObjectKey::cleanup(id), "it is of no epoch that there is".to_owned()));
        damaged.extend(nobodys);
        let cleanups = Cleanups::of(told);
        damaged.retain(|(key, _)| !cleanups.is_gone(key));
        lost.retain(|id| !cleanups.is_gone(&ObjectKey::cleanup(*id)));
        for writer in self.keys().writers().iter().filter(|_| self.keys().can_read()) {
            let is_missing = |named: &[u8; 32]| cleanups.with_digest(*named).is_none();
            if writer.counting.iter().any(is_missing) {
                let why = format!("the list that says which snapshots of writer {} count is not there", writer.id);
                damaged.push((ObjectKey::from_listed(ObjectKind::Cleanup.prefix()), why));
            }
        }
        Ok((Cleanups { opened, damaged, is_shut_out, ..cleanups }, lost))
    }

    /// Fetches and opens lists; returns those that need not be opened again.
    async fn read_lists(
        &self,
        ids: Vec<CleanupId>,
        keys: &Keys,
        reading: &mut ListsRead,
    ) -> Result<Vec<(CleanupId, OpenedList)>, StoreError> {
        let fetches = stream::iter(ids).map(|id| async move {
            let opened = self.objects().cleanup(id, |object| open_cleanup(keys, id, object)).await;
            let damaged = |why: String| (id, Err(why));
            match opened {
                Ok(Ok(opened)) => Ok((id, Ok(Some(opened)))),
                Ok(Err(error)) => Ok(damaged(error.to_string())),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok((id, Ok(None))),
                Err(error) if error.kind.is_damage() => Ok(damaged(error.clause())),
                Err(error) => Err(error),
            }
        });
        let read: Vec<_> = fetches.buffered(FETCHES).try_collect().await?;
        let mut settled = Vec::new();
        for (id, opened) in read {
            match opened {
                Ok(None) => reading.lost.push(id),
                Ok(Some(opened)) => {
                    reading.add(id, opened.clone());
                    settled.extend((!matches!(opened, OpenedList::Ahead)).then_some((id, opened)));
                }
                Err(why) => reading.damaged.push((ObjectKey::cleanup(id), why)),
            }
        }
        Ok(settled)
    }
}

impl ListsRead {
    fn add(&mut self, id: CleanupId, opened: OpenedList) {
        match opened {
            OpenedList::List(told) => self.told.push(told),
            OpenedList::NotForUs => self.not_for_us += 1,
            OpenedList::Ahead => self.ahead.push(id),
        }
    }
}

/// Opens a list's object.
fn open_cleanup(keys: &Keys, id: CleanupId, object: &Bytes) -> Result<OpenedList, FormatError> {
    let (at, _) = CLEANUP.split(object)?;
    if keys.is_not_for_us(at) {
        return Ok(OpenedList::NotForUs);
    }
    if keys.dedup(at).is_none() && keys.is_ahead(at) {
        return Ok(OpenedList::Ahead);
    }
    let opened = keys.open_for_writers(CLEANUP, &id.to_bytes(), object)?;
    if opened.author != Author::Reader {
        let why = format!("it is by {}, and only readers may clean up", opened.author);
        return Err(FormatError::Invalid { what: CLEANUP.what(), why });
    }
    let digest = sha256_of(object);
    let list = decode_cleanup(opened.value())?;
    Ok(OpenedList::List(Arc::new(ListAsTold { domain: at.domain, id, digest, list })))
}

impl Cleanups {
    fn of(mut told: Vec<Arc<ListAsTold>>) -> Self {
        let mut gone: HashSet<String> = told.iter().flat_map(|told| told.list.gone.iter().cloned()).collect();
        let link = |told: &Arc<ListAsTold>| ListLink {
            domain: told.domain,
            counter: told.id.counter,
            before: told.list.before,
        };
        let links = told.iter().map(|told| (told.digest, link(told))).collect();
        told.retain(|told| !gone.contains(ObjectKey::cleanup(told.id).as_str()));
        told.sort_by_key(|told| (told.domain, told.id));
        let mut accounted: HashMap<SnapshotId, Vec<(usize, [u8; 32])>> = HashMap::new();
        let (mut counting, mut by_digest, mut removed) = (HashSet::new(), HashMap::new(), HashMap::new());
        for (at, told) in told.iter().enumerate() {
            for (snapshot, digest) in &told.list.accounted {
                accounted.entry(*snapshot).or_default().push((at, *digest));
            }
            counting.extend(told.list.counting.iter().map(|(snapshot, digest)| (at, *snapshot, *digest)));
            by_digest.extend(told.list.accounted.iter().chain(&told.list.counting).map(|&(id, digest)| (digest, id)));
            gone.extend(told.list.removed.iter().map(|it| ObjectKey::snapshot(it.id).to_string()));
            removed.extend(told.list.removed.iter().map(|it| (it.digest, *it)));
        }
        Self { told, links, gone, accounted, counting, by_digest, removed, ..Self::default() }
    }

    /// Tells whether a snapshot whose object has the SHA-256 `digest` counts although its writer was thrown out, because one of the
    /// lists `named` says so.
    pub(super) fn counts(&self, named: &[[u8; 32]], snapshot: SnapshotId, digest: [u8; 32]) -> bool {
        let mut lists = named.iter().filter_map(|named| self.with_digest(*named));
        lists.any(|at| self.counting.contains(&(at, snapshot, digest)))
    }

    /// Returns the snapshots that the lists `named` say count, in no order.
    pub(super) fn counting(&self, named: &[[u8; 32]]) -> impl Iterator<Item = SnapshotId> + '_ {
        let lists: Vec<usize> = named.iter().filter_map(|named| self.with_digest(*named)).collect();
        self.counting.iter().filter(move |(at, ..)| lists.contains(at)).map(|(_, snapshot, _)| *snapshot)
    }

    /// Tells whether a snapshot was accounted for and is another object since.
    pub(super) fn is_exchanged(&self, snapshot: SnapshotId, digest: [u8; 32]) -> bool {
        self.accounted.get(&snapshot).is_some_and(|accounted| accounted.iter().all(|(_, there)| *there != digest))
    }

    /// Returns the lists that could not be opened, with the reason; those that another one names as gone are not among them.
    pub fn damaged(&self) -> &[(ObjectKey, String)] {
        &self.damaged
    }

    /// Tells of lists that could not be opened. Nothing is lost by that: what is deleted in the end is only what no snapshot
    /// needs.
    pub(super) fn tell(&self, monitor: &dyn Monitor) {
        for (key, why) in &self.damaged {
            monitor.problem(Problem::damaged(key.to_string(), why.clone()));
        }
    }

    /// Returns the packs that no writer may rely on: those being deleted, those found damaged, and those of lists that are younger
    /// than thirty days.
    pub fn doomed(&self, now: Timestamp) -> HashSet<PackId> {
        let is_honoured = |told: &&Arc<ListAsTold>| {
            let is_young = || now.seconds.saturating_sub(told.list.made.seconds) <= HONOURED_SECONDS;
            told.list.is_deleting || told.list.is_of_damage || is_young()
        };
        self.told.iter().filter(is_honoured).flat_map(|told| told.list.packs.iter().copied()).collect()
    }

    /// Returns the packs that verifications found damaged.
    pub fn found_damaged(&self) -> BTreeSet<PackId> {
        self.of_damage().flat_map(|told| told.list.packs.iter().copied()).collect()
    }

    /// Returns the same for one domain, and the names of the lists that say so.
    pub(super) fn found_damaged_in(&self, domain: DomainId) -> (BTreeSet<PackId>, Vec<String>) {
        let lists: Vec<&ListAsTold> = self.of_damage().filter(|told| told.domain == domain).collect();
        let names = lists.iter().map(|told| ObjectKey::cleanup(told.id).to_string()).collect();
        (lists.iter().flat_map(|told| told.list.packs.iter().copied()).collect(), names)
    }

    /// Returns the domains of which something was found damaged.
    pub(super) fn domains_with_damage(&self) -> BTreeSet<DomainId> {
        self.of_damage().map(|told| told.domain).collect()
    }

    fn of_damage(&self) -> impl Iterator<Item = &ListAsTold> {
        self.told.iter().map(Arc::as_ref).filter(|told| told.list.is_of_damage)
    }

    /// Returns the name for a list behind the newest one of a domain, and the digest of that, if there is one.
    pub fn behind_newest(&self, domain: DomainId) -> (CleanupId, Option<[u8; 32]>) {
        let newest = self.newest(domain);
        let counter = newest.map_or(1, |(counter, _)| counter + 1);
        (CleanupId { counter, random: random() }, newest.map(|(_, digest)| digest))
    }

    /// Returns the number and the digest of the newest list of a domain.
    fn newest(&self, domain: DomainId) -> Option<(u64, [u8; 32])> {
        let of_domain = self.links.iter().filter(|(_, link)| link.domain == domain);
        of_domain.map(|(digest, link)| (link.counter, *digest)).max()
    }

    /// Tells whether a domain has several lists of one number.
    pub fn is_shared(&self, domain: DomainId, counter: u64) -> bool {
        self.links.values().filter(|link| (link.domain, link.counter) == (domain, counter)).count() > 1
    }

    /// Returns the packs that somebody is about to delete, or is deleting, each with such a list: one that is honoured, is not of
    /// damage, and is none of `own`.
    pub fn to_be_deleted(&self, own: &[CleanupId], now: Timestamp) -> HashMap<PackId, CleanupId> {
        let lists = self.deletions_in_force(now).filter(|told| !own.contains(&told.id));
        lists.flat_map(|told| told.list.packs.iter().map(|pack| (*pack, told.id))).collect()
    }

    fn deletions_in_force(&self, now: Timestamp) -> impl Iterator<Item = &ListAsTold> {
        let is_young = move |told: &ListAsTold| now.seconds.saturating_sub(told.list.made.seconds) <= HONOURED_SECONDS;
        let told = self.told.iter().map(Arc::as_ref);
        let of_deletion = told.filter(|told| !told.list.is_of_damage && !told.list.packs.is_empty());
        of_deletion.filter(move |told| told.list.is_deleting || is_young(told))
    }

    /// Returns the lists that doom packs which are not being deleted yet, or give up sessions without deleting anything, oldest first,
    /// however old they are, each with its domain.
    pub fn standing(&self) -> impl Iterator<Item = (DomainId, CleanupId)> + '_ {
        let stands = |told: &&Arc<ListAsTold>| {
            let says_something = !told.list.packs.is_empty() || !told.list.given_up.is_empty();
            !told.list.is_deleting && !told.list.is_of_damage && says_something
        };
        self.told.iter().filter(stands).map(|told| (told.domain, told.id))
    }

    /// Tells whether a list was there and was opened, whether another one names it as gone or not.
    pub fn was_opened(&self, list: CleanupId) -> bool {
        self.opened.contains_key(&list)
    }

    /// Leaves those of a domain's snapshots, with the SHA-256 of their objects, that no list accounts for which the next list of the
    /// domain follows.
    pub fn unaccounted(
        &self,
        domain: DomainId,
        snapshots: impl Iterator<Item = (SnapshotId, [u8; 32])>,
    ) -> Vec<(SnapshotId, [u8; 32])> {
        let newest = self.newest(domain);
        let is_accounted = |(snapshot, digest): &(SnapshotId, [u8; 32])| {
            let lists = self.accounted.get(snapshot).into_iter().flatten();
            let mut lists = lists.filter(|(_, there)| there == digest).map(|(at, _)| &self.told[*at]);
            newest.is_some_and(|newest| lists.any(|told| self.leads(newest, told)))
        };
        snapshots.filter(|snapshot| !is_accounted(snapshot)).collect()
    }

    /// Tells whether a run of a domain that honoured the lists up to `honoured` keeps to each list in force, but for those of `own`:
    /// whatever they lead to, its snapshot is whole.
    pub fn honours_all(&self, domain: DomainId, honoured: Option<u64>, own: &[CleanupId], now: Timestamp) -> bool {
        let mut others = self.deletions_in_force(now).filter(|told| told.domain == domain && !own.contains(&told.id));
        others.all(|told| self.honours(honoured, told))
    }

    /// Returns the packs that are being deleted.
    pub fn deleting(&self) -> HashSet<PackId> {
        self.deletions().flat_map(|told| told.list.packs.iter().copied()).collect()
    }

    fn deletions(&self) -> impl Iterator<Item = &ListAsTold> {
        self.told.iter().map(Arc::as_ref).filter(|told| told.list.is_deleting)
    }

    /// Tells whether a session is not waited for any longer: what it relies on may be deleted by now.
    ///
    /// Nor is one whose key cannot open lists of an epoch that began meanwhile: it might be named in them.
    pub fn gives_up(&self, session: SessionId) -> bool {
        self.is_shut_out || self.told.iter().any(|told| told.list.given_up.contains(&session))
    }

    /// Returns the sessions that lists give up whose packs are being deleted, in no order.
    pub(super) fn given_up_for_good(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.deletions().flat_map(|told| told.list.given_up.iter().copied())
    }

    /// Returns the snapshots that lists remove which nobody takes back any more: those made until then, and those that tell others again.
    pub(super) fn removed_until(&self, until: Timestamp) -> impl Iterator<Item = &RemovedSnapshot> + '_ {
        let is_settled = move |told: &&Arc<ListAsTold>| told.list.made <= until || told.list.is_complete;
        self.told.iter().filter(is_settled).flat_map(|told| &told.list.removed)
    }

    /// Tells whether an object was removed, whether it is there (again) or not.
    pub fn is_gone(&self, key: &ObjectKey) -> bool {
        self.gone.contains(key.as_str())
    }

    /// Tells whether a list is there that no other names as gone.
    pub fn has(&self, list: CleanupId) -> bool {
        self.told.iter().any(|told| told.id == list)
    }

    /// Returns the snapshots that a list removes, if it is there and no other names it as gone.
    pub fn removed_by(&self, list: CleanupId) -> Option<&[RemovedSnapshot]> {
        self.told.iter().find(|told| told.id == list).map(|told| told.list.removed.as_slice())
    }

    /// Tells whether a snapshot is removed only by lists that whoever put them may yet take back: none of them is of `own`, nor tells others
    /// again.
    pub fn may_come_back(&self, snapshot: SnapshotId, own: &[CleanupId]) -> bool {
        let removing = |told: &&Arc<ListAsTold>| told.list.removed.iter().any(|removed| removed.id == snapshot);
        // Nearly every snapshot is in none, which need not be looked for in each.
        if !self.is_gone(&ObjectKey::snapshot(snapshot)) {
            return false;
        }
        let mut lists = self.told.iter().filter(removing).peekable();
        lists.peek().is_some() && lists.all(|told| !told.list.is_complete && !own.contains(&told.id))
    }

    /// Returns the snapshot that was removed and whose object had this SHA-256.
    pub fn removed(&self, digest: &[u8; 32]) -> Option<&RemovedSnapshot> {
        self.removed.get(digest)
    }

    /// Returns the snapshot that a list accounts for, or says counts, as an object with this SHA-256.
    pub fn accounted_as(&self, digest: &[u8; 32]) -> Option<SnapshotId> {
        self.by_digest.get(digest).copied()
    }

    /// Returns the snapshots that any list accounts for, in no order.
    pub fn accounted(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.accounted.keys().copied()
    }

    /// Returns the snapshots of which any list says that they were there, in no order.
    pub(super) fn were_there(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.accounted().chain(self.counting.iter().map(|(_, snapshot, _)| *snapshot))
    }

    /// Tells whether any list accounts for a snapshot.
    pub fn is_accounted(&self, id: SnapshotId) -> bool {
        self.accounted.contains_key(&id)
    }

    /// Tells whether a snapshot might be one that does not count, depending on its session.
    pub fn may_be_void(&self, snapshot: SnapshotId) -> bool {
        let mut giving_up = self.deletions().filter(|told| !told.list.given_up.is_empty());
        giving_up.any(|told| !self.is_accounted_against(snapshot, None, told))
    }

    /// Returns the number up to which a run of `domain` that relies on `packs` honours the lists: none of these dooms a pack of
    /// its, and none is missing in the chain. `None` where that is not even the first.
    pub fn honoured_by(&self, domain: DomainId, packs: &HashSet<PackId>) -> Option<u64> {
        let mut honoured = None;
        let of_domain: Vec<&ListAsTold> =
            self.told.iter().map(Arc::as_ref).filter(|told| told.domain == domain).collect();
        let is_whole = |told: &&ListAsTold| {
            let is_there = |before| self.links.contains_key(&before);
            told.list
                .before
                .is_none_or(|before| is_there(before) || self.is_replaced(told.id.counter.saturating_sub(1)))
        };
        // Of several with one number all are honoured, or none.
        for of_number in of_domain.chunk_by(|one, next| one.id.counter == next.id.counter) {
            let dooms = |told: &&ListAsTold| told.list.packs.iter().any(|pack| packs.contains(pack));
            if !of_number.iter().all(is_whole) || of_number.iter().any(dooms) {
                return honoured;
            }
            honoured = Some(of_number[0].id.counter);
        }
        honoured
    }

    fn with_digest(&self, digest: [u8; 32]) -> Option<usize> {
        self.told.iter().position(|told| told.digest == digest)
    }

    /// Tells whether lists of this number are named as gone.
    fn is_replaced(&self, counter: u64) -> bool {
        let counter_of = |name: &String| Some(CleanupId::from_object_name(name.strip_prefix("cleanup/")?)?.counter);
        self.gone.iter().filter_map(counter_of).any(|gone| gone == counter)
    }

    /// Tells whether the list `one` is `other` or was written by somebody who had read it.
    fn follows(&self, one: &ListAsTold, other: &ListAsTold) -> bool {
        self.leads((one.id.counter, one.digest), other)
    }

    /// Tells whether the chain leads from a list, given by its number and the SHA-256 of its object, to `other`.
    fn leads(&self, (mut counter, mut at): (u64, [u8; 32]), other: &ListAsTold) -> bool {
        while at != other.digest && counter > other.id.counter {
            let before = self.links.get(&at).and_then(|link| link.before);
            match before.and_then(|before| Some((before, self.links.get(&before)?.counter))) {
                Some((before, of_before)) if of_before < counter => (at, counter) = (before, of_before),
                // Lists are removed with all before them: what is still there was written behind.
                _ => return false,
            }
        }
        at == other.digest
    }

    /// Tells whether a snapshot was accounted for as far as the deletions of one list go: its object, where `digest` is that.
    fn is_accounted_against(&self, snapshot: SnapshotId, digest: Option<[u8; 32]>, deletion: &ListAsTold) -> bool {
        let accounted = self.accounted.get(&snapshot).into_iter().flatten();
        let same = accounted.filter(|(_, there)| digest.is_none_or(|digest| digest == *there));
        let mut accounting = same.map(|(at, _)| &*self.told[*at]);
        accounting.any(|told| self.follows(told, deletion) || self.follows(deletion, told))
    }

    /// Tells whether a snapshot, with the SHA-256 of its object, counts for nothing because its session was given up and it came
    /// afterwards.
    pub fn is_void(&self, (snapshot, digest): (SnapshotId, [u8; 32]), session: SessionId) -> bool {
        let mut giving_up = self.deletions().filter(|told| told.list.given_up.contains(&session));
        giving_up.any(|told| !self.is_accounted_against(snapshot, Some(digest), told))
    }

    /// Tells whether a snapshot, with the SHA-256 of its object, that honoured the lists up to `honoured` lost nothing to any deletion;
    /// one of which that is not known **must** be walked through before it is believed to be whole.
    pub fn is_believed(
        &self,
        (snapshot, digest): (SnapshotId, [u8; 32]),
        domain: DomainId,
        honoured: Option<u64>,
    ) -> bool {
        let mut deletions = self.deletions().filter(|told| told.domain == domain);
        deletions.all(|told| self.honours(honoured, told) || self.is_accounted_against(snapshot, Some(digest), told))
    }

    /// Tells whether a run that honoured the lists up to `honoured` relied on no pack of `told`.
    fn honours(&self, honoured: Option<u64>, told: &ListAsTold) -> bool {
        // Who honoured a number that two lists have may have read either.
        let with_first = self.told.iter().filter(|it| (it.domain, it.id.counter) == (told.domain, told.first()));
        honoured.is_some_and(|honoured| honoured >= told.first()) && with_first.count() < 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: DomainId = DomainId([7; 16]);

    fn pack(id: u8) -> PackId {
        PackId([id; 16])
    }

    fn snapshot(id: u8) -> SnapshotId {
        SnapshotId::new(Timestamp::from_seconds(1), [id; 8])
    }

    /// A snapshot as the lists of these tests account for it.
    fn object(id: u8) -> (SnapshotId, [u8; 32]) {
        (snapshot(id), [0; 32])
    }

    /// A list with the number `counter`, behind one whose object has the digest `before`; its own is `digest`.
    fn told(counter: u64, digest: u8, before: Option<u8>, list: CleanupList) -> Arc<ListAsTold> {
        let id = CleanupId { counter, random: [digest; 8] };
        let list = CleanupList { before: before.map(|before| [before; 32]), ..list };
        Arc::new(ListAsTold { domain: DOMAIN, id, digest: [digest; 32], list })
    }

    fn dooms(packs: &[u8]) -> CleanupList {
        CleanupList { packs: packs.iter().map(|id| pack(*id)).collect(), ..CleanupList::default() }
    }

    fn deletes(packs: &[u8], first: u64, accounted: &[u8]) -> CleanupList {
        let accounted = accounted.iter().map(|id| (snapshot(*id), [0; 32])).collect();
        CleanupList { is_deleting: true, first: Some(first), accounted, ..dooms(packs) }
    }

    fn honoured(lists: Vec<Arc<ListAsTold>>, packs: &[u8]) -> Option<u64> {
        Cleanups::of(lists).honoured_by(DOMAIN, &packs.iter().map(|id| pack(*id)).collect())
    }

    #[test]
    fn lists_grow_old_unless_their_packs_are_being_deleted() {
        let made = Timestamp::from_seconds(1_000_000);
        let at = |seconds: i64| Timestamp::from_seconds(made.seconds + seconds);
        let lists = [CleanupList { made, ..dooms(&[1]) }, CleanupList { made, ..deletes(&[2], 1, &[]) }];
        let [first, second] = lists;
        let cleanups = Cleanups::of(vec![told(1, 1, None, first), told(2, 2, Some(1), second)]);
        let both = HashSet::from([pack(1), pack(2)]);
        for now in [at(0), at(HONOURED_SECONDS), at(-HONOURED_SECONDS)] {
            assert_eq!(cleanups.doomed(now), both, "{now:?}");
        }
        assert_eq!(cleanups.doomed(at(HONOURED_SECONDS + 1)), HashSet::from([pack(2)]));
        assert_eq!(cleanups.deleting(), HashSet::from([pack(2)]));
    }

    #[test]
    fn a_list_that_a_later_one_names_as_gone_dooms_nothing() {
        let id = CleanupId { counter: 1, random: [1; 8] };
        let withdrawn = CleanupList { gone: vec![ObjectKey::cleanup(id).to_string()], ..CleanupList::default() };
        let cleanups = Cleanups::of(vec![told(1, 1, None, dooms(&[1])), told(2, 2, Some(1), withdrawn)]);
        assert_eq!(cleanups.doomed(Timestamp::default()), HashSet::new());
        assert_eq!(cleanups.honoured_by(DOMAIN, &HashSet::from([pack(1)])), Some(2));
    }

    #[test]
    fn what_is_honoured_ends_at_a_pack_that_is_relied_on_and_at_a_gap() {
        let whole =
            || vec![told(1, 1, None, dooms(&[1])), told(2, 2, Some(1), dooms(&[2])), told(3, 3, Some(2), dooms(&[]))];
        assert_eq!(honoured(Vec::new(), &[1]), None);
        assert_eq!(honoured(whole(), &[]), Some(3));
        assert_eq!(honoured(whole(), &[2]), Some(1));
        assert_eq!(honoured(whole(), &[1]), None);
        let mut gap = whole();
        gap.remove(1);
        assert_eq!(honoured(gap, &[]), Some(1));
        // Two of one number: either may be the one that somebody else read.
        let fork = || [whole(), vec![told(2, 4, Some(1), dooms(&[4]))]].concat();
        assert_eq!(honoured(fork(), &[]), Some(3));
        assert_eq!(honoured(fork(), &[4]), Some(1));
        assert_eq!(honoured(fork(), &[2]), Some(1));
    }

    #[test]
    fn a_snapshot_is_believed_that_honoured_what_was_deleted_or_is_accounted_for() {
        let chain = vec![
            told(1, 1, None, dooms(&[1])),
            told(2, 2, Some(1), deletes(&[1], 1, &[10])),
            told(3, 3, Some(2), CleanupList { accounted: vec![(snapshot(11), [0; 32])], ..dooms(&[]) }),
        ];
        let cleanups = Cleanups::of(chain.clone());
        let believed = |cleanups: &Cleanups, id: u8, honoured| cleanups.is_believed(object(id), DOMAIN, honoured);
        assert!(believed(&cleanups, 10, None) && believed(&cleanups, 11, None));
        assert!(believed(&cleanups, 12, Some(1)) && !believed(&cleanups, 12, None));
        assert!(cleanups.is_believed(object(12), DomainId([8; 16]), None), "another domain's packs were deleted");
        assert!(!cleanups.is_believed((snapshot(10), [1; 32]), DOMAIN, None), "it is another object since");
        // What a rival accounts for that had not read of the deletion counts for nothing against it.
        let rival = CleanupList { accounted: vec![(snapshot(13), [0; 32])], ..dooms(&[]) };
        let cleanups = Cleanups::of([chain, vec![told(2, 9, Some(1), rival)]].concat());
        assert!(!believed(&cleanups, 13, None) && believed(&cleanups, 11, None));
    }

    #[test]
    fn the_snapshot_of_a_run_that_was_given_up_counts_only_if_it_was_there() {
        let session = SessionId([5; 16]);
        let gives_up = |list: CleanupList| CleanupList { given_up: vec![session], ..list };
        // Before anything is deleted, only the run itself is concerned.
        let cleanups = Cleanups::of(vec![told(1, 1, None, gives_up(dooms(&[1])))]);
        assert!(cleanups.gives_up(session) && !cleanups.gives_up(SessionId([6; 16])));
        assert!(!cleanups.is_void(object(10), session) && !cleanups.may_be_void(snapshot(10)));
        let list = gives_up(deletes(&[1], 1, &[10]));
        let cleanups = Cleanups::of(vec![told(1, 1, None, dooms(&[1])), told(2, 2, Some(1), list)]);
        assert!(!cleanups.is_void(object(10), session) && !cleanups.may_be_void(snapshot(10)));
        assert!(cleanups.is_void(object(11), session) && !cleanups.is_void(object(11), SessionId([6; 16])));
        let other = (snapshot(10), [1; 32]);
        assert!(cleanups.is_void(other, session) && cleanups.is_exchanged(other.0, other.1));
        assert!(!cleanups.is_exchanged(snapshot(10), [0; 32]) && !cleanups.is_exchanged(snapshot(11), [1; 32]));
    }

    #[test]
    fn a_snapshot_of_a_writer_that_was_thrown_out_counts_by_the_list_that_is_named() {
        let counting = |id| CleanupList { counting: vec![(snapshot(id), [id; 32])], ..dooms(&[]) };
        let cleanups = Cleanups::of(vec![told(1, 1, None, counting(10)), told(2, 2, Some(1), counting(11))]);
        let counts = |named: &[u8], id, digest| {
            let named: Vec<_> = named.iter().map(|named| [*named; 32]).collect();
            cleanups.counts(&named, snapshot(id), [digest; 32])
        };
        assert!(counts(&[1], 10, 10) && counts(&[1, 2], 11, 11));
        assert!(!counts(&[1], 11, 11), "another list said so");
        assert!(!counts(&[], 10, 10) && !counts(&[3], 10, 10), "no list, or none that there is, is named");
        assert!(!counts(&[1], 10, 11), "it is another object since");
        assert_eq!((cleanups.newest(DOMAIN), cleanups.is_shared(DOMAIN, 2)), (Some((2, [2; 32])), false));
    }
}
