//! What cleaning up would do, as a value: shown first, then carried out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::model::id::{DomainEpoch, DomainId, PackId};
use crate::model::time::Timestamp;
use crate::model::units::ByteSize;
use crate::repository::index::needed::PackUse;

/// Packs on a list, at most: 16 MiB. The next run goes on with the others.
const PACKS_MAX: usize = 1 << 20;
/// A pack of less than this part of a full one is small.
const SMALL_SHARE: u64 = 4;
/// So many small packs are gathered although they fill none: fewer would be stored anew too often until they do.
const GATHERED_LEAST: usize = 8;

/// How much that nothing needs may stay in packs of which the rest is needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So much of a hundred of all that stays.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: no pack is rewritten because of it.
    Unlimited,
}

impl MaxUnused {
    /// Returns how many bytes may stay beside `used` ones.
    fn beside(self, used: u64) -> u64 {
        match self {
            MaxUnused::Percent(percent) if percent < 100.0 => (used as f64 * percent / (100.0 - percent)) as u64,
            MaxUnused::Percent(_) | MaxUnused::Unlimited => u64::MAX,
            MaxUnused::Bytes(bytes) => bytes,
        }
    }
}

impl Default for MaxUnused {
    fn default() -> Self {
        MaxUnused::Percent(10.0)
    }
}

impl FromStr for MaxUnused {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write for example 5%, 20GiB or unlimited".to_owned();
        if text == "unlimited" {
            return Ok(MaxUnused::Unlimited);
        }
        match text.strip_suffix('%') {
            Some(number) => {
                let percent = number.trim().parse().map_err(|_| wrong())?;
                if (0.0..=100.0).contains(&percent) { Ok(MaxUnused::Percent(percent)) } else { Err(wrong()) }
            }
            None => text.parse::<ByteSize>().map(|size| MaxUnused::Bytes(size.0)).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for MaxUnused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxUnused::Percent(percent) => write!(f, "{percent}%"),
            MaxUnused::Bytes(bytes) => write!(f, "{}", ByteSize(*bytes)),
            MaxUnused::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// What is to be deleted, what is to be rewritten, and what stays.
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
    /// The packs that are to be rewritten, in the order in which that is worth while.
    pub rewrite: Vec<PackToRewrite>,
    /// What stays, and why.
    pub stays: Stays,
}

/// A pack of which the needed part is to be stored anew, and then the whole pack is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackToRewrite {
    /// The pack.
    pub pack: PackId,
    /// The domain and epoch that it is of.
    pub at: DomainEpoch,
    /// Its bytes.
    pub bytes: u64,
    /// About how many of them are needed, and stored anew.
    pub used_bytes: u64,
    /// It is small, and is joined with others.
    pub is_small: bool,
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
    /// Those that would be rewritten if more might be in one run.
    pub left: u64,
    /// Those of which nothing is needed as far as segments say, and what they say themselves.
    pub doubtful: BTreeMap<PackId, String>,
}

/// What is to be rewritten.
#[derive(Debug, Clone, Copy)]
pub(super) struct RewriteLimits {
    /// What may stay.
    pub(super) max_unused: MaxUnused,
    /// Bytes that may be stored anew, at most.
    pub(super) max_rewrite: u64,
    /// Length of a full pack.
    pub(super) full_bytes: u64,
}

impl PrunePlan {
    /// Makes the plan from the packs that are there. Of the dead ones, those that are `doubtful` stay; no pack is rewritten that is
    /// `kept_as_it_is`.
    pub(super) fn of(
        packs: &BTreeMap<PackId, PackUse>,
        doubtful: BTreeMap<PackId, String>,
        kept_as_it_is: impl Fn(PackId) -> bool,
        limits: &RewriteLimits,
    ) -> Self {
        let mut plan = Self::default();
        let mut live = Vec::new();
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
            if !pack.is_dead() {
                live.push((*id, *pack));
            }
        }
        plan.dead.retain(|_, dead| !dead.is_empty());
        plan.stays.doubtful = doubtful;
        plan.stays.partly_needed = live.iter().filter(|(_, pack)| pack.bytes > pack.needed_bytes).count() as u64;
        plan.stays.unused_bytes = live.iter().map(|(_, pack)| pack.unused_bytes()).sum();
        plan.choose(live, kept_as_it_is, limits);
        plan
    }

    /// Chooses what is rewritten: those of which the largest share is not needed, until what stays of it is little enough, then small ones
    /// that can be joined.
    fn choose(
        &mut self,
        mut live: Vec<(PackId, PackUse)>,
        kept_as_it_is: impl Fn(PackId) -> bool,
        limits: &RewriteLimits,
    ) {
        let used = live.iter().map(|(_, pack)| pack.used_bytes()).sum();
        let allowed = limits.max_unused.beside(used);
        let mut room = limits.max_rewrite;
        live.retain(|(id, _)| !kept_as_it_is(*id));
        live.sort_by_cached_key(|(id, pack)| (Reverse(share_of(pack.unused_bytes(), pack.size)), *id));
        let mut rest = Vec::new();
        for (id, pack) in live {
            let is_wanted = self.stays.unused_bytes > allowed && pack.bytes > pack.needed_bytes;
            if !is_wanted || !self.take(id, &pack, false, &mut room) {
                rest.push((id, pack));
            }
        }
        let mut small: BTreeMap<_, Vec<(PackId, PackUse)>> = BTreeMap::new();
        for (id, pack) in rest.into_iter().filter(|(_, it)| u64::from(it.size) < limits.full_bytes / SMALL_SHARE) {
            small.entry((pack.at, pack.kind)).or_default().push((id, pack));
        }
        for mut packs in small.into_values() {
            let bytes: u64 = packs.iter().map(|(_, pack)| pack.used_bytes()).sum();
            if packs.len() >= GATHERED_LEAST || packs.len() > 1 && bytes >= limits.full_bytes {
                packs.sort_by_key(|(id, pack)| (pack.size, *id));
                let smallest: u64 = packs[..2].iter().map(|(_, pack)| pack.used_bytes()).sum();
                // One alone would only be stored once more.
                let are_left = smallest > room;
                for (id, pack) in &packs {
                    if are_left {
                        self.stays.left += 1;
                    } else {
                        self.take(*id, pack, true, &mut room);
                    }
                }
            }
        }
    }

    /// Plans to rewrite a pack, unless that would be too much for one run.
    fn take(&mut self, id: PackId, pack: &PackUse, is_small: bool, room: &mut u64) -> bool {
        let used_bytes = pack.used_bytes();
        let Some(left) = room.checked_sub(used_bytes) else {
            self.stays.left += 1;
            return false;
        };
        *room = left;
        let bytes = u64::from(pack.size);
        self.rewrite.push(PackToRewrite { pack: id, at: pack.at, bytes, used_bytes, is_small });
        self.stays.packs -= 1;
        self.stays.bytes -= bytes;
        self.stays.partly_needed -= u64::from(pack.bytes > pack.needed_bytes);
        self.stays.unused_bytes -= pack.unused_bytes();
        true
    }

    /// Returns the bytes of the packs that are to be rewritten, and about how many of them are stored anew.
    pub fn rewritten_bytes(&self) -> (u64, u64) {
        let sum = |of: fn(&PackToRewrite) -> u64| self.rewrite.iter().map(of).sum();
        (sum(|pack| pack.bytes), sum(|pack| pack.used_bytes))
    }

    /// Returns about how many bytes less there are when all is done.
    pub fn freed_bytes(&self) -> u64 {
        let (bytes, used) = self.rewritten_bytes();
        self.dead_bytes + bytes - used
    }
}

/// Returns the share that `bytes` are of `size`, in millionths.
fn share_of(bytes: u64, size: u32) -> u64 {
    (bytes * 1_000_000).checked_div(u64::from(size)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::PackKind;

    const LIMITS: RewriteLimits =
        RewriteLimits { max_unused: MaxUnused::Unlimited, max_rewrite: u64::MAX, full_bytes: 0 };

    fn pack(domain: u8, needed_chunks: u64, needed_bytes: u64) -> PackUse {
        PackUse {
            at: DomainEpoch { domain: DomainId([domain; 16]), epoch: 1 },
            kind: PackKind::Data,
            size: 1000,
            is_certain: true,
            needed_chunks,
            needed_bytes,
            bytes: 400,
        }
    }

    fn id(id: u8) -> PackId {
        PackId([id; 16])
    }

    fn planned(packs: impl IntoIterator<Item = PackUse>, limits: RewriteLimits) -> PrunePlan {
        let packs: BTreeMap<_, _> = (1..).map(id).zip(packs).collect();
        PrunePlan::of(&packs, BTreeMap::new(), |_| false, &limits)
    }

    fn rewritten(plan: &PrunePlan) -> Vec<u8> {
        plan.rewrite.iter().map(|it| it.pack.0[0]).collect()
    }

    #[test]
    fn what_nothing_needs_goes_and_the_rest_is_told() {
        let packs = [pack(1, 0, 0), pack(1, 9, 400), pack(1, 3, 100), pack(2, 0, 0), pack(1, 0, 0)];
        let packs: BTreeMap<_, _> = (1..).map(id).zip(packs).collect();
        let doubtful = BTreeMap::from([(id(5), "cannot be opened".to_owned())]);
        let plan = PrunePlan::of(&packs, doubtful.clone(), |_| false, &LIMITS);
        assert_eq!(plan.dead, [(DomainId([1; 16]), vec![id(1)]), (DomainId([2; 16]), vec![id(4)])].into());
        assert_eq!((plan.dead_packs, plan.dead_bytes, plan.freed_bytes()), (2, 2000, 2000));
        let stays = Stays { packs: 3, bytes: 3000, partly_needed: 1, unused_bytes: 750, left: 0, doubtful };
        assert_eq!(plan.stays, stays);
    }

    #[test]
    fn packs_are_rewritten_that_free_most_until_little_enough_stays() {
        let packs = || [pack(1, 9, 300), pack(1, 9, 400), pack(1, 1, 40), pack(1, 9, 200)];
        let with = |max_unused| planned(packs(), RewriteLimits { max_unused, ..LIMITS });
        // Of 4000 bytes 1650 are unused, 250, 0, 900 and 500.
        for (max_unused, expected, left) in [
            (MaxUnused::Unlimited, &[][..], 1650),
            (MaxUnused::Percent(100.0), &[], 1650),
            (MaxUnused::Bytes(1650), &[], 1650),
            (MaxUnused::Bytes(1649), &[3], 750),
            (MaxUnused::Bytes(749), &[3, 4], 250),
            (MaxUnused::Percent(25.0), &[3], 750),
            (MaxUnused::Percent(10.0), &[3, 4], 250),
            (MaxUnused::Percent(1.0), &[3, 4, 1], 0),
            (MaxUnused::Bytes(0), &[3, 4, 1], 0),
        ] {
            let plan = with(max_unused);
            assert_eq!((rewritten(&plan), plan.stays.unused_bytes), (expected.to_vec(), left), "{max_unused}");
            assert_eq!(plan.stays.packs, 4 - expected.len() as u64, "{max_unused}");
        }
        let plan = with(MaxUnused::Bytes(0));
        assert_eq!((plan.rewritten_bytes(), plan.freed_bytes()), ((3000, 1350), 1650));
    }

    #[test]
    fn no_more_is_rewritten_than_one_run_may() {
        let packs = || [pack(1, 9, 300), pack(1, 1, 40), pack(1, 9, 200)];
        for (max_rewrite, expected, left) in
            [(0, &[][..], 3), (99, &[], 3), (100, &[2], 2), (599, &[2], 2), (600, &[2, 3], 1), (1350, &[2, 3, 1], 0)]
        {
            let plan = planned(packs(), RewriteLimits { max_unused: MaxUnused::Bytes(0), max_rewrite, ..LIMITS });
            assert_eq!((rewritten(&plan), plan.stays.left), (expected.to_vec(), left), "{max_rewrite}");
        }
    }

    #[test]
    fn small_packs_are_joined_when_they_are_many_or_fill_one() {
        let full = RewriteLimits { full_bytes: 4004, ..LIMITS };
        let small = |count| (0..count).map(|_| pack(1, 9, 400));
        assert_eq!(rewritten(&planned(small(3), full)), [0; 0]);
        assert_eq!(rewritten(&planned(small(5), full)), [1, 2, 3, 4, 5], "they fill one");
        let larger = RewriteLimits { full_bytes: 100_000, ..LIMITS };
        assert_eq!(rewritten(&planned(small(7), larger)), [0; 0]);
        assert_eq!(rewritten(&planned(small(8), larger)).len(), 8, "they are many");
        assert!(planned(small(8), larger).rewrite.iter().all(|it| it.is_small));
        // What is of another kind or domain is not joined with them, and one alone with nothing.
        let tree = PackUse { kind: PackKind::Tree, ..pack(1, 9, 400) };
        assert_eq!(rewritten(&planned(small(7).chain([tree, pack(2, 9, 400)]), larger)), [0; 0]);
        let bounded = |max_rewrite| planned(small(8), RewriteLimits { max_rewrite, ..larger });
        assert_eq!((rewritten(&bounded(1999)).len(), bounded(1999).stays.left), (0, 8));
        assert_eq!((rewritten(&bounded(2999)).len(), bounded(2999).stays.left), (2, 6));
        // One that is not small is left alone.
        assert_eq!(rewritten(&planned(small(8), RewriteLimits { full_bytes: 4000, ..LIMITS })), [0; 0]);
    }

    #[test]
    fn what_may_stay_is_a_share_or_a_size() {
        for (text, expected) in [
            ("10%", MaxUnused::Percent(10.0)),
            ("2.5%", MaxUnused::Percent(2.5)),
            ("0", MaxUnused::Bytes(0)),
            ("20GiB", MaxUnused::Bytes(20 << 30)),
            ("unlimited", MaxUnused::Unlimited),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in ["", "%", "-1%", "101%", "10", "NaN%", "no limit"] {
            assert!(wrong.parse::<MaxUnused>().is_err(), "{wrong}");
        }
    }
}
