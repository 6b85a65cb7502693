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

/// What recipes are told from others by.
pub(super) type RecipeHash = [u8; 32];
/// Chooses among packs.
pub(super) type PackChoice<'a> = &'a (dyn Fn(PackId) -> bool + Sync);

/// What was found out about the last chunk that was asked about: the places of a chunk come one behind the other, and whoever may write can
/// tell of very many.
#[derive(Debug, Default)]
pub(super) struct LastChunk(Option<(ChunkKey, bool)>);

impl LastChunk {
    /// Returns what `find` tells of a chunk, which is asked again when another chunk was.
    pub(super) fn is(&mut self, key: &ChunkKey, find: impl FnOnce() -> bool) -> bool {
        match self.0 {
            Some((known, is)) if known == *key => is,
            _ => {
                let is = find();
                self.0 = Some((*key, is));
                is
            }
        }
    }
}

/// What is known of copies.
#[derive(Debug)]
pub(super) struct Copies {
    /// Chunks of which packs say themselves that they have them, plain.
    own: HashMap<ChunkKey, PackId>,
    /// What recipes were found at places; `None` where one is damaged.
    recipes: HashMap<(ChunkKey, ChunkPlace), Option<RecipeHash>>,
    /// The packs of which a reader says that they have a recipe.
    having: HashMap<(ChunkKey, RecipeHash), BTreeSet<PackId>>,
    damaged: BTreeSet<PackId>,
}

impl Copies {
    /// Begins with knowing of none but what readers say.
    pub(super) fn told_by(index: &CompleteIndex) -> Self {
        let damaged = index.cleanups().found_damaged();
        Self { own: HashMap::new(), recipes: HashMap::new(), having: HashMap::new(), damaged }
    }

    /// Begins with knowing recipes at places, and nothing else.
    #[cfg(test)]
    pub(super) fn of_recipes(recipes: &[(ChunkKey, ChunkPlace, RecipeHash)]) -> Self {
        let known = recipes.iter().map(|(key, place, hash)| ((*key, place.by_anybody()), Some(*hash)));
        let (own, having, damaged) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { own, recipes: known.collect(), having, damaged }
    }

    /// Tells whether a copy in a pack counts: it stays, and nobody found it damaged.
    fn counts(&self, index: &CompleteIndex, go: PackChoice<'_>, pack: PackId) -> bool {
        index.keeps(pack) && !go(pack) && !self.damaged.contains(&pack)
    }

    /// Tells whether what a chunk has at a place, it has as well in a pack that stays and is none of those that `go`; whether it lies plain
    /// there is found out once for all its places.
    pub(super) fn has(
        &self,
        index: &CompleteIndex,
        go: PackChoice<'_>,
        (key, place): (&ChunkKey, &ChunkPlace),
        plain: &mut LastChunk,
    ) -> bool {
        plain.is(key, || self.has_plain(index, go, key)) || self.has_recipe(index, go, key, place)
    }

    /// Tells whether a chunk lies plain in a pack that stays and is none of those that `go`.
    pub(super) fn has_plain(&self, index: &CompleteIndex, go: PackChoice<'_>, key: &ChunkKey) -> bool {
        let counts = |pack: PackId| self.counts(index, go, pack);
        let told = || {
            let vouched = index.vouched_places(key);
            vouched.iter().any(|place| !place.codec.holds_recipes() && counts(place.pack))
        };
        self.own.get(key).is_some_and(|pack| counts(*pack)) || told()
    }

    /// Tells whether the recipe at a place lies as well in such a pack.
    pub(super) fn has_recipe(
        &self,
        index: &CompleteIndex,
        go: PackChoice<'_>,
        key: &ChunkKey,
        place: &ChunkPlace,
    ) -> bool {
        let having = self.recipe_at(key, place).and_then(|hash| self.having.get(&(*key, hash)));
        having.is_some_and(|packs| packs.iter().any(|pack| *pack != place.pack && self.counts(index, go, *pack)))
    }

    /// Returns what recipe there is at a place, as far as that was looked at.
    pub(super) fn recipe_at(&self, key: &ChunkKey, place: &ChunkPlace) -> Option<RecipeHash> {
        let known = || self.recipes.get(&(*key, place.by_anybody())).copied().flatten();
        if place.codec.holds_recipes() { known() } else { None }
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
        let (mut recipes, mut plain) = (Vec::new(), LastChunk::default());
        needed.find(
            |pack| go(pack) && index.is_there(pack),
            |key, at| {
                let has_plain = plain.is(key, || {
                    let has_plain = self.has_plain(index, go, key);
                    let may_count =
                        |place: &ChunkPlace| !place.codec.holds_recipes() && self.counts(index, go, place.pack);
                    let places = if has_plain { Vec::new() } else { index.places(key) };
                    for place in places.into_iter().filter(may_count) {
                        claimed.entry(place.pack).or_default().insert((*key, place.by_anybody()));
                    }
                    has_plain
                });
                let is_wanted = at.codec.holds_recipes() && !has_plain && !self.has_recipe(index, go, key, at);
                recipes.extend(is_wanted.then_some((*key, *at)));
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

    /// Finds out which other packs have the recipes at places, as readers say: each recipe is read once. What cannot be read is the same
    /// as nothing.
    pub(super) async fn compare_recipes(
        &mut self,
        reader: &Arc<Reader>,
        index: &CompleteIndex,
        mut places: Vec<(ChunkKey, ChunkPlace)>,
    ) -> Result<(), PruneError> {
        places.sort_unstable();
        for of_chunk in places.chunk_by(|(one, _), (next, _)| one == next) {
            let key = of_chunk[0].0;
            let others = index.vouched_places(&key).into_iter();
            for other in others.filter(|other| other.codec.holds_recipes()) {
                if let Some(hash) = self.look_at(reader, key, &other).await? {
                    self.having.entry((key, hash)).or_default().insert(other.pack);
                }
            }
            for (_, place) in of_chunk {
                self.look_at(reader, key, place).await?;
            }
        }
        Ok(())
    }

    /// Finds out what recipe there is at a place, unless that is known.
    async fn look_at(
        &mut self,
        reader: &Arc<Reader>,
        key: ChunkKey,
        place: &ChunkPlace,
    ) -> Result<Option<RecipeHash>, PruneError> {
        let at = (key, place.by_anybody());
        if let Some(known) = self.recipes.get(&at) {
            return Ok(*known);
        }
        let hash = reader.recipe_hash(place).await.map_err(PruneError::Pack)?;
        self.recipes.insert(at, hash);
        Ok(hash)
    }
}
