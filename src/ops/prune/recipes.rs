//! What the recipes of a needed chunk name, as far as they can make it.
//!
//! A run that was given up goes on storing for a moment: its recipes may name what was deleted by then, and it stores the same windows
//! again when it starts anew. Such a recipe makes nothing, whoever reads, and what it names is not needed. One that can make its chunk is
//! never passed over, whatever else there is: the other place may be a lie, or damaged.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::model::id::ChunkKey;
use crate::repository::index::complete::CompleteIndex;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::{ReadError, Reader};

/// Chunks that are looked at, and recipes that are read, to find out whether a recipe can make its chunk: no reader goes beyond half of it.
const EFFORT: usize = 8192;

/// Returns what those recipes of a chunk name that can make it. Where nothing makes it, and it lies nowhere plain, it is what any of them
/// name: what is missing of that tells so.
///
/// # Errors
/// When a recipe is out of reach, or cannot be read and nothing else makes the chunk.
pub(super) async fn named_by_recipes(
    index: &CompleteIndex,
    reader: &Arc<Reader>,
    key: &ChunkKey,
) -> Result<Vec<ChunkKey>, ReadError> {
    let (recipes, plain) = places_there(index, key);
    let is_alone = plain.is_empty() && recipes.len() == 1;
    let mut stands = !plain.is_empty() && {
        let damaged = index.cleanups().found_damaged();
        plain.iter().any(|place| !damaged.contains(&place.pack))
    };
    let (mut named, mut others, mut unreadable) = (Vec::new(), Vec::new(), None);
    for place in recipes {
        let recipe = match reader.recipe(&place).await {
            Ok(recipe) => recipe,
            Err(error) if error.is_damage() => {
                unreadable = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut makable = Makable { index, reader, known: HashMap::new(), effort: 0 };
        if is_alone || makable.are_all(recipe.chunks().to_vec(), recipe.depth()).await? {
            stands = true;
            named.extend(recipe.chunks());
        } else {
            others.extend(recipe.chunks().to_vec());
        }
    }
    match unreadable.filter(|_| !stands) {
        Some(error) => Err(error),
        None if stands => Ok(named),
        None => Ok(others),
    }
}

/// Returns the places of a chunk in packs that are there: those of recipes, and those where it lies plain.
fn places_there(index: &CompleteIndex, key: &ChunkKey) -> (Vec<ChunkPlace>, Vec<ChunkPlace>) {
    let is_there = |place: &ChunkPlace| index.is_there(place.pack) && !index.is_being_deleted(place.pack);
    index.places(key).into_iter().filter(is_there).partition(|place| place.codec.holds_recipes())
}

/// Which chunks a reader can have, as far as was looked.
struct Makable<'a> {
    index: &'a CompleteIndex,
    reader: &'a Arc<Reader>,
    /// By the depth below which a recipe must be that makes them.
    known: HashMap<(ChunkKey, u8), bool>,
    effort: usize,
}

impl Makable<'_> {
    /// Tells whether all can be had that a recipe of `depth` names.
    fn are_all(&mut self, named: Vec<ChunkKey>, depth: u8) -> BoxFuture<'_, Result<bool, ReadError>> {
        Box::pin(async move {
            for key in named {
                if !self.is(key, depth).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Tells whether a chunk lies somewhere plain, or a recipe can make it that is not as deep as `below`.
    async fn is(&mut self, key: ChunkKey, below: u8) -> Result<bool, ReadError> {
        if let Some(known) = self.known.get(&(key, below)) {
            return Ok(*known);
        }
        let (recipes, plain) = places_there(self.index, &key);
        self.effort += 1;
        let mut is = !plain.is_empty();
        for place in recipes.into_iter().filter(|_| below > 1) {
            if is || self.effort > EFFORT {
                break;
            }
            self.effort += 1;
            is = match self.reader.recipe(&place).await {
                Ok(recipe) if recipe.depth() >= below => false,
                Ok(recipe) => self.are_all(recipe.chunks().to_vec(), recipe.depth()).await?,
                Err(error) if error.is_damage() => false,
                Err(error) => return Err(error),
            };
        }
        let is = is && self.effort <= EFFORT;
        self.known.insert((key, below), is);
        Ok(is)
    }
}
