//! Copies: whether a chunk that is needed lies, plain, somewhere else than in packs that are to be deleted.
//!
//! A copy counts only where it is certain: a reader says so, or the pack's own directory does. What only the segments of writers say
//! may be a lie, for which the true copy would be deleted.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::id::{ChunkKey, PackId};
use crate::ops::prune::PruneError;
use crate::repository::index::complete::CompleteIndex;
use crate::repository::index::needed::Needed;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::Reader;

/// Chooses among packs.
pub(super) type PackChoice<'a> = &'a (dyn Fn(PackId) -> bool + Sync);

/// Chunks of which packs say themselves that they have them.
#[derive(Debug, Default)]
pub(super) struct Copies(HashMap<ChunkKey, PackId>);

impl Copies {
    /// Tells whether a chunk has a copy in a pack that stays and is none of those that `go`.
    pub(super) fn has(&self, index: &CompleteIndex, go: PackChoice<'_>, key: &ChunkKey) -> bool {
        let stays = |pack: PackId| index.keeps(pack) && !go(pack);
        let told = || {
            let vouched = index.vouched_places(key);
            vouched.iter().any(|place| !place.codec.holds_recipes() && stays(place.pack))
        };
        self.0.get(key).is_some_and(|pack| stays(*pack)) || told()
    }

    /// Asks packs themselves which only writers name, as far as chunks that are needed depend on them: those in packs that `go` and are
    /// there.
    pub(super) async fn ask(
        &mut self,
        reader: &Reader,
        index: &CompleteIndex,
        needed: &Needed,
        go: PackChoice<'_>,
    ) -> Result<(), PruneError> {
        let mut claimed: BTreeMap<PackId, HashSet<(ChunkKey, ChunkPlace)>> = BTreeMap::new();
        needed.find(
            |pack| go(pack) && index.is_there(pack),
            |key, _| {
                if !self.has(index, go, key) {
                    let places = index.places(key).into_iter();
                    let may_count =
                        |place: &ChunkPlace| !place.codec.holds_recipes() && index.keeps(place.pack) && !go(place.pack);
                    for place in places.filter(may_count) {
                        claimed.entry(place.pack).or_default().insert((*key, place.by_anybody()));
                    }
                }
                false
            },
        );
        for (pack, claims) in claimed {
            // What a pack does not say of itself is no copy.
            let Ok(own) = reader.own_record(pack).await.map_err(PruneError::Pack)? else { continue };
            if index.pack(pack).iter().any(|record| record.agrees(own.info())) {
                let held = own.places().filter(|held| claims.contains(held));
                self.0.extend(held.map(|(key, _)| (key, pack)));
            }
        }
        Ok(())
    }
}
