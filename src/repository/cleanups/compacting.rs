//! Telling lists again: one list in the place of many, so that there are no more than what is kept needs, and their objects can go.
//!
//! It says what still matters of those that it names as gone, and accounts for the snapshots that its writer has just walked. What
//! somebody else may yet take back, or act upon, stays as it is (`docs/format.md`, section 14, "Telling lists again").

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::{DomainId, PackId, SegmentId, SessionId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;
use crate::repository::cleanups::{Cleanups, HONOURED_SECONDS, ListAsTold, OpenedList};

/// How old a list is before another one tells it again, and one that does before the objects of the others go: whoever listed lists
/// before that has read them by then.
const SETTLED_SECONDS: i64 = 24 * 3600;
/// Lists that one is put instead of, at least.
const LISTS_LEAST: usize = 8;
/// How long such a list may become, in bytes: three quarters of what is read.
const BYTES_MAX: usize = 48 << 20;

/// What is there when lists are told again.
pub struct ThereNow<'a> {
    /// Snapshots of the domain of which each chunk has a copy that no list dooms, with the SHA-256 of their objects.
    pub whole: Vec<(SnapshotId, [u8; 32])>,
    /// All snapshots that any replica lists.
    pub listed: &'a BTreeSet<SnapshotId>,
    /// The index segments that any replica lists.
    pub segments: &'a BTreeSet<SegmentId>,
    /// Tells whether a pack is in some replica, or named by a segment.
    pub has_pack: &'a (dyn Fn(PackId) -> bool + Sync),
}

impl ListAsTold {
    /// Tells whether another list may stand in its place: nobody takes it back any more, and nobody acts upon it. `settled` are those of
    /// removed snapshots which this machine has put and is done with.
    fn may_be_replaced(&self, now: Timestamp, settled: &[CleanupId]) -> bool {
        let list = &self.list;
        let is_older_than = |seconds: i64| now.seconds.saturating_sub(list.made.seconds) > seconds;
        if list.is_of_damage || !list.counting.is_empty() {
            // The first is replaced by the next one of its kind, the second is named by a keyring.
            return false;
        }
        if list.is_deleting {
            return is_older_than(SETTLED_SECONDS);
        }
        match (list.given_up.is_empty(), list.packs.is_empty(), list.removed.is_empty()) {
            // Whoever put it may take it back, however late.
            (false, ..) => false,
            (_, true, true) => is_older_than(SETTLED_SECONDS),
            (_, true, false) if settled.contains(&self.id) => is_older_than(SETTLED_SECONDS),
            _ => is_older_than(HONOURED_SECONDS),
        }
    }
}

impl Cleanups {
    /// Returns the domains that have so many lists that one is to be put in their place. `settled` as for [`Cleanups::told_again`].
    pub fn domains_with_many(&self, now: Timestamp, settled: &[CleanupId]) -> BTreeSet<DomainId> {
        let mut domains: BTreeSet<DomainId> = self.told.iter().map(|told| told.domain).collect();
        domains.retain(|domain| self.replaceable(*domain, now, settled).len() >= LISTS_LEAST);
        domains
    }

    fn replaceable(&self, domain: DomainId, now: Timestamp, settled: &[CleanupId]) -> Vec<&ListAsTold> {
        let of_domain = self.told.iter().filter(|told| told.domain == domain);
        of_domain.map(Arc::as_ref).filter(|told| told.may_be_replaced(now, settled)).collect()
    }

    /// Returns the list that tells again what those of a domain tell which it may stand in the place of, with the name for it; `None`
    /// where these are few. `settled` are lists of removed snapshots which this machine has put and is done with.
    pub fn told_again(
        &self,
        domain: DomainId,
        now: Timestamp,
        settled: &[CleanupId],
        there: &ThereNow<'_>,
    ) -> Option<(CleanupId, CleanupList)> {
        let replaced = self.replaceable(domain, now, settled);
        if replaced.len() < LISTS_LEAST {
            return None;
        }
        let deletions = || replaced.iter().filter(|told| told.list.is_deleting);
        let packs: BTreeSet<PackId> = deletions().flat_map(|told| told.list.packs.iter().copied()).collect();
        let given_up: BTreeSet<SessionId> = deletions().flat_map(|told| told.list.given_up.iter().copied()).collect();
        let removed: BTreeMap<SnapshotId, _> =
            replaced.iter().flat_map(|told| told.list.removed.iter().map(|it| (it.id, *it))).collect();
        let highest = replaced.iter().map(|told| told.id.counter).max()?;
        let (id, before) = self.behind_newest(domain);
        let list = CleanupList {
            made: Timestamp::from_seconds(now.seconds),
            packs: packs.into_iter().filter(|pack| (there.has_pack)(*pack)).collect(),
            given_up: given_up.into_iter().collect(),
            accounted: accounted_again(&replaced, there, |id| self.is_gone(&ObjectKey::snapshot(id))),
            gone: self.gone_again(domain, &replaced, there.segments),
            is_deleting: true,
            before,
            first: Some(highest).filter(|highest| !self.is_shared(domain, *highest)),
            removed: removed.into_values().collect(),
            is_complete: true,
            ..CleanupList::default()
        };
        (bytes_of(&list) <= BYTES_MAX).then_some((id, list))
    }

    /// Returns the names that stay gone: those of the lists that are replaced, and what lists of the domain named, segments only as long
    /// as they are listed. A list that was taken back must not count again, wherever it comes back from.
    fn gone_again(&self, domain: DomainId, replaced: &[&ListAsTold], segments: &BTreeSet<SegmentId>) -> Vec<String> {
        let opened = self.opened.values().filter_map(|opened| match opened {
            OpenedList::List(told) if told.domain == domain => Some(told),
            _ => None,
        });
        let matters = |name: &&String| {
            let key = ObjectKey::from_listed(name.as_str());
            key.kind() != Some(ObjectKind::Index) || key.segment_id().is_some_and(|id| segments.contains(&id))
        };
        let named = opened.flat_map(|told| &told.list.gone).filter(matters).cloned();
        let lists = replaced.iter().map(|told| ObjectKey::cleanup(told.id).to_string());
        named.chain(lists).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns the lists that are gone and of which another one, that is old enough, tells all that still matters; of `everywhere`, the
    /// lists that every required replica has. The oldest come first.
    pub fn told_elsewhere(&self, now: Timestamp, everywhere: &BTreeSet<CleanupId>) -> Vec<CleanupId> {
        let mut until: BTreeMap<DomainId, u64> = BTreeMap::new();
        let is_old = |made: Timestamp| now.seconds.saturating_sub(made.seconds) > SETTLED_SECONDS;
        for told in self.told.iter().filter(|told| told.list.is_complete && is_old(told.list.made)) {
            if everywhere.contains(&told.id) {
                let highest = until.entry(told.domain).or_default();
                *highest = told.id.counter.max(*highest);
            }
        }
        let is_told = |opened: &OpenedList| match opened {
            OpenedList::List(told) => until.get(&told.domain).is_some_and(|until| told.id.counter < *until),
            _ => false,
        };
        let told = self.opened.iter().filter(|it| is_told(it.1)).map(|(id, _)| *id);
        told.filter(|id| self.is_gone(&ObjectKey::cleanup(*id))).collect()
    }
}

/// Returns what is accounted for again: the snapshots that were walked, and of those that nobody can walk (their keys were destroyed) what
/// was told before.
fn accounted_again(
    replaced: &[&ListAsTold],
    there: &ThereNow<'_>,
    is_gone: impl Fn(SnapshotId) -> bool,
) -> Vec<(SnapshotId, [u8; 32])> {
    let walked: HashSet<SnapshotId> = there.whole.iter().map(|(id, _)| *id).collect();
    let told = replaced.iter().flat_map(|told| told.list.accounted.iter().copied());
    let told = told.filter(|(id, _)| there.listed.contains(id) && !walked.contains(id) && !is_gone(*id));
    told.chain(there.whole.iter().copied()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns about how long a list is when it is stored.
fn bytes_of(list: &CleanupList) -> usize {
    let names: usize = list.gone.iter().map(|name| name.len() + 2).sum();
    16 * (list.packs.len() + list.given_up.len()) + 48 * list.accounted.len() + 80 * list.removed.len() + names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cleanup::RemovedSnapshot;

    const DAY: i64 = 24 * 3600;
    const DOMAIN: DomainId = DomainId([7; 16]);

    fn snapshot(id: u8) -> SnapshotId {
        SnapshotId::new(Timestamp::from_seconds(1), [id; 8])
    }

    fn told(counter: u64, days: i64, list: CleanupList) -> Arc<ListAsTold> {
        let id = CleanupId { counter, random: [counter as u8; 8] };
        let made = Timestamp::from_seconds(-days * DAY);
        let list = CleanupList { made, before: Some([counter as u8 - 1; 32]), ..list };
        Arc::new(ListAsTold { domain: DOMAIN, id, digest: [counter as u8; 32], list })
    }

    fn cleanups(lists: Vec<Arc<ListAsTold>>) -> Cleanups {
        let opened = lists.iter().map(|told| (told.id, OpenedList::List(told.clone()))).collect();
        Cleanups { opened, ..Cleanups::of(lists) }
    }

    fn deletes(packs: &[u8]) -> CleanupList {
        let packs = packs.iter().map(|id| PackId([*id; 16])).collect();
        CleanupList { packs, is_deleting: true, ..CleanupList::default() }
    }

    fn removes(id: u8) -> CleanupList {
        let removed = vec![RemovedSnapshot { id: snapshot(id), digest: [id; 32], before: None }];
        CleanupList { removed, ..CleanupList::default() }
    }

    fn gives_up(id: u8) -> CleanupList {
        CleanupList { given_up: vec![SessionId([id; 16])], ..CleanupList::default() }
    }

    #[test]
    fn what_another_one_may_take_back_or_act_upon_is_not_replaced() {
        let dooms = || CleanupList { is_deleting: false, ..deletes(&[1]) };
        let counting = CleanupList { counting: vec![(snapshot(1), [1; 32])], ..CleanupList::default() };
        let complete = CleanupList { is_deleting: true, is_complete: true, ..removes(1) };
        let given_up = CleanupList { is_deleting: true, ..gives_up(1) };
        let never = i64::MAX;
        // The age in days from which on it may be, somebody else's and one's own.
        for (list, others, own) in [
            (CleanupList::default(), 2, 2),
            (deletes(&[1]), 2, 2),
            (given_up, 2, 2),
            (complete, 2, 2),
            (dooms(), 31, 31),
            (removes(1), 31, 2),
            (gives_up(1), never, never),
            (counting, never, never),
            (CleanupList { is_of_damage: true, ..dooms() }, never, never),
        ] {
            for days in [0, 1, 2, 30, 31, 10_000] {
                let told = told(5, days, list.clone());
                let may = |settled: &[CleanupId]| told.may_be_replaced(Timestamp::default(), settled);
                assert_eq!((may(&[]), may(&[told.id])), (days >= others, days >= own), "{days}: {list:?}");
            }
        }
    }

    #[test]
    fn what_still_matters_is_told_again_and_the_rest_is_not() {
        let gone_list = ObjectKey::cleanup(CleanupId { counter: 1, random: [1; 8] }).to_string();
        let [listed, merged] = [1, 2].map(|id| ObjectKey::segment(SegmentId([id; 16])).to_string());
        let lists = vec![
            told(1, 90, removes(9)),
            told(2, 89, CleanupList { gone: vec![gone_list.clone(), listed.clone(), merged.clone()], ..removes(2) }),
            told(3, 88, CleanupList { given_up: vec![SessionId([3; 16])], ..deletes(&[1, 2]) }),
            told(
                4,
                87,
                CleanupList { accounted: vec![(snapshot(4), [4; 32]), (snapshot(5), [5; 32])], ..deletes(&[2]) },
            ),
            told(5, 86, CleanupList { accounted: vec![(snapshot(6), [6; 32])], ..deletes(&[]) }),
            told(6, 85, CleanupList::default()),
            told(7, 84, CleanupList::default()),
            told(8, 83, CleanupList::default()),
            // Somebody may yet take it back.
            told(9, 82, gives_up(9)),
            told(10, 81, CleanupList::default()),
        ];
        let listed_snapshots = BTreeSet::from([snapshot(4), snapshot(5), snapshot(6), snapshot(2)]);
        let segments = BTreeSet::from([SegmentId([1; 16])]);
        let again = |lists: Vec<Arc<ListAsTold>>| {
            let there = ThereNow {
                // The fourth is another object since; the sixth nobody can walk.
                whole: vec![(snapshot(4), [44; 32]), (snapshot(5), [5; 32])],
                listed: &listed_snapshots,
                segments: &segments,
                has_pack: &|pack| pack == PackId([2; 16]),
            };
            cleanups(lists).told_again(DOMAIN, Timestamp::default(), &[], &there)
        };
        let (id, list) = again(lists.clone()).expect("there are many");
        assert_eq!((id.counter, list.before, list.first), (11, Some([10; 32]), Some(10)));
        assert_eq!((list.packs, list.given_up), (vec![PackId([2; 16])], vec![SessionId([3; 16])]));
        assert_eq!(list.accounted, [(snapshot(4), [44; 32]), (snapshot(5), [5; 32]), (snapshot(6), [6; 32])]);
        assert_eq!(list.removed, removes(2).removed, "the ninth was taken back");
        let replaced = [2, 3, 4, 5, 6, 7, 8, 10].map(|counter| CleanupId { counter, random: [counter as u8; 8] });
        let mut gone: Vec<String> = replaced.iter().map(|id| ObjectKey::cleanup(*id).to_string()).collect();
        gone.extend([gone_list, listed]);
        gone.sort();
        assert_eq!(list.gone, gone, "{merged} is not there any more");
        assert!(list.is_deleting && list.is_complete && !list.is_of_damage && list.counting.is_empty());

        // Where two have the highest number, nobody knows which of them a run honoured.
        let twin = Arc::new(ListAsTold { digest: [77; 32], ..(*lists[9]).clone() });
        let forked = again([lists.clone(), vec![twin]].concat()).expect("there are many");
        assert_eq!(forked.1.first, None);
        assert!(again(lists[2..].to_vec()).is_none(), "they are few");
    }

    #[test]
    fn lists_go_when_what_tells_them_again_is_old_and_everywhere() {
        let names = |counters: &[u64]| -> Vec<String> {
            counters
                .iter()
                .map(|counter| {
                    ObjectKey::cleanup(CleanupId { counter: *counter, random: [*counter as u8; 8] }).to_string()
                })
                .collect()
        };
        let complete = |gone| CleanupList { gone, is_complete: true, ..deletes(&[]) };
        let with = |days| {
            cleanups(vec![
                told(1, 90, CleanupList::default()),
                told(2, 90, gives_up(1)),
                told(3, 90, CleanupList::default()),
                told(4, days, complete(names(&[1, 3]))),
                told(5, 90, CleanupList::default()),
                told(6, 90, CleanupList { gone: names(&[5]), ..CleanupList::default() }),
            ])
        };
        let all: BTreeSet<CleanupId> = with(90).opened.keys().copied().collect();
        let go = |days, everywhere: &BTreeSet<CleanupId>| -> Vec<u64> {
            with(days).told_elsewhere(Timestamp::default(), everywhere).iter().map(|id| id.counter).collect()
        };
        assert_eq!(go(2, &all), [1, 3], "the second counts, and what is behind it is not told again");
        assert_eq!(go(1, &all), [0; 0]);
        let lacking = all.iter().copied().filter(|id| id.counter != 4).collect();
        assert_eq!(go(2, &lacking), [0; 0]);
    }
}
