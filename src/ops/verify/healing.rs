//! What becomes of what was found damaged: writers are told not to rely on it, so that the next backup stores again what its
//! sources still have; and what was told before and is stored elsewhere by now is healed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::model::time::Timestamp;
use crate::ops::verify::damage::FindingSubject;
use crate::ops::verify::found::FoundDamage;
use crate::progress::{Monitor, chain};
use crate::repository::Repository;
use crate::repository::damaged::DamagedPacks;
use crate::repository::index::Index;

/// What became of damaged packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healing {
    /// Packs of which writers know by now, by this run or an earlier one, and of which something that snapshots need is nowhere else.
    pub waiting: u64,
    /// Those of them that this run told.
    pub told: u64,
    /// Damaged packs of which everything that snapshots need is stored elsewhere.
    pub healed: u64,
    /// Packs that were found damaged before and are right now.
    pub right_again: u64,
    /// Packs that were found damaged before, of which this run did not read the data.
    pub unread: u64,
    /// Damaged packs that writers go on relying on.
    pub not_told: u64,
    /// Why they could not be told, if anything was tried.
    pub why_not: Option<String>,
}

/// What to tell, as a verification found it.
#[derive(Debug, Default)]
pub(super) struct HealingPlan {
    news: DamagedPacks,
    healing: Healing,
}

impl HealingPlan {
    /// Judges what was found beside the packs that were `known` to be damaged; `read` are those that were read whole and are right.
    /// Findings of what is healed are taken out.
    pub(super) fn of(index: &Index, known: &BTreeSet<PackId>, read: &[PackId], damage: &mut FoundDamage) -> Self {
        let mut plan = Self::default();
        let read: HashSet<PackId> = read.iter().copied().collect();
        for pack in known.iter().filter(|pack| index.names(**pack)) {
            let object = FindingSubject::Object(ObjectKey::pack(*pack));
            if damage.hit.contains(pack) {
                plan.healing.waiting += 1;
            } else if damage.unreliable.contains(pack) || damage.findings.has(&object) {
                plan.healing.healed += 1;
                damage.findings.remove(&object);
            } else if read.contains(pack) {
                plan.news.right.insert(*pack);
            } else {
                plan.healing.unread += 1;
            }
        }
        for pack in damage.unreliable.iter().filter(|pack| !known.contains(pack)) {
            for record in index.pack(*pack) {
                plan.news.found.entry(record.header.at.domain).or_default().insert(*pack);
            }
        }
        plan
    }

    /// Tells writers, if they are to be told and there is anything to tell.
    pub(super) async fn carry_out(
        self,
        repository: &Arc<Repository>,
        tell: bool,
        now: Timestamp,
        monitor: &dyn Monitor,
    ) -> Healing {
        let Self { news, mut healing } = self;
        let found: BTreeSet<PackId> = news.found.values().flatten().copied().collect();
        let (found, right) = (found.len() as u64, news.right.len() as u64);
        if found + right == 0 {
            return healing;
        }
        monitor.phase("telling backups what is damaged");
        let told = match repository.writing() {
            _ if !tell => Err(None),
            Ok(writing) => writing.tell_damaged(&news, now).await.map_err(|error| Some(chain(&error))),
            Err(error) => Err(Some(chain(&error))),
        };
        match told {
            Ok(_) => {
                healing.told = found;
                healing.waiting += found;
                healing.right_again = right;
            }
            Err(why) => (healing.not_told, healing.why_not) = (found, why),
        }
        healing
    }
}
