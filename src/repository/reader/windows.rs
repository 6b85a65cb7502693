//! Windows that are stored as recipes, put together from parts of older chunks.
//!
//! Nearly always a group of windows is put together at once: recipes are read and resolved through their depths, what they name
//! is joined into ranges as any chunks are, each frame is opened once for all that is wanted of it, and each window is
//! compared with its id. That says nothing about which part is wrong where one is not. Such a window is put together
//! carefully, by itself (`carefully`), so that what cannot be had is named.
//!
//! Recipes come from whoever could write: what a window may cost is bounded (`docs/format.md`, section 17) before it is spent. Where
//! segments place what a recipe names comes from whoever could write as well, and refuses no window that another place makes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use futures::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blocking::blocking;
use crate::format::recipe::{CHUNKS_NEEDED_MAX, PARTS_NEEDED_MAX, PLAIN_NEEDED_MAX, Recipe};
use crate::model::author::Author;
use crate::model::entry::ChunkRef;
use crate::model::id::{ChunkId, ChunkKey, DomainId};
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::coming::{Came, Keep};
use crate::repository::reader::range::{Placed, RANGE_BYTES, join_frames_of};
use crate::repository::reader::recipe::{PlaceChoice, bad, part_of, recipe_in, too_much, wrong_recipe};
use crate::repository::reader::telling::{Named, Telling};
use crate::repository::reader::{ReadError, Reader};
use crate::windows::cover::Stretch;

/// The part of the memory given that a group of windows takes.
const GROUP_SHARE: u64 = 8;
/// Groups in memory: one that is given out, and the next.
const GROUPS: usize = 2;
/// Parts after which a group is filled, and the rest of it resolved afterwards; 16 bytes each.
const PARTS_AT_ONCE: usize = 1 << 18;

/// Recipes that cannot be used of one author, behind which a window is resolved without his.
const WRONG_OF_AUTHOR: usize = 64;

/// Who may put windows together at the same time.
pub(super) struct Windows {
    groups: Arc<Semaphore>,
    pub(super) carefully: tokio::sync::Mutex<()>,
}

impl Default for Windows {
    fn default() -> Self {
        Self { groups: Arc::new(Semaphore::new(GROUPS)), carefully: tokio::sync::Mutex::new(()) }
    }
}

impl Windows {
    /// Waits until there is room for a group.
    pub(super) async fn group(&self) -> OwnedSemaphorePermit {
        self.groups.clone().acquire_owned().await.expect("never closed")
    }
}

/// A window, and a place where its recipe lies. Who found it in a tree or list knows its whole id and its length; who found it in
/// the directory of a pack does not.
#[derive(Debug, Clone, Copy)]
pub struct WindowAt {
    /// Its key.
    pub key: ChunkKey,
    /// Its whole id, where it is known.
    pub id: Option<ChunkId>,
    /// Its length, where it is known.
    pub length: Option<u32>,
    /// Where its recipe lies.
    pub location: ChunkPlace,
}

impl WindowAt {
    /// A window that is wanted.
    pub fn of(chunk: ChunkRef, location: ChunkPlace) -> Self {
        Self { key: chunk.id.key(), id: Some(chunk.id), length: Some(chunk.length), location }
    }

    /// Tells whether it has this id.
    fn is(&self, id: &ChunkId) -> bool {
        self.id.map_or(self.key == id.key(), |known| known == *id)
    }
}

/// Where a part of a window comes from, and where in the window it goes.
struct PartPlace {
    at: u32,
    offset: u32,
    length: u32,
    /// Number of its chunk.
    chunk: u32,
}

/// A window, resolved through all depths.
pub struct Resolved {
    length: u32,
    /// Depth of its recipe.
    pub depth: u8,
    /// Where its recipe lies, and those that it needs through all depths.
    pub recipes: Vec<ChunkPlace>,
    /// Plain chunks, and their places.
    chunks: Vec<ChunkPlace>,
    /// Their keys.
    keys: Vec<ChunkKey>,
    parts: Vec<PartPlace>,
    /// Chunks that it needs and that are nowhere where they may be taken from.
    pub missing: BTreeMap<ChunkKey, ReadError>,
    /// Where in the window parts of these would stand: offsets and lengths, in order.
    pub lost: Vec<(u32, u32)>,
    /// Something that it needs is told to be in several places, so others might have been chosen.
    is_open: bool,
}

/// Why a window is not resolved.
pub(super) struct NotResolved {
    pub(super) error: ReadError,
    /// Other places might do, or these in truth.
    pub(super) is_open: bool,
}

impl From<ReadError> for NotResolved {
    fn from(error: ReadError) -> Self {
        Self { error, is_open: false }
    }
}

/// What a chunk that a recipe names turned out to be.
enum NamedChunk {
    Plain(u32),
    Recipe(Arc<Recipe>),
    Missing(ReadError),
}

/// A recipe on its way to be resolved, with all that is known of the chunks that are named. What a chunk is depends on who
/// names it: recipes name only those of a lower depth.
struct Resolving {
    sources: HashMap<(ChunkKey, u8), NamedChunk>,
    resolved: Resolved,
}

impl Reader {
    /// Returns how many bytes of windows are put together at once, at least one of them.
    pub fn group_bytes(&self) -> u64 {
        self.memory_bytes / GROUP_SHARE
    }

    /// Reads the recipe at a place.
    ///
    /// # Errors
    /// When its frame cannot be had, and [`ReadError::Recipe`].
    pub(crate) async fn recipe(self: &Arc<Self>, location: &ChunkPlace) -> Result<Recipe, ReadError> {
        recipe_in(&self.frame(location).await?[..], location)
    }

    /// Returns a hash of the recipe at a place, by which it is told from others; `None` where it is damaged.
    ///
    /// # Errors
    /// When it is out of reach.
    pub async fn recipe_hash(self: &Arc<Self>, location: &ChunkPlace) -> Result<Option<[u8; 32]>, ReadError> {
        match self.recipe(location).await {
            Ok(recipe) => Ok(Some(hash_of(&recipe))),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a group of windows together and answers each in turn.
    pub(super) async fn windows_at(self: &Arc<Self>, windows: &[WindowAt]) -> Vec<Result<Vec<u8>, ReadError>> {
        self.bring(windows.iter().map(|window| window.location).collect()).await;
        let mut answers: Vec<Option<Result<Vec<u8>, ReadError>>> = windows.iter().map(|_| None).collect();
        let mut waiting: Vec<(usize, Resolved)> = Vec::new();
        for (nth, window) in windows.iter().enumerate() {
            match self.resolve(window, &|_| true).await.and_then(|resolved| resolved.whole(window)) {
                Ok(resolved) => waiting.push((nth, resolved)),
                Err(error) => answers[nth] = Some(Err(error)),
            }
            let parts: usize = waiting.iter().map(|(_, resolved)| resolved.parts.len()).sum();
            if parts >= PARTS_AT_ONCE || nth + 1 == windows.len() {
                let (numbers, resolved): (Vec<usize>, Vec<Resolved>) = std::mem::take(&mut waiting).into_iter().unzip();
                let filled = self.fill(resolved).await;
                for (nth, filled) in numbers.into_iter().zip(filled) {
                    answers[nth] = Some(match filled {
                        Ok(bytes) => {
                            let window = &windows[nth];
                            self.compared(window, &Telling::by_segments(window.location), bytes).await
                        }
                        Err(error) => Err(error),
                    });
                }
            }
        }
        answers.into_iter().map(|answer| answer.expect("resolved or not, above")).collect()
    }

    /// Brings frames, to be kept; errors are met again by whoever needs one.
    pub async fn bring(self: &Arc<Self>, places: Vec<ChunkPlace>) {
        let ranges = join_frames_of(places, 2 * RANGE_BYTES);
        let bring = |range| async move {
            let _permit = self.range_permit().await;
            let mut coming = self.coming(range, Keep::Frames);
            while coming.next().await.is_some() {}
        };
        stream::iter(ranges).for_each_concurrent(self.ranges_in_flight(), bring).await;
    }

    /// Resolves a window through all depths, over places that are chosen: of several places of a chunk over the first that is long
    /// enough for what is taken of it.
    ///
    /// # Errors
    /// When a recipe cannot be had, or asks for more than a reader may be asked for. What is missing is no error, nor how long frames
    /// are told to be ([`Resolved::within_bounds`]).
    pub async fn resolve(self: &Arc<Self>, window: &WindowAt, choice: PlaceChoice<'_>) -> Result<Resolved, ReadError> {
        self.try_to_resolve(window, choice).await.map_err(|refused| refused.error)
    }

    /// Does the same, in whichever domain the window is said to be of.
    pub(super) async fn try_to_resolve(
        self: &Arc<Self>,
        window: &WindowAt,
        choice: PlaceChoice<'_>,
    ) -> Result<Resolved, NotResolved> {
        let location = &window.location;
        let top = Arc::new(self.recipe(location).await?);
        if window.length.is_some_and(|length| length != top.length()) {
            return Err(ReadError::OtherLength { id: window.key }.into());
        }
        let domains = self.domains(&Telling::by_segments(*location))?;
        let mut first = None;
        for domain in &domains {
            match self.resolve_in(*domain, location, &top, choice).await {
                Ok(resolved) if resolved.missing.is_empty() => return Ok(resolved),
                Err(refused) if !refused.error.is_damage() => return Err(refused),
                Err(NotResolved { error, is_open }) => {
                    first = first.or(Some(Err(NotResolved { error, is_open: is_open || domains.len() > 1 })));
                }
                resolved => first = first.or(Some(resolved)),
            }
        }
        first.expect("there is a domain")
    }

    async fn resolve_in(
        self: &Arc<Self>,
        domain: DomainId,
        location: &ChunkPlace,
        top: &Arc<Recipe>,
        choice: PlaceChoice<'_>,
    ) -> Result<Resolved, NotResolved> {
        let resolved = Resolved {
            length: top.length(),
            depth: top.depth(),
            recipes: vec![*location],
            chunks: Vec::new(),
            keys: Vec::new(),
            parts: Vec::new(),
            missing: BTreeMap::new(),
            lost: Vec::new(),
            is_open: false,
        };
        let mut resolving = Resolving { sources: HashMap::new(), resolved };
        let mut recipes = VecDeque::from([top.clone()]);
        let (mut keys, mut items, mut wrong) = (HashSet::new(), top.items().len(), HashMap::new());
        while let Some(recipe) = recipes.pop_front() {
            for (key, end) in recipe.chunks().iter().zip(ends_in(&recipe)) {
                let named = Named { key: *key, depth: recipe.depth(), domain, end };
                if let Some(known) = resolving.sources.get(&(*key, recipe.depth())) {
                    if let NamedChunk::Plain(nth) = known
                        && resolving.resolved.chunks[*nth as usize].length < end
                        && let Some(longer) = self.long_enough(&named, choice)
                    {
                        resolving.resolved.chunks[*nth as usize] = longer;
                    }
                    continue;
                }
                keys.insert(*key);
                if keys.len() > CHUNKS_NEEDED_MAX {
                    return Err(resolving.refused(bad(location, "it needs too many chunks")));
                }
                let places = self.untried_once(&named, choice);
                resolving.resolved.is_open |= places.len() > 1;
                let source = match self.source(&named, places, choice, &mut wrong).await? {
                    Ok(At::Plain(place)) => {
                        resolving.resolved.chunks.push(place);
                        resolving.resolved.keys.push(*key);
                        NamedChunk::Plain(resolving.resolved.chunks.len() as u32 - 1)
                    }
                    Ok(At::Recipe(place, recipe)) => {
                        resolving.resolved.recipes.push(place);
                        items += recipe.items().len();
                        if items > PARTS_NEEDED_MAX {
                            return Err(resolving.refused(bad(location, "it needs too many parts")));
                        }
                        let recipe = Arc::new(recipe);
                        recipes.push_back(recipe.clone());
                        NamedChunk::Recipe(recipe)
                    }
                    Err(error) => NamedChunk::Missing(error),
                };
                resolving.sources.insert((*key, recipe.depth()), source);
            }
        }
        if !resolving.add(top, 0, top.length(), 0) {
            let Resolved { parts, lost, .. } = &resolving.resolved;
            if parts.len() + lost.len() >= PARTS_NEEDED_MAX {
                return Err(resolving.refused(bad(location, "it needs too many parts")));
            }
            // How long a chunk is, is somebody's word, however few places there are.
            return Err(NotResolved { error: bad(location, "a part lies outside of its chunk"), is_open: true });
        }
        Ok(resolving.resolved)
    }

    /// Finds out what a chunk is that a recipe names, of the places where it may be: plain if it can be, else a recipe of a lower depth, of several
    /// one of which all that it names is somewhere. Counts who tells of recipes that are `wrong`, and reads no more of those of one who
    /// told of too many. Inside, why it is nowhere.
    async fn source(
        self: &Arc<Self>,
        named: &Named,
        places: Vec<ChunkPlace>,
        choice: PlaceChoice<'_>,
        wrong: &mut HashMap<Author, usize>,
    ) -> Result<Result<At, ReadError>, ReadError> {
        let mut missing = ReadError::Unknown { id: named.key };
        let is_alone = places.iter().filter(|place| place.codec.holds_recipes()).count() == 1;
        let may_be = |place: &ChunkPlace| choice(place) && self.is_of_domain(place, named.domain);
        let is_somewhere = |key: &ChunkKey| self.index.places(key).iter().any(may_be);
        let (mut stale, mut short) = (None, None);
        for place in places {
            if !place.codec.holds_recipes() {
                if place.length >= named.end {
                    return Ok(Ok(At::Plain(place)));
                }
                short = short.or(Some(At::Plain(place)));
            } else if named.may_be_at(&place) && wrong.get(&place.author).is_none_or(|count| *count < WRONG_OF_AUTHOR) {
                match self.recipe_of(&Telling::by_segments(place), named.depth).await {
                    Ok(recipe) if recipe.length() < named.end => short = short.or(Some(At::Recipe(place, recipe))),
                    Ok(recipe) if is_alone || recipe.chunks().iter().all(is_somewhere) => {
                        return Ok(Ok(At::Recipe(place, recipe)));
                    }
                    Ok(recipe) => stale = stale.or(Some(At::Recipe(place, recipe))),
                    Err(error) if error.is_damage() => {
                        *wrong.entry(place.author).or_default() += 1;
                        self.vain.add(place.author);
                        missing = error;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(stale.or(short).ok_or(missing))
    }

    /// Returns a place where a chunk is plain and as long as is wanted.
    fn long_enough(&self, named: &Named, choice: PlaceChoice<'_>) -> Option<ChunkPlace> {
        let places = self.untried(named, choice).into_iter();
        places.filter(|place| !place.codec.holds_recipes()).find(|place| place.length >= named.end)
    }

    /// Fills windows with their parts: each frame is fetched and opened once for all of them.
    async fn fill(self: &Arc<Self>, windows: Vec<Resolved>) -> Vec<Result<Vec<u8>, ReadError>> {
        let mut wanted = Vec::new();
        let mut filling = Vec::with_capacity(windows.len());
        for (window, mut resolved) in windows.into_iter().enumerate() {
            resolved.parts.sort_unstable_by_key(|part| part.chunk);
            let mut start = 0;
            for parts in resolved.parts.chunk_by(|one, next| one.chunk == next.chunk) {
                let location = resolved.chunks[parts[0].chunk as usize];
                wanted.push(OfChunk { location, window, parts: start..start + parts.len() });
                start += parts.len();
            }
            filling.push(Filling { bytes: vec![0; resolved.length as usize], parts: resolved.parts, failed: None });
        }
        let filling = Arc::new(Mutex::new(filling));
        let ranges = join_frames_of(wanted, 2 * RANGE_BYTES);
        let fill = |range| {
            let filling = filling.clone();
            async move {
                let _permit = self.range_permit().await;
                let mut coming = self.coming(range, Keep::Frames);
                while let Some(came) = coming.next().await {
                    let filling = filling.clone();
                    blocking(move || take(&mut filling.lock().expect("no panic while held"), came)).await;
                }
            }
        };
        stream::iter(ranges).for_each_concurrent(self.ranges_in_flight(), fill).await;
        let filling = std::mem::take(&mut *filling.lock().expect("no panic while held"));
        filling.into_iter().map(|window| window.failed.map_or(Ok(window.bytes), Err)).collect()
    }

    /// Returns a window that the recipe at a place has made, if it has its id.
    pub(super) async fn compared(
        &self,
        window: &WindowAt,
        telling: &Telling,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, ReadError> {
        let wanted = *window;
        let held = self.held_to(telling, bytes, move |found| wanted.is(found)).await?;
        held.ok_or_else(|| wrong_recipe(&telling.place, window.key))
    }
}

/// Returns a hash of a recipe, which no other recipe has.
pub(crate) fn hash_of(recipe: &Recipe) -> [u8; 32] {
    *blake3::hash(&recipe.encode()).as_bytes()
}

/// Returns where what a recipe takes of each chunk that it names ends, in the order of its table.
fn ends_in(recipe: &Recipe) -> Vec<u32> {
    let mut ends = vec![0; recipe.chunks().len()];
    for item in recipe.items() {
        let nth = usize::from(item.chunk);
        ends[nth] = item.end().max(ends[nth]);
    }
    ends
}

/// Where a chunk that is named may be taken from.
enum At {
    Plain(ChunkPlace),
    Recipe(ChunkPlace, Recipe),
}

impl Placed for ChunkPlace {
    fn location(&self) -> &ChunkPlace {
        self
    }
}

/// What is wanted of a chunk: some of a window's parts.
struct OfChunk {
    location: ChunkPlace,
    window: usize,
    parts: std::ops::Range<usize>,
}

impl Placed for OfChunk {
    fn location(&self) -> &ChunkPlace {
        &self.location
    }
}

/// A window that is being filled.
struct Filling {
    bytes: Vec<u8>,
    parts: Vec<PartPlace>,
    failed: Option<ReadError>,
}

/// Copies what is wanted of a frame into the windows.
fn take(windows: &mut [Filling], came: Came<OfChunk>) {
    let (frame, wanted) = match came {
        Came::Frame(frame, wanted) => (Ok(frame), wanted),
        Came::Lost(error, wanted) => (Err(error), wanted),
    };
    for OfChunk { location, window, parts } in wanted {
        let Filling { bytes, parts: all, failed } = &mut windows[window];
        let frame = match &frame {
            Ok(frame) => frame,
            Err(error) => {
                // One that is out of reach leaves the answer open.
                if failed.as_ref().is_none_or(|failed| failed.is_damage() && !error.is_damage()) {
                    *failed = Some(error.clone());
                }
                continue;
            }
        };
        for part in &all[parts] {
            let start = location.offset as usize + part.offset as usize;
            // Segments that contradict each other may tell of a frame that is longer than the one that is kept.
            match frame.get(start..start + part.length as usize) {
                Some(from) => bytes[part.at as usize..][..from.len()].copy_from_slice(from),
                None => *failed = Some(bad(&location, "a part lies outside of its frame")),
            }
        }
    }
}

impl Resolved {
    /// Returns it unless something is missing, or it is told to need too much.
    fn whole(mut self, window: &WindowAt) -> Result<Self, ReadError> {
        match self.missing.pop_first() {
            Some((key, source)) => Err(part_of(window.key, &window.location, key, source)),
            None => self.within_bounds(window),
        }
    }

    /// Returns it unless it is told to need more frames than readers take.
    ///
    /// # Errors
    /// [`ReadError::Recipe`]; other places may do all the same, or these in truth: [`Reader::chunk`] tells.
    pub fn within_bounds(self, window: &WindowAt) -> Result<Self, ReadError> {
        if self.plain_bytes() > PLAIN_NEEDED_MAX { Err(too_much(&window.location)) } else { Ok(self) }
    }

    /// Returns how many parts of chunks it comes to.
    pub fn parts(&self) -> u64 {
        self.parts.len() as u64
    }

    /// Returns what it consists of, in order: parts of plain chunks, each with the length of its chunk. Where something is missing, there is
    /// no part for it.
    pub fn stretches(&self) -> impl Iterator<Item = (Stretch<ChunkKey>, u32)> {
        self.parts.iter().map(|part| {
            let nth = part.chunk as usize;
            let stretch = Stretch { key: self.keys[nth], offset: part.offset, length: part.length };
            (stretch, self.chunks[nth].length)
        })
    }

    /// Returns the places of its recipe and of all that this names, through all depths.
    pub fn places_needed(&self) -> impl Iterator<Item = &ChunkPlace> {
        self.recipes.iter().chain(&self.chunks)
    }

    /// Returns the places of the plain chunks of which it takes something.
    pub fn places_used(&self) -> impl Iterator<Item = &ChunkPlace> {
        let mut used = vec![false; self.chunks.len()];
        self.parts.iter().for_each(|part| used[part.chunk as usize] = true);
        self.chunks.iter().zip(used).filter_map(|(place, used)| used.then_some(place))
    }

    /// Plaintext of the frames that it needs.
    fn plain_bytes(&self) -> u64 {
        let mut frames = HashSet::new();
        let used = self.places_used().filter(|place| frames.insert((place.pack, place.frame)));
        used.map(|place| u64::from(place.plain_len)).sum()
    }
}

impl Resolving {
    /// Returns why it ends.
    fn refused(&self, error: ReadError) -> NotResolved {
        NotResolved { error, is_open: self.resolved.is_open }
    }

    /// Adds the parts that make `length` bytes of what `recipe` makes, from `at` on, which stand at `to` in the window. Tells
    /// whether all of them lie in their chunks, and there are not too many.
    fn add(&mut self, recipe: &Recipe, at: u32, length: u32, to: u32) -> bool {
        for item in recipe.items_within(at, length) {
            let (start, end) = (item.at.max(at), (item.at + item.length).min(at + length));
            let (offset, length, to) = (item.offset + (start - item.at), end - start, to + (start - at));
            let key = recipe.chunks()[usize::from(item.chunk)];
            match self.sources.get(&(key, recipe.depth())).expect("all that is named was looked for") {
                NamedChunk::Plain(chunk) => {
                    let chunk = *chunk;
                    let parts = &mut self.resolved.parts;
                    if offset + length > self.resolved.chunks[chunk as usize].length || parts.len() >= PARTS_NEEDED_MAX
                    {
                        return false;
                    }
                    parts.push(PartPlace { at: to, offset, length, chunk });
                }
                NamedChunk::Recipe(below) => {
                    let below = below.clone();
                    if offset + length > below.length() || !self.add(&below, offset, length, to) {
                        return false;
                    }
                }
                NamedChunk::Missing(error) => {
                    let error = error.clone();
                    self.resolved.missing.entry(key).or_insert(error);
                    let (parts, lost) = (self.resolved.parts.len(), &mut self.resolved.lost);
                    let known = lost.len();
                    match lost.last_mut().filter(|last| last.0 + last.1 == to) {
                        Some(last) => last.1 += length,
                        None if parts + known >= PARTS_NEEDED_MAX => return false,
                        None => lost.push((to, length)),
                    }
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::id::PackId;

    /// Whoever may write can index a pack twice, with frames of other lengths.
    #[test]
    fn a_frame_that_is_shorter_than_the_index_says_is_no_window() {
        let location = ChunkPlace {
            pack: PackId([1; 16]),
            author: crate::model::author::Author::Reader,
            kind: PackKind::Data,
            frame: 0,
            frame_offset: 0,
            sealed_len: 100,
            plain_len: 84,
            codec: Codec::Stored,
            offset: 40,
            length: 44,
        };
        let part = |offset| PartPlace { at: 2, offset, length: 4, chunk: 0 };
        for (offset, frame, right) in [(0, 44, true), (0, 43, false), (40, 84, true), (40, 80, false), (40, 0, false)] {
            let mut windows = [Filling { bytes: vec![0; 6], parts: vec![part(offset)], failed: None }];
            let wanted = OfChunk { location, window: 0, parts: 0..1 };
            take(&mut windows, Came::Frame(Arc::new(vec![7; frame]), vec![wanted]));
            let [window] = &windows;
            assert_eq!((window.failed.is_none(), window.bytes[2] == 7), (right, right), "{offset} {frame}");
        }
    }
}
