//! Rewriting packs before anything is doomed: what is needed of them is stored anew, so that they can go whole.
//!
//! When it is done, all that was stored is durable and named by segments of a reader, and the packs go the way of dead ones. Whatever
//! ends it before, the new packs are found by the next run, which takes the old places for dead and stores nothing twice. A pack of
//! which something that is needed cannot be had stays, and is told; so is what there was no more time for. Where the time is bounded some
//! of it is kept for waiting: if sessions stopped every run behind its rewriting, the repository would only grow.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;

use crate::model::id::{ChunkKey, DomainEpoch, DomainId, PackId};
use crate::model::key::ObjectKey;
use crate::ops::prune::look::Look;
use crate::ops::prune::plan::{PackToRewrite, PrunePlan};
use crate::ops::prune::{CleanUp, PruneError, PruneOptions, PruneReport};
use crate::progress::{Counter, Problem, Totals, chain};
use crate::repository::index::misplaced::PlaceSums;
use crate::repository::index::own::OwnPack;
use crate::repository::reader::ReadError;
use crate::repository::rewriting::{CopiedFrame, CopyError, RewriteError, Rewriting, RewritingOptions};

const MIB: u64 = 1 << 20;
/// What a run takes besides what follows: the program, claims and index entries, and what is kept of packs and chunks.
const PROGRAM: u64 = 40 * MIB;
/// One who copies packs: a frame, its compressor, frames that are on their way to it, and those of 8 MiB that it takes apart.
const EACH_COPIER: u64 = 24 * MIB;
/// Packs in memory: one of data and one of trees being filled, one being checked or waiting, one on its way.
const PACKS_HELD: u64 = 4;
/// Room of a pack beyond its target.
const PACK_SLACK: u64 = 2 * MIB;
/// No pack is made smaller than this, because every pack is a request.
const PACK_LEAST: u64 = 4 * MIB;
/// Who copies packs at the same time, at most.
const COPIERS_MAX: u64 = 2;

/// What each part of rewriting may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RewriteShares {
    pub(super) pack_target_bytes: u32,
    copiers: u64,
}

/// Shares out `memory_bytes`, of which an eighth is kept for frames, for packs of at most `pack_target_bytes`.
fn share(memory_bytes: u64, pack_target_bytes: u32) -> RewriteShares {
    let whole = memory_bytes.saturating_sub(PROGRAM + memory_bytes / 8);
    let packs = |target: u64| PACKS_HELD * (target + PACK_SLACK);
    let full = u64::from(pack_target_bytes);
    let copiers = (whole.saturating_sub(packs(full)) / EACH_COPIER).clamp(1, COPIERS_MAX);
    let largest = (whole.saturating_sub(copiers * EACH_COPIER) / PACKS_HELD).saturating_sub(PACK_SLACK);
    let target = full.min(largest.max(PACK_LEAST));
    RewriteShares { pack_target_bytes: u32::try_from(target).expect("no larger than the one given"), copiers }
}

/// Returns how long after its beginning a run rewrites packs, where that is bounded: sessions can be waited for behind it as long as they
/// are to be, or for half of the time.
fn rewriting_time(options: &PruneOptions) -> Option<Duration> {
    options.max_time.map(|all| all - options.wait.min(all / 2))
}

/// The packs of one domain and epoch that wait to be rewritten, and those of which it was done.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<PackToRewrite>>,
    copied: Mutex<Vec<PackToRewrite>>,
    not: Mutex<Vec<(PackId, ReadError)>>,
    /// Nothing more is begun.
    ends: AtomicBool,
}

impl Queue {
    fn of(packs: Vec<PackToRewrite>) -> Self {
        Self { waiting: Mutex::new(packs.into()), ..Self::default() }
    }

    fn next(&self) -> Option<PackToRewrite> {
        let is_open = !self.ends.load(Ordering::Relaxed);
        is_open.then(|| self.waiting.lock().expect("no panic while held").pop_front()).flatten()
    }
}

impl CleanUp<'_> {
    /// Returns what rewriting may take.
    pub(super) fn shares(&self) -> RewriteShares {
        share(self.options.memory_bytes, self.deleting.repository().config().pack_target_bytes)
    }

    /// Tells whether no more packs are begun.
    fn has_rewritten_enough(&self) -> bool {
        rewriting_time(self.options).is_some_and(|time| self.begun.elapsed() >= time)
    }

    /// Rewrites packs as planned; returns those that may go by that, by their domains.
    pub(super) async fn rewrite(
        &self,
        look: &Look,
        plan: &PrunePlan,
        report: &mut PruneReport,
    ) -> Result<BTreeMap<DomainId, Vec<PackId>>, PruneError> {
        let mut sessions: BTreeMap<DomainEpoch, Vec<PackToRewrite>> = BTreeMap::new();
        plan.rewrite.iter().for_each(|pack| sessions.entry(pack.at).or_default().push(*pack));
        let mut going: BTreeMap<DomainId, Vec<PackId>> = BTreeMap::new();
        if sessions.is_empty() {
            return Ok(going);
        }
        self.monitor.phase("rewriting packs");
        let packs = Some(plan.rewrite.len() as u64);
        self.monitor.totals(Totals { packs, ..Totals::default() });
        let rewritten = plan.rewrite.iter().map(|it| it.pack);
        let left_out: HashSet<PackId> = plan.dead.values().flatten().copied().chain(rewritten).collect();
        let sums = look.index.place_sums();
        for (at, packs) in sessions {
            if self.has_rewritten_enough() {
                report.postponed_packs += packs.len() as u64;
                continue;
            }
            let queue = Queue::of(packs);
            self.rewrite_in(look, at, &queue, &left_out, &sums, report).await?;
            for pack in queue.copied.into_inner().expect("no panic while held") {
                report.rewritten_packs += 1;
                report.rewritten_bytes += pack.bytes;
                going.entry(at.domain).or_default().push(pack.pack);
            }
            report.postponed_packs += queue.waiting.into_inner().expect("no panic while held").len() as u64;
        }
        Ok(going)
    }

    /// Rewrites the packs of one domain and epoch.
    async fn rewrite_in(
        &self,
        look: &Look,
        at: DomainEpoch,
        queue: &Queue,
        left_out: &HashSet<PackId>,
        sums: &PlaceSums,
        report: &mut PruneReport,
    ) -> Result<(), PruneError> {
        let shares = self.shares();
        let options = RewritingOptions {
            pack_target_bytes: shares.pack_target_bytes,
            packs_in_flight: 1,
            host: self.options.host.clone(),
            clock: self.options.clock,
        };
        let rewriting = self.deleting.begin_rewriting(at, left_out, &look.reader, options, self.monitor).await?;
        let copiers = (0..shares.copiers).map(|_| self.copy(look, &rewriting, queue, sums));
        let (frames, ended): (Vec<CopiedFrame>, Vec<Result<(), ReadError>>) =
            join_all(copiers).await.into_iter().unzip();
        let uploaded = rewriting.finish(frames).await?;
        ended.into_iter().collect::<Result<(), ReadError>>().map_err(RewriteError::Read)?;
        if self.cancel.is_cancelled() {
            return Err(PruneError::Cancelled);
        }
        report.stored_packs += uploaded.packs;
        report.stored_bytes += uploaded.bytes;
        let not = std::mem::take(&mut *queue.not.lock().expect("no panic while held"));
        self.tell_not_copied(not, report).await
    }

    /// Copies packs as long as there are any, there is time, and nothing is out of reach.
    async fn copy(
        &self,
        look: &Look,
        rewriting: &Rewriting,
        queue: &Queue,
        sums: &PlaceSums,
    ) -> (CopiedFrame, Result<(), ReadError>) {
        let mut frame = rewriting.frame();
        let is_needed = |key: &ChunkKey| look.needed.has(key);
        let wrong = |own: &OwnPack| {
            let is_lied_about = !look.index.misplaced(own, sums).is_empty();
            is_lied_about.then(|| "index segments place chunks in it that are not there".to_owned())
        };
        while !self.cancel.is_cancelled()
            && !self.has_rewritten_enough()
            && let Some(pack) = queue.next()
        {
            match rewriting.copy(&mut frame, pack.pack, &is_needed, &wrong).await {
                Ok(()) => queue.copied.lock().expect("no panic while held").push(pack),
                Err(CopyError::Read(error)) if error.is_damage() => {
                    queue.not.lock().expect("no panic while held").push((pack.pack, error));
                }
                Err(error) => {
                    queue.ends.store(true, Ordering::Relaxed);
                    let CopyError::Read(error) = error else { break };
                    return (frame, Err(error));
                }
            }
            self.monitor.add(Counter::Packs, 1);
        }
        (frame, Ok(()))
    }

    /// Tells which packs stay because something that is needed of them cannot be had, unless another clean-up is deleting them.
    async fn tell_not_copied(&self, not: Vec<(PackId, ReadError)>, report: &mut PruneReport) -> Result<(), PruneError> {
        if not.is_empty() {
            return Ok(());
        }
        let others = self.deleting.repository().cleanups().await?.to_be_deleted(&[], self.options.clock.now());
        for (pack, error) in not.into_iter().filter(|(pack, _)| !others.contains_key(pack)) {
            let message =
                format!("stays as it is, because something that is needed of it cannot be had: {}", chain(&error));
            self.monitor.problem(Problem::damaged(ObjectKey::pack(pack).to_string(), message));
            report.damaged.push(pack);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_never_more_than_the_whole() {
        for memory in [128, 160, 192, 256, 512, 1024] {
            for target in [1, 8, 32, 64, 512] {
                let shares = share(memory * MIB, target << 20);
                let packs = PACKS_HELD * (u64::from(shares.pack_target_bytes) + PACK_SLACK);
                let sum = PROGRAM + memory * MIB / 8 + shares.copiers * EACH_COPIER + packs;
                assert!(sum <= memory * MIB, "{memory} MiB, packs of {target}: {shares:?} take {}", sum / MIB);
            }
        }
        let usual = share(256 * MIB, 32 << 20);
        assert_eq!((u64::from(usual.pack_target_bytes) / MIB, usual.copiers), (32, 2));
    }

    #[test]
    fn time_is_kept_for_waiting_but_no_more_than_half() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        for (max_time, wait, rewriting) in
            [(120, 60, 60), (120, 10, 110), (120, 0, 120), (120, 600, 60), (30, 60, 15), (0, 60, 0)]
        {
            let max_time = Some(minutes(max_time));
            let options = PruneOptions { max_time, wait: minutes(wait), ..PruneOptions::default() };
            assert_eq!(rewriting_time(&options), Some(minutes(rewriting)), "{max_time:?}, waiting {wait}");
        }
        assert_eq!(rewriting_time(&PruneOptions::default()), None);
    }
}
