//! Carrying out a plan, in two halves.
//!
//! The first half dooms packs by a list for each domain and ends when no session is left that may rely on them. The second half looks
//! again, and either withdraws the lists or says by others that the packs are being deleted, and deletes them. Where it ends between the
//! two, the lists stand: they are this machine's, which remembers them, and the first thing that its next run does is to name them as gone.
//! Two machines of which each waits for the other to do so would wait for weeks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::{ChunkKey, DomainId, PackId, SessionId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::SnapshotId;
use crate::model::time::Timestamp;
use crate::ops::prune::copies::{Copies, LastChunk};
use crate::ops::prune::lists::names;
use crate::ops::prune::look::Look;
use crate::ops::prune::waiting::{RunningSessions, Waited};
use crate::ops::prune::{CleanUp, PruneError, PruneReport, PruneUnfinished};
use crate::progress::{Counter, Totals};
use crate::repository::index::complete::{IncompleteError, NeedingSnapshot};
use crate::repository::index::table::ChunkPlace;
use crate::repository::state::LeftLists;

/// The packs of a domain that this run has doomed.
struct DoomedPacks {
    packs: Vec<PackId>,
    /// The list that doomed them, and when.
    first: CleanupId,
    made: Timestamp,
    /// The lists of this run: nobody else acts upon them.
    own: Vec<CleanupId>,
    given_up: Vec<SessionId>,
}

type Doomed = BTreeMap<DomainId, DoomedPacks>;

/// What the second look found.
struct SecondLook {
    second: Look,
    /// A chunk that is needed and would be lost, with the pack.
    needed: Option<PackId>,
    /// The snapshots that may be accounted for.
    whole: Vec<NeedingSnapshot>,
}

impl CleanUp<'_> {
    /// Does it all.
    pub(super) async fn run(&self) -> Result<PruneReport, PruneError> {
        self.check_keyring().await?;
        let mut report = PruneReport::default();
        if !self.options.dry_run {
            self.take_back_left().await?;
        }
        let expired = self.expired().await?;
        let would_go: BTreeSet<SnapshotId> = match self.options.dry_run {
            true => expired.iter().map(|removed| removed.id).collect(),
            false => BTreeSet::new(),
        };
        if !self.options.dry_run {
            self.remove(expired, &mut report).await?;
        }
        // Snapshots that are named and not removed yet may be kept: what they need is not to be taken for dead.
        if report.unfinished.is_some() {
            return Ok(report);
        }
        let first = Look::take(self, |id| !would_go.contains(&id)).await?;
        report.plan = self.plan(&first).await?;
        // Some of those that would go count for nothing: their writer was thrown out.
        let counted = |snapshot: &&NeedingSnapshot| !snapshot.is_leaving && !would_go.contains(&snapshot.id);
        report.plan.snapshots = first.index.snapshots().iter().filter(counted).count() as u64;
        report.plan.expired = would_go.len() as u64 + report.removed_snapshots;
        if self.options.dry_run {
            return Ok(report);
        }
        self.tell_lists_again(&first).await?;
        let (going, full) = self.find_going(&first, &mut report).await?;
        if going.is_empty() {
            return Ok(report);
        }
        let mut doomed = self.doom(&going).await?;
        let domains: Vec<DomainId> = doomed.keys().copied().collect();
        match self.wait(&domains).await? {
            Waited::Running(running) => {
                report.unfinished = Some(PruneUnfinished::Running(running.into_iter().collect()));
                return Ok(report);
            }
            Waited::Over(given_up) => self.give_up(&mut doomed, given_up).await?,
        }
        report.given_up = doomed.values().flat_map(|doomed| doomed.given_up.iter().copied()).collect();
        let verdict = self.look_again(&first, &doomed).await?;
        self.check_keyring().await?;
        if self.cancel.is_cancelled() {
            return Err(PruneError::Cancelled);
        }
        match verdict.needed {
            Some(pack) => {
                self.withdraw(&doomed, &verdict).await?;
                report.unfinished = Some(PruneUnfinished::Needed { pack });
            }
            None => self.delete(doomed, &verdict, &mut report).await?,
        }
        report.unfinished = report.unfinished.or(full);
        Ok(report)
    }

    /// Rewrites what is to be rewritten, and returns all packs that may go by then; of those only the dead ones where the store is full:
    /// they make room for the next run, which finds what was stored by then.
    async fn find_going(
        &self,
        first: &Look,
        report: &mut PruneReport,
    ) -> Result<(BTreeMap<DomainId, Vec<PackId>>, Option<PruneUnfinished>), PruneError> {
        let plan = report.plan.clone();
        let (mut going, full) = match self.rewrite(first, &plan, report).await {
            Ok(going) => (going, None),
            Err(error) if error.outcome() == Outcome::Full && plan.dead_packs > 0 => {
                (BTreeMap::new(), Some(PruneUnfinished::Full))
            }
            Err(error) => return Err(error),
        };
        plan.dead.iter().for_each(|(domain, dead)| going.entry(*domain).or_default().extend(dead));
        going.retain(|_, packs| !packs.is_empty());
        Ok((going, full))
    }

    /// Keeps other clean-ups of this machine away; where nothing can be locked, two at once do no harm.
    pub(super) fn alone(&self) -> Result<Option<File>, PruneError> {
        match self.deleting.repository().state().clean_up_alone() {
            Ok(Some(lock)) => Ok(Some(lock)),
            Ok(None) => Err(PruneError::Busy),
            Err(_) => Ok(None),
        }
    }

    /// Makes sure that what is known of domains, writers and epochs is the newest.
    async fn check_keyring(&self) -> Result<(), PruneError> {
        if self.deleting.repository().has_newest_keyring().await? { Ok(()) } else { Err(PruneError::Keyring) }
    }

    /// Names the lists as gone that earlier runs of this machine left: those runs have ended. It comes first, so that no doubt that ends
    /// this run leaves them in the way of others.
    async fn take_back_left(&self) -> Result<(), PruneError> {
        let left = self.deleting.repository().state().left(LeftLists::Dooming);
        if left.is_empty() {
            return Ok(());
        }
        let cleanups = self.deleting.repository().cleanups().await?;
        let mut by_domain: BTreeMap<DomainId, Vec<CleanupId>> = BTreeMap::new();
        for (domain, id) in cleanups.standing().filter(|(_, id)| left.contains(id)) {
            by_domain.entry(domain).or_default().push(id);
        }
        for (domain, mut lists) in by_domain {
            self.put_numbered(domain, &CleanupList::default(), &mut lists, |_| {}).await?;
        }
        let is_unseen = |id: &&CleanupId| !cleanups.was_opened(**id);
        self.note_left(LeftLists::Dooming, &left.iter().filter(is_unseen).copied().collect::<Vec<_>>());
        Ok(())
    }

    /// Puts a list for each domain that dooms those of its packs that are `going`.
    async fn doom(&self, going: &BTreeMap<DomainId, Vec<PackId>>) -> Result<Doomed, PruneError> {
        self.monitor.phase("telling what is to be deleted");
        let mut noted = self.deleting.repository().state().left(LeftLists::Dooming);
        let mut doomed = Doomed::new();
        for (domain, packs) in going {
            let (mut own, packs) = (Vec::new(), packs.clone());
            let list = CleanupList { packs: packs.clone(), ..CleanupList::default() };
            let noted = (LeftLists::Dooming, &mut noted);
            let (first, made) = self.put_alone(*domain, &list, &mut own, noted).await?;
            doomed.insert(*domain, DoomedPacks { packs, first, made, own, given_up: Vec::new() });
        }
        Ok(doomed)
    }

    /// Says which sessions are not waited for any longer, before anything more is looked at.
    async fn give_up(&self, doomed: &mut Doomed, sessions: RunningSessions) -> Result<(), PruneError> {
        if !sessions.is_empty() {
            // A lease of an epoch that began meanwhile cannot be opened, and is no dead one.
            self.check_keyring().await?;
        }
        for (id, session) in sessions {
            if let Some(doomed) = doomed.get_mut(&session.domain) {
                doomed.given_up.push(id);
            }
        }
        let mut own = self.deleting.repository().state().left(LeftLists::Dooming);
        for (domain, doomed) in doomed.iter_mut().filter(|(_, doomed)| !doomed.given_up.is_empty()) {
            let (id, before) = self.deleting.repository().cleanups().await?.behind_newest(*domain);
            let made = self.made();
            let list = CleanupList { made, given_up: doomed.given_up.clone(), before, ..CleanupList::default() };
            doomed.own.push(id);
            own.push(id);
            self.note_left(LeftLists::Dooming, &own);
            self.deleting.writing().put_list(*domain, id, &list).await?;
        }
        Ok(())
    }

    /// Lists everything again, and finds out whether each chunk that any snapshot needs stays.
    async fn look_again(&self, first: &Look, doomed: &Doomed) -> Result<SecondLook, PruneError> {
        let was_there = |id: &SnapshotId| first.index.listed().contains(id);
        let second = Look::take(self, |id| !was_there(&id)).await?;
        let counted = first.index.snapshots().iter().map(|snapshot| snapshot.id);
        for missing in counted.filter(|id| !second.index.listed().contains(id)) {
            if !self.deleting.repository().was_removed(missing).await.map_err(IncompleteError::Snapshots)? {
                return Err(PruneError::Vanished(missing));
            }
        }
        let now = self.options.clock.now();
        let own: BTreeSet<PackId> = doomed.values().flat_map(|doomed| doomed.packs.iter().copied()).collect();
        let all = second.index.cleanups().to_be_deleted(&[], now);
        let goes = |pack: PackId| own.contains(&pack) || all.contains_key(&pack);
        let mut copies = Copies::told_by(&second.index);
        let mut lost = Vec::new();
        for needed in [&first.needed, &second.needed] {
            copies.ask(&second.reader, &second.index, needed, &goes).await?;
            let stays = |place: &ChunkPlace| second.index.keeps(place.pack) && !goes(place.pack);
            let (mut plain, mut elsewhere) = (LastChunk::default(), LastChunk::default());
            // What another clean-up has deleted since lies somewhere else, and that may not be what goes now.
            let is_lost = |key: &ChunkKey, place: &ChunkPlace| match second.index.is_there(place.pack) {
                true => !copies.has(&second.index, &goes, (key, place), &mut plain),
                false => !elsewhere.is(key, || second.index.places(key).iter().any(stays)),
            };
            lost.push(needed.find(|pack| goes(pack) || !second.index.is_there(pack), is_lost));
        }
        let [old, new] = [&lost[0], &lost[1]].map(|lost| lost.map(|(_, place)| place.pack));
        let honours = |snapshot: &NeedingSnapshot| {
            let own = doomed.get(&snapshot.at.domain).map_or(&[][..], |doomed| &doomed.own);
            second.index.cleanups().honours_all(snapshot.at.domain, snapshot.honoured, own, now)
        };
        let is_whole = |snapshot: &&NeedingSnapshot| {
            if snapshot.is_leaving {
                return false;
            }
            let lost = if was_there(&snapshot.id) { old } else { new };
            lost.is_none() || honours(snapshot)
        };
        let whole = second.index.snapshots().iter().filter(is_whole).copied().collect();
        Ok(SecondLook { second, needed: old.or(new), whole })
    }

    /// Names the lists of this run as gone, and accounts for what was seen.
    async fn withdraw(&self, doomed: &Doomed, verdict: &SecondLook) -> Result<(), PruneError> {
        self.monitor.phase("taking back what was to be deleted");
        let cleanups = verdict.second.index.cleanups();
        for (domain, doomed) in doomed {
            let (id, before) = cleanups.behind_newest(*domain);
            let made = self.made();
            let (gone, accounted) = (names(&doomed.own), verdict.unaccounted(*domain, &[]));
            let list = CleanupList { made, gone, accounted, before, ..CleanupList::default() };
            self.deleting.writing().put_list(*domain, id, &list).await?;
        }
        self.note_left(LeftLists::Dooming, &[]);
        Ok(())
    }

    /// Says that the packs are being deleted, and deletes them.
    async fn delete(&self, doomed: Doomed, verdict: &SecondLook, report: &mut PruneReport) -> Result<(), PruneError> {
        self.monitor.phase("deleting");
        let packs = Some(report.plan.dead_packs + report.rewritten_packs);
        self.monitor.totals(Totals { packs, ..Totals::default() });
        let cleanups = verdict.second.index.cleanups();
        let mut all = Vec::new();
        for (domain, doomed) in doomed {
            let (id, before) = cleanups.behind_newest(domain);
            let list = CleanupList {
                made: self.made(),
                gone: names(&doomed.own),
                packs: doomed.packs,
                accounted: verdict.unaccounted(domain, &doomed.given_up),
                given_up: doomed.given_up,
                before,
                first: Some(doomed.first.counter),
                ..CleanupList::default()
            };
            all.push(self.deleting.condemn(domain, id, list, doomed.made).await?);
        }
        self.note_left(LeftLists::Dooming, &[]);
        for condemned in all {
            // It is asked behind the list, so that no pause before it counts for nothing.
            let now = self.options.clock.now();
            if condemned.are_too_late(now) {
                report.unfinished = Some(PruneUnfinished::TooLate);
                continue;
            }
            let index = &verdict.second.index;
            let deleted = |pack: PackId| {
                report.deleted_packs += 1;
                report.deleted_bytes += index.stored_size(pack);
                self.monitor.add(Counter::Packs, 1);
            };
            self.deleting.delete_packs(condemned, now, deleted).await?;
        }
        Ok(())
    }
}

impl SecondLook {
    /// Returns the snapshots of a domain that are to be accounted for: those that no list accounts for which the next one follows, and all
    /// of the sessions that are `given_up`, because a list that accounts for one may be told again by one that does not lead here.
    fn unaccounted(&self, domain: DomainId, given_up: &[SessionId]) -> Vec<(SnapshotId, [u8; 32])> {
        let of_domain = self.whole.iter().copied().filter(|snapshot| snapshot.at.domain == domain);
        let (named, others): (Vec<NeedingSnapshot>, Vec<NeedingSnapshot>) =
            of_domain.partition(|snapshot| given_up.contains(&snapshot.session));
        let objects = |of: Vec<NeedingSnapshot>| of.into_iter().filter_map(|it| Some((it.id, it.digest?)));
        let others = self.second.index.cleanups().unaccounted(domain, objects(others));
        objects(named).chain(others).collect()
    }
}
