//! Copies: whether a chunk that is needed lies somewhere else than in packs that are to be deleted.
//!
//! A copy counts only where it is certain: a reader says so, or the pack's own directory does. What only the segments of writers say
//! may be a lie, for which the true copy would be deleted. One in a pack that was found damaged is none. A plain chunk serves
//! everybody; a recipe only for another place of the same recipe, because what it is named by and what it names depend on its depth.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::model::id::{ChunkKey, PackId};
use crate::ops::prune::PruneError;
use crate::repository::index::complete::CompleteIndex;
use crate::repository::index::needed::Needed;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::Reader;

/// Chooses among packs.
pub(super) type PackChoice<'a> = &'a (dyn Fn(PackId) -> bool + Sync);

/// What is known of copies.
#[derive(Debug)]
pub(super) struct Copies {
    /// Chunks of which packs say themselves that they have them, plain.
    own: HashMap<ChunkKey, PackId>,
    /// Recipes, and the packs of which a reader says that they have the same one.
    recipes: HashMap<(ChunkKey, ChunkPlace), Vec<PackId>>,
    damaged: BTreeSet<PackId>,
}

impl Copies {
    /// Begins with knowing of none but what readers say.
    pub(super) fn told_by(index: &CompleteIndex) -> Self {
        Self { own: HashMap::new(), recipes: HashMap::new(), damaged: index.cleanups().found_damaged() }
    }

    /// Tells whether a copy in a pack counts: it stays, and nobody found it damaged.
    fn counts(&self, index: &CompleteIndex, go: PackChoice<'_>, pack: PackId) -> bool {
        index.keeps(pack) && !go(pack) && !self.damaged.contains(&pack)
    }

    /// Tells whether what a chunk has at a place, it has as well in a pack that stays and is none of those that `go`.
    pub(super) fn has(&self, index: &CompleteIndex, go: PackChoice<'_>, key: &ChunkKey, place: &ChunkPlace) -> bool {
        let counts = |pack: PackId| self.counts(index, go, pack);
        let told = || {
            let vouched = index.vouched_places(key);
            vouched.iter().any(|place| !place.codec.holds_recipes() && counts(place.pack))
        };
        let same = || self.same_recipes(key, place).iter().any(|pack| counts(*pack));
        self.own.get(key).is_some_and(|pack| counts(*pack)) || told() || same()
    }

    /// Returns the packs that are known to have the recipe at a place as well.
    pub(super) fn same_recipes(&self, key: &ChunkKey, place: &ChunkPlace) -> &[PackId] {
        if !place.codec.holds_recipes() {
            return &[];
        }
        self.recipes.get(&(*key, place.by_anybody())).map_or(&[], Vec::as_slice)
    }

    /// Asks packs themselves which only writers name, and compares recipes, as far as chunks that are needed depend on them: those in
    /// packs that `go` and are there.
    pub(super) async fn ask(
        &mut self,
        reader: &Arc<Reader>,
        index: &CompleteIndex,
        needed: &Needed,
        go: PackChoice<'_>,
    ) -> Result<(), PruneError> {
        let mut claimed: BTreeMap<PackId, HashSet<(ChunkKey, ChunkPlace)>> = BTreeMap::new();
        let mut recipes = Vec::new();
        needed.find(
            |pack| go(pack) && index.is_there(pack),
            |key, at| {
                if !self.has(index, go, key, at) {
                    let places = index.places(key).into_iter();
                    let may_count =
                        |place: &ChunkPlace| !place.codec.holds_recipes() && self.counts(index, go, place.pack);
                    for place in places.filter(may_count) {
                        claimed.entry(place.pack).or_default().insert((*key, place.by_anybody()));
                    }
                    recipes.extend(at.codec.holds_recipes().then_some((*key, *at)));
                }
                false
            },
        );
        for (pack, claims) in claimed {
            // What a pack does not say of itself is no copy.
            let Ok(own) = reader.own_record(pack).await.map_err(PruneError::Pack)? else { continue };
            if index.pack(pack).iter().any(|record| record.agrees(own.info())) {
                let held = own.places().filter(|held| claims.contains(held));
                self.own.extend(held.map(|(key, _)| (key, pack)));
            }
        }
        self.compare_recipes(reader, index, recipes).await
    }

    /// Finds out which other packs have the recipes at places, as readers say. What cannot be read is the same as nothing.
    pub(super) async fn compare_recipes(
        &mut self,
        reader: &Arc<Reader>,
        index: &CompleteIndex,
        places: Vec<(ChunkKey, ChunkPlace)>,
    ) -> Result<(), PruneError> {
        for (key, place) in places {
            let others = index.vouched_places(&key).into_iter();
            let others: Vec<ChunkPlace> =
                others.filter(|other| other.codec.holds_recipes() && other.pack != place.pack).collect();
            let mut same = Vec::new();
            for other in others {
                if reader.are_same_recipe(&place, &other).await.map_err(PruneError::Pack)? {
                    same.push(other.pack);
                }
            }
            self.recipes.insert((key, place.by_anybody()), same);
        }
        Ok(())
    }
}
