//! What cleaning up would do, as a value: shown first, then carried out.

use std::collections::BTreeMap;

use crate::model::id::{DomainId, PackId};
use crate::model::time::Timestamp;
use crate::repository::index::needed::PackUse;

/// Packs on a list, at most: 16 MiB. The next run goes on with the others.
const PACKS_MAX: usize = 1 << 20;

/// What is to be deleted, and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// When it was made.
    pub made: Timestamp,
    /// Snapshots that are removed, because they were forgotten long enough ago.
    pub expired: u64,
    /// Snapshots that need what stays.
    pub snapshots: u64,
    /// The packs of which nothing is needed, by their domains.
    pub dead: BTreeMap<DomainId, Vec<PackId>>,
    /// Their number.
    pub dead_packs: u64,
    /// Their bytes.
    pub dead_bytes: u64,
    /// What stays, and why.
    pub stays: Stays,
}

/// Packs that stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stays {
    /// All of them.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of which a part is not needed.
    pub partly_needed: u64,
    /// About how many of their bytes are not.
    pub unused_bytes: u64,
    /// Those of which nothing is needed as far as segments say, and what they say themselves.
    pub doubtful: BTreeMap<PackId, String>,
}

impl PrunePlan {
    /// Makes the plan from the packs that are there; of the dead ones, those that are `doubtful` stay.
    pub(super) fn of(
        packs: &BTreeMap<PackId, PackUse>,
        doubtful: BTreeMap<PackId, String>,
        snapshots: u64,
        made: Timestamp,
    ) -> Self {
        let mut plan = Self { made, snapshots, ..Self::default() };
        for (id, pack) in packs {
            let size = u64::from(pack.size);
            let dead = plan.dead.entry(pack.at.domain).or_default();
            if pack.is_dead() && !doubtful.contains_key(id) && dead.len() < PACKS_MAX {
                dead.push(*id);
                plan.dead_packs += 1;
                plan.dead_bytes += size;
                continue;
            }
            plan.stays.packs += 1;
            plan.stays.bytes += size;
            let unused = pack.bytes - pack.needed_bytes;
            if !pack.is_dead() && unused > 0 {
                plan.stays.partly_needed += 1;
                plan.stays.unused_bytes += (u128::from(size) * u128::from(unused) / u128::from(pack.bytes)) as u64;
            }
        }
        plan.dead.retain(|_, dead| !dead.is_empty());
        plan.stays.doubtful = doubtful;
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::DomainEpoch;

    #[test]
    fn what_nothing_needs_goes_and_the_rest_is_told() {
        let pack = |domain: u8, needed_chunks: u64, needed_bytes: u64| PackUse {
            at: DomainEpoch { domain: DomainId([domain; 16]), epoch: 1 },
            size: 1000,
            is_certain: true,
            needed_chunks,
            needed_bytes,
            bytes: 400,
        };
        let id = |id: u8| PackId([id; 16]);
        let packs = [pack(1, 0, 0), pack(1, 9, 400), pack(1, 3, 100), pack(2, 0, 0), pack(1, 0, 0)];
        let packs: BTreeMap<_, _> = (1..).map(id).zip(packs).collect();
        let doubtful = BTreeMap::from([(id(5), "cannot be opened".to_owned())]);
        let plan = PrunePlan::of(&packs, doubtful.clone(), 7, Timestamp::from_seconds(9));
        assert_eq!(plan.dead, [(DomainId([1; 16]), vec![id(1)]), (DomainId([2; 16]), vec![id(4)])].into());
        assert_eq!((plan.dead_packs, plan.dead_bytes), (2, 2000));
        let stays = Stays { packs: 3, bytes: 3000, partly_needed: 1, unused_bytes: 750, doubtful };
        assert_eq!(plan.stays, stays);
    }
}
