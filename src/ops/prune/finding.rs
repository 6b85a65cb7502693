//! Finding out what is dead, and what is to be rewritten, from all that is stored and all that snapshots need.
//!
//! Of a chunk that lies in several packs one place is needed, the others are dead space: where a pack was rewritten and the run was cut
//! off, the new pack is enough, and the old one dead. Which place that is depends on nothing but what is stored, so that all who look
//! come to the same; only one counts of which a reader says so, in a pack that stays and that nobody found damaged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt};

use crate::model::id::{ChunkKey, DomainEpoch, PackId};
use crate::model::key::ObjectKey;
use crate::ops::prune::copies::Copies;
use crate::ops::prune::look::Look;
use crate::ops::prune::plan::{PrunePlan, RewriteLimits};
use crate::ops::prune::{CleanUp, PruneError};
use crate::repository::index::needed::{PackUse, ToldPlace};
use crate::repository::index::table::ChunkPlace;
use crate::repository::state::LeftLists;

/// Packs asked at the same time what is in them.
const ASKED: usize = 8;

/// How good a place is: that in the pack of which the largest part is needed, then in the largest one, then in that of the lowest id.
type Rank = (u64, u32, Reverse<PackId>, Reverse<(u32, u32)>);

/// Packs as places are chosen among them.
struct Ranked<'a> {
    packs: &'a BTreeMap<PackId, PackUse>,
    /// Those whose places count.
    counting: HashMap<PackId, DomainEpoch>,
}

impl Ranked<'_> {
    fn of(&self, place: &ChunkPlace) -> Rank {
        let pack = self.packs.get(&place.pack);
        let needed = pack.map_or(0, |it| (it.needed_bytes << 20).checked_div(it.bytes).unwrap_or(0));
        let size = pack.map_or(0, |it| it.size);
        (needed, size, Reverse(place.pack), Reverse((place.frame, place.offset)))
    }

    /// Tells whether the place `told` of a chunk need not stay, because another one of all its `places` does.
    fn is_superfluous(&self, copies: &Copies, key: &ChunkKey, told: &ToldPlace, places: &[ToldPlace]) -> bool {
        if places.len() < 2 {
            return false;
        }
        let Some(at) = self.packs.get(&told.place.pack).map(|pack| pack.at) else { return false };
        // In another epoch a chunk outlives the keys that the snapshot names.
        let counts = |other: &ToldPlace| other.is_vouched_for && self.counting.get(&other.place.pack) == Some(&at);
        let is_better = |other: &ToldPlace| !counts(told) || self.of(&other.place) > self.of(&told.place);
        let is_recipe = told.place.codec.holds_recipes();
        let same = copies.same_recipes(key, &told.place);
        places.iter().filter(|other| counts(other) && other.place != told.place).any(|other| {
            match other.place.codec.holds_recipes() {
                false => is_recipe || is_better(other),
                true => is_recipe && same.contains(&other.place.pack) && is_better(other),
            }
        })
    }
}

impl CleanUp<'_> {
    /// Finds out which packs are dead, and which are to be rewritten.
    pub(super) async fn plan(&self, look: &Look) -> Result<PrunePlan, PruneError> {
        self.monitor.phase("looking what nothing needs");
        let now = self.options.clock.now();
        // What only a trial finds of them, since a run takes them back first.
        let left = self.deleting.repository().state().left(LeftLists::Dooming);
        let doomed = look.index.cleanups().to_be_deleted(&left, now);
        let goes = |pack: PackId| doomed.contains_key(&pack);
        // Of what an earlier run was deleting and did not, a snapshot may need chunks that were stored again since.
        let mut copies = Copies::told_by(&look.index);
        copies.ask(&look.reader, &look.index, &look.needed, &goes).await?;
        copies.compare_recipes(&look.reader, &look.index, several_recipes(look)?).await?;
        let all = look.needed.packs(|_, _, _| false).ok_or(PruneError::Cache)?;
        let damaged = look.index.cleanups().found_damaged();
        let counts = |pack: &PackId| look.index.keeps(*pack) && !goes(*pack) && !damaged.contains(pack);
        let counting = all.iter().filter(|(pack, _)| counts(pack)).map(|(pack, it)| (*pack, it.at)).collect();
        let ranked = Ranked { packs: &all, counting };
        let is_superfluous = |key: &ChunkKey, told: &ToldPlace, places: &[ToldPlace]| {
            goes(told.place.pack) && copies.has(&look.index, &goes, key, &told.place)
                || ranked.is_superfluous(&copies, key, told, places)
        };
        let packs = look.needed.packs(is_superfluous).ok_or(PruneError::Cache)?;
        let mut packs: BTreeMap<PackId, PackUse> =
            packs.into_iter().filter(|(pack, _)| look.index.is_there(*pack)).collect();
        packs.extend(self.orphans(look).await?);
        let needed = packs.iter().find_map(|(pack, it)| Some((*pack, *doomed.get(pack).filter(|_| !it.is_dead())?)));
        if let Some((pack, list)) = needed {
            return Err(PruneError::Doomed { list: ObjectKey::cleanup(list), pack });
        }
        let doubtful = self.doubtful(look, &packs, &goes, &copies).await?;
        let limits = RewriteLimits {
            max_unused: self.options.max_unused,
            max_rewrite: self.options.max_rewrite.unwrap_or(u64::MAX),
            full_bytes: self.shares().pack_target_bytes.into(),
        };
        let plan = PrunePlan::of(&packs, doubtful, |pack| !counts(&pack), &limits);
        let snapshots = look.index.snapshots().iter().filter(|snapshot| !snapshot.is_leaving).count() as u64;
        Ok(PrunePlan { made: now, snapshots, ..plan })
    }

    /// Asks packs themselves of which nothing is needed, where no reader says what is in them; returns those that stay, and why.
    async fn doubtful(
        &self,
        look: &Look,
        packs: &BTreeMap<PackId, PackUse>,
        goes: &(dyn Fn(PackId) -> bool + Sync),
        copies: &Copies,
    ) -> Result<BTreeMap<PackId, String>, PruneError> {
        let uncertain = packs.iter().filter(|(_, it)| it.is_dead() && !it.is_certain).map(|(pack, _)| *pack);
        let asked = stream::iter(uncertain.collect::<Vec<_>>()).map(|pack| async move {
            let own = look.reader.own_record(pack).await;
            (pack, own)
        });
        let mut asked = asked.buffer_unordered(ASKED);
        let mut doubtful = BTreeMap::new();
        while let Some((pack, own)) = asked.next().await {
            let goes = |other: PackId| other == pack || goes(other);
            let why = match own.map_err(PruneError::Pack)? {
                Err(why) => Some(why),
                Ok(own) => {
                    let is_needed = |(key, place): (ChunkKey, ChunkPlace)| {
                        look.needed.has(&key) && !copies.has(&look.index, &goes, &key, &place)
                    };
                    own.places().any(is_needed).then(|| "has chunks that are needed".to_owned())
                }
            };
            doubtful.extend(why.map(|why| (pack, why)));
        }
        Ok(doubtful)
    }
}

/// Returns the places of needed chunks that are stored as recipes more than once.
fn several_recipes(look: &Look) -> Result<Vec<(ChunkKey, ChunkPlace)>, PruneError> {
    let mut several = Vec::new();
    let mut see = |key: &ChunkKey, is_needed: bool, places: &[ToldPlace]| {
        let recipes =
            places.iter().filter(|told| told.place.codec.holds_recipes() && look.index.keeps(told.place.pack));
        let recipes: Vec<_> = recipes.map(|told| (*key, told.place)).collect();
        if is_needed && recipes.len() > 1 {
            several.extend(recipes);
        }
    };
    look.needed.each_chunk(&mut see).ok_or(PruneError::Cache)?;
    Ok(several)
}
