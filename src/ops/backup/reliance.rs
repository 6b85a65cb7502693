//! Whether a window that an earlier run stored as a recipe may be referred to again: all that the recipe names must be there.

use std::sync::Arc;

use crate::model::entry::ChunkRef;
use crate::model::id::PackId;
use crate::repository::index::checked::CheckedIndex;
use crate::repository::reader::Reader;
use crate::repository::reader::windows::WindowAt;

/// Tells whether the recipe of a window can be read, and all that it names is, through all depths, in packs that may be relied on; then
/// these are. What cannot be read is not relied on.
pub(super) async fn relies_on_window(index: &CheckedIndex, reader: &Arc<Reader>, chunk: ChunkRef) -> bool {
    for place in index.reliable_recipes(&chunk.id.key()) {
        let window = WindowAt::of(chunk, place);
        let resolved = reader.resolve(&window, &|place| index.may_rely_on(place)).await;
        if let Ok(resolved) = resolved
            && resolved.missing.is_empty()
        {
            let packs: Vec<PackId> = resolved.places_needed().map(|place| place.pack).collect();
            index.rely_on_packs(&packs);
            return true;
        }
    }
    false
}
