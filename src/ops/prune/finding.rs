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
use crate::ops::prune::copies::{Copies, LastChunk, RecipeHash};
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

    /// Tells of each of the places of a chunk whether it need not stay, because another one does; nothing where all stay.
    fn superfluous(&self, copies: &Copies, key: &ChunkKey, places: &[ToldPlace]) -> Vec<bool> {
        if places.len() < 2 {
            return Vec::new();
        }
        // In another epoch a chunk outlives the keys that the snapshot names.
        let counts = |told: &ToldPlace| self.counting.get(&told.place.pack).copied().filter(|_| told.is_vouched_for);
        let mut best: HashMap<(DomainEpoch, StoredAs), Rank> = HashMap::new();
        for told in places {
            if let (Some(at), Some(how)) = (counts(told), StoredAs::of(copies, key, told)) {
                let rank = self.of(&told.place);
                best.entry((at, how)).and_modify(|best| *best = rank.max(*best)).or_insert(rank);
            }
        }
        let is_superfluous = |told: &ToldPlace| {
            let Some(at) = self.packs.get(&told.place.pack).map(|pack| pack.at) else { return false };
            let is_better = |best: &Rank| counts(told).is_none() || *best > self.of(&told.place);
            match StoredAs::of(copies, key, told) {
                Some(StoredAs::Plain) => best.get(&(at, StoredAs::Plain)).is_some_and(is_better),
                _ if best.contains_key(&(at, StoredAs::Plain)) => true,
                Some(recipe) => best.get(&(at, recipe)).is_some_and(is_better),
                None => false,
            }
        };
        places.iter().map(is_superfluous).collect()
    }
}

/// How a chunk is stored at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum StoredAs {
    Plain,
    Recipe(RecipeHash),
}

impl StoredAs {
    /// Tells how; `None` of a recipe that nobody looked at, or that is damaged.
    fn of(copies: &Copies, key: &ChunkKey, told: &ToldPlace) -> Option<Self> {
        match told.place.codec.holds_recipes() {
            false => Some(StoredAs::Plain),
            true => copies.recipe_at(key, &told.place).map(StoredAs::Recipe),
        }
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
        let all = look.needed.packs(|_, _| Vec::new()).ok_or(PruneError::Cache)?;
        let damaged = look.index.cleanups().found_damaged();
        let counts = |pack: &PackId| look.index.keeps(*pack) && !goes(*pack) && !damaged.contains(pack);
        let counting = all.iter().filter(|(pack, _)| counts(pack)).map(|(pack, it)| (*pack, it.at)).collect();
        let ranked = Ranked { packs: &all, counting };
        let superfluous = |key: &ChunkKey, places: &[ToldPlace]| {
            let mut superfluous = ranked.superfluous(&copies, key, places);
            if places.iter().any(|told| goes(told.place.pack)) {
                superfluous.resize(places.len(), false);
                let has_plain = copies.has_plain(&look.index, &goes, key);
                for (is_superfluous, ToldPlace { place, .. }) in superfluous.iter_mut().zip(places) {
                    let is_elsewhere = || has_plain || copies.has_recipe(&look.index, &goes, key, place);
                    *is_superfluous = *is_superfluous || goes(place.pack) && is_elsewhere();
                }
            }
            superfluous
        };
        let packs = look.needed.packs(superfluous).ok_or(PruneError::Cache)?;
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
                    let mut plain = LastChunk::default();
                    let is_needed = |(key, place): (ChunkKey, ChunkPlace)| {
                        look.needed.has(&key) && !copies.has(&look.index, &goes, (&key, &place), &mut plain)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::author::Author;
    use crate::model::id::DomainId;

    const KEY: ChunkKey = ChunkKey([7; 16]);

    fn told(pack: u8, offset: u32, codec: Codec, is_vouched_for: bool) -> ToldPlace {
        let place = ChunkPlace {
            pack: PackId([pack; 16]),
            author: Author::Reader,
            kind: PackKind::Data,
            frame: 0,
            frame_offset: 0,
            sealed_len: 500,
            plain_len: 500,
            codec,
            offset,
            length: 100,
        };
        ToldPlace { place, is_vouched_for }
    }

    /// Of the first pack the largest share is needed; the last is of another epoch.
    #[test]
    fn of_each_kind_of_place_the_best_one_stays_and_plain_ones_serve_for_all() {
        let pack = |nth: u8| PackUse {
            at: DomainEpoch { domain: DomainId([1; 16]), epoch: 1 + u32::from(nth == 9) },
            kind: PackKind::Data,
            size: 1000,
            is_certain: true,
            needed_chunks: 1,
            needed_bytes: 100 - u64::from(nth),
            bytes: 100,
        };
        let packs: BTreeMap<PackId, PackUse> = [1, 2, 3, 9].map(|nth| (PackId([nth; 16]), pack(nth))).into();
        let counting = packs.iter().map(|(id, pack)| (*id, pack.at)).collect();
        let ranked = Ranked { packs: &packs, counting };
        let plain = |nth: u8| told(nth, 0, Codec::Zstd, true);
        let recipe = |nth: u8, offset: u32| told(nth, offset, Codec::ZstdRecipes, true);
        let unvouched = |told: ToldPlace| ToldPlace { is_vouched_for: false, ..told };
        // The recipes at 10 are the same, and that at 20 is another one; nobody looked at those at 30.
        let known = |nth: u8| [(KEY, recipe(nth, 10).place, [1; 32]), (KEY, recipe(nth, 20).place, [2; 32])];
        let copies = Copies::of_recipes(&[known(1), known(2), known(3)].concat());
        for (what, places, expected) in [
            ("one place", vec![plain(2)], vec![]),
            ("plain", vec![plain(3), plain(1), plain(2)], vec![true, false, true]),
            ("no reader says so", vec![unvouched(plain(1)), plain(3)], vec![true, false]),
            ("of no place a reader says so", vec![unvouched(plain(1)), unvouched(plain(3))], vec![false, false]),
            ("another epoch", vec![plain(9), plain(1)], vec![false, false]),
            ("plain and recipes", vec![recipe(1, 10), plain(3), recipe(2, 30)], vec![true, false, true]),
            ("the same recipe", vec![recipe(2, 10), recipe(1, 10)], vec![true, false]),
            ("other recipes", vec![recipe(2, 20), recipe(1, 10)], vec![false, false]),
            ("in one pack", vec![recipe(1, 20), recipe(1, 10), recipe(2, 20)], vec![false, false, true]),
            ("nobody looked", vec![recipe(2, 30), recipe(1, 30)], vec![false, false]),
        ] {
            assert_eq!(ranked.superfluous(&copies, &KEY, &places), expected, "{what}");
        }
    }
}
