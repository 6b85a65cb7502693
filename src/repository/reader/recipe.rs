//! Recipes as they lie at their places, and what can be wrong with them.

use crate::format::FormatError;
use crate::format::recipe::Recipe;
use crate::model::id::ChunkKey;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::ReadError;

const TOO_MUCH: &str = "it needs too many frames";

/// Chooses among places.
pub type PlaceChoice<'a> = &'a (dyn Fn(&ChunkPlace) -> bool + Sync);

/// Decodes the recipe that lies at a place, in its frame.
pub(super) fn recipe_in(frame: &[u8], location: &ChunkPlace) -> Result<Recipe, ReadError> {
    let (start, end) = (location.offset as usize, location.offset as usize + location.length as usize);
    let bytes = frame.get(start..end).ok_or_else(|| bad(location, "it lies outside of its frame"))?;
    Recipe::decode(bytes).map_err(|source| ReadError::Recipe { pack: location.pack, frame: location.frame, source })
}

/// Says what is wrong with the recipe at a place.
pub(super) fn bad(location: &ChunkPlace, why: &str) -> ReadError {
    let source = FormatError::Invalid { what: "a recipe", why: why.to_owned() };
    ReadError::Recipe { pack: location.pack, frame: location.frame, source }
}

/// Says that the recipe at a place asks for more than readers take.
pub(super) fn too_much(location: &ChunkPlace) -> ReadError {
    bad(location, TOO_MUCH)
}

/// Tells whether it is the recipe at a place, and nothing that it names, which asks for too much.
pub(super) fn is_too_much(error: &ReadError, location: &ChunkPlace) -> bool {
    let of_it = error.frame() == Some((location.pack, location.frame));
    let is_it = |source: &FormatError| matches!(source, FormatError::Invalid { why, .. } if why == TOO_MUCH);
    of_it && matches!(error.root(), ReadError::Recipe { source, .. } if is_it(source))
}

pub(super) fn wrong_recipe(place: &ChunkPlace, id: ChunkKey) -> ReadError {
    ReadError::WrongRecipe { pack: place.pack, frame: place.frame, id }
}

pub(super) fn part_of(window: ChunkKey, location: &ChunkPlace, part: ChunkKey, source: ReadError) -> ReadError {
    ReadError::Part { window, pack: location.pack, frame: location.frame, part, source: Box::new(source) }
}
