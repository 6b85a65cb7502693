//! What cleaning up has told: the lists of `cleanup/`, and what follows from them for writers and readers
//! (`docs/format.md`, sections 13 to 15).
//!
//! Nothing here deletes. A writer asks which packs it must not rely on and whether its own session was given up; a reader,
//! which snapshots there are; whoever will delete, which of them need not be walked through again.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::format::FormatError;
use crate::format::cleanup::decode_cleanup;
use crate::format::object::CLEANUP;
use crate::model::author::Author;
use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::{DomainEpoch, DomainId, PackId, SessionId};
use crate::model::key::ObjectKey;
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::store::{StoreError, StoreErrorKind};

/// How long a list is honoured that nobody says is being acted upon. Who cleans up acts upon one for half as long.
pub const HONOURED_SECONDS: i64 = 30 * 24 * 3600;

/// Lists fetched at the same time.
const FETCHES: usize = 8;

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

/// All lists, as of when they were read.
#[derive(Debug, Clone, Default)]
pub struct Cleanups {
    /// In order of their numbers; those that a later one names as gone are not among them.
    told: Vec<ListAsTold>,
    gone: HashSet<String>,
    /// Where in them each snapshot is accounted for.
    accounted: HashMap<SnapshotId, Vec<usize>>,
    damaged: Vec<(ObjectKey, String)>,
}

impl Repository {
    /// Reads all lists of cleaning up. One that cannot be opened is left out: [`Cleanups::damaged`].
    ///
    /// # Errors
    /// When they cannot be listed, or one is out of reach.
    pub async fn cleanups(&self) -> Result<Cleanups, StoreError> {
        let fetches = stream::iter(self.objects().cleanups().await?).map(|id| async move {
            let opened = self.objects().cleanup(id, |object| open_cleanup(self, id, object)).await;
            let damaged = |why: String| Some(Err((ObjectKey::cleanup(id), why)));
            match opened {
                Ok(Ok(told)) => Ok(Some(Ok(told))),
                Ok(Err(error)) => Ok(damaged(error.to_string())),
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
                Err(error) if error.kind.is_damage() => Ok(damaged(error.clause())),
                Err(error) => Err(error),
            }
        });
        let read: Vec<_> = fetches.buffered(FETCHES).try_collect().await?;
        let (mut told, mut damaged) = (Vec::new(), Vec::new());
        for read in read.into_iter().flatten() {
            match read {
                Ok(list) => told.push(list),
                Err(unread) => damaged.push(unread),
            }
        }
        let cleanups = Cleanups::of(told);
        damaged.retain(|(key, _)| !cleanups.is_gone(key));
        Ok(Cleanups { damaged, ..cleanups })
    }
}

/// Opens a list's object.
fn open_cleanup(repository: &Repository, id: CleanupId, object: &Bytes) -> Result<ListAsTold, FormatError> {
    let opened = repository.keys().open_for_writers(CLEANUP, &id.to_bytes(), object)?;
    if opened.author != Author::Reader {
        let why = format!("it is by {}, and only readers may clean up", opened.author);
        return Err(FormatError::Invalid { what: CLEANUP.what(), why });
    }
    let (DomainEpoch { domain, .. }, _) = CLEANUP.split(object)?;
    Ok(ListAsTold { domain, id, digest: Sha256::digest(object).into(), list: decode_cleanup(opened.value())? })
}

impl Cleanups {
    fn of(mut told: Vec<ListAsTold>) -> Self {
        let gone: HashSet<String> = told.iter().flat_map(|told| told.list.gone.iter().cloned()).collect();
        told.retain(|told| !gone.contains(ObjectKey::cleanup(told.id).as_str()));
        told.sort_by_key(|told| (told.domain, told.id));
        let mut accounted: HashMap<SnapshotId, Vec<usize>> = HashMap::new();
        for (at, told) in told.iter().enumerate() {
            for (snapshot, _) in &told.list.accounted {
                accounted.entry(*snapshot).or_default().push(at);
            }
        }
        Self { told, gone, accounted, damaged: Vec::new() }
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

    /// Returns the packs that no writer may rely on: those being deleted, and those of lists that are younger than thirty days.
    pub fn doomed(&self, now: Timestamp) -> HashSet<PackId> {
        let is_honoured = |told: &&ListAsTold| {
            told.list.is_deleting || now.seconds.saturating_sub(told.list.made.seconds) <= HONOURED_SECONDS
        };
        self.told.iter().filter(is_honoured).flat_map(|told| told.list.packs.iter().copied()).collect()
    }

    /// Returns the packs that are being deleted.
    pub fn deleting(&self) -> HashSet<PackId> {
        self.deletions().flat_map(|told| told.list.packs.iter().copied()).collect()
    }

    fn deletions(&self) -> impl Iterator<Item = &ListAsTold> {
        self.told.iter().filter(|told| told.list.is_deleting)
    }

    /// Tells whether a session is not waited for any longer: what it relies on may be deleted by now.
    pub fn gives_up(&self, session: SessionId) -> bool {
        self.told.iter().any(|told| told.list.given_up.contains(&session))
    }

    /// Tells whether an object was removed, whether it is there (again) or not.
    pub fn is_gone(&self, key: &ObjectKey) -> bool {
        self.gone.contains(key.as_str())
    }

    /// Returns the snapshots that any list accounts for, in no order.
    pub fn accounted(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.accounted.keys().copied()
    }

    /// Tells whether any list accounts for a snapshot.
    pub fn is_accounted(&self, id: SnapshotId) -> bool {
        self.accounted.contains_key(&id)
    }

    /// Tells whether a snapshot might be one that does not count, depending on its session.
    pub fn may_be_void(&self, snapshot: SnapshotId) -> bool {
        let mut giving_up = self.deletions().filter(|told| !told.list.given_up.is_empty());
        giving_up.any(|told| !self.is_accounted_against(snapshot, told))
    }

    /// Returns the number up to which a run of `domain` that relies on `packs` honours the lists: none of these dooms a pack of
    /// its, and none is missing in the chain. `None` where that is not even the first.
    pub fn honoured_by(&self, domain: DomainId, packs: &HashSet<PackId>) -> Option<u64> {
        let mut honoured = None;
        let of_domain: Vec<&ListAsTold> = self.told.iter().filter(|told| told.domain == domain).collect();
        let is_whole = |told: &&ListAsTold| {
            let is_there = |before| self.with_digest(before).is_some();
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
        let mut at = one;
        while at.id.counter > other.id.counter {
            match at.list.before.and_then(|before| self.with_digest(before)) {
                Some(before) if self.told[before].id.counter < at.id.counter => at = &self.told[before],
                // Lists are removed with all before them: what is still there was written behind.
                _ => return false,
            }
        }
        at.id == other.id && at.domain == other.domain
    }

    /// Tells whether a snapshot was accounted for as far as the deletions of one list go.
    fn is_accounted_against(&self, snapshot: SnapshotId, deletion: &ListAsTold) -> bool {
        let mut accounting = self.accounted.get(&snapshot).into_iter().flatten().map(|at| &self.told[*at]);
        accounting.any(|told| self.follows(told, deletion) || self.follows(deletion, told))
    }

    /// Tells whether a snapshot counts for nothing because its session was given up and it came afterwards.
    pub fn is_void(&self, snapshot: SnapshotId, session: SessionId) -> bool {
        let mut giving_up = self.deletions().filter(|told| told.list.given_up.contains(&session));
        giving_up.any(|told| !self.is_accounted_against(snapshot, told))
    }

    /// Tells whether a snapshot that honoured the lists up to `honoured` lost nothing to any deletion; one of which that is not
    /// known **must** be walked through before it is believed to be whole.
    pub fn is_believed(&self, snapshot: SnapshotId, domain: DomainId, honoured: Option<u64>) -> bool {
        let mut deletions = self.deletions().filter(|told| told.domain == domain);
        deletions.all(|told| {
            // Who honoured a number that two lists have may have read either.
            let with_first = self.told.iter().filter(|it| (it.domain, it.id.counter) == (domain, told.first()));
            let honours = honoured.is_some_and(|honoured| honoured >= told.first()) && with_first.count() < 2;
            honours || self.is_accounted_against(snapshot, told)
        })
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

    /// A list with the number `counter`, behind one whose object has the digest `before`; its own is `digest`.
    fn told(counter: u64, digest: u8, before: Option<u8>, list: CleanupList) -> ListAsTold {
        let id = CleanupId { counter, random: [digest; 8] };
        let list = CleanupList { before: before.map(|before| [before; 32]), ..list };
        ListAsTold { domain: DOMAIN, id, digest: [digest; 32], list }
    }

    fn dooms(packs: &[u8]) -> CleanupList {
        CleanupList { packs: packs.iter().map(|id| pack(*id)).collect(), ..CleanupList::default() }
    }

    fn deletes(packs: &[u8], first: u64, accounted: &[u8]) -> CleanupList {
        let accounted = accounted.iter().map(|id| (snapshot(*id), [0; 32])).collect();
        CleanupList { is_deleting: true, first: Some(first), accounted, ..dooms(packs) }
    }

    fn honoured(lists: Vec<ListAsTold>, packs: &[u8]) -> Option<u64> {
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
        let believed = |cleanups: &Cleanups, id: u8, honoured| cleanups.is_believed(snapshot(id), DOMAIN, honoured);
        assert!(believed(&cleanups, 10, None) && believed(&cleanups, 11, None));
        assert!(believed(&cleanups, 12, Some(1)) && !believed(&cleanups, 12, None));
        assert!(cleanups.is_believed(snapshot(12), DomainId([8; 16]), None), "another domain's packs were deleted");
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
        assert!(!cleanups.is_void(snapshot(10), session) && !cleanups.may_be_void(snapshot(10)));
        let list = gives_up(deletes(&[1], 1, &[10]));
        let cleanups = Cleanups::of(vec![told(1, 1, None, dooms(&[1])), told(2, 2, Some(1), list)]);
        assert!(!cleanups.is_void(snapshot(10), session) && !cleanups.may_be_void(snapshot(10)));
        assert!(cleanups.is_void(snapshot(11), session) && !cleanups.is_void(snapshot(11), SessionId([6; 16])));
    }
}
