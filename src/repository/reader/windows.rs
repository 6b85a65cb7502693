//! Windows that are stored as recipes, put together from parts of older chunks.
//!
//! Nearly always a group of windows is put together at once: recipes are read and resolved through their depths, what they name
//! is joined into ranges as any chunks are, each frame is opened once for all that is wanted of it, and each window is
//! compared with its id. That says nothing about which part is wrong where one is not. Such a window is put together
//! carefully, by itself: every chunk that it names is taken whole and compared with its key, from the next place where it is
//! not right, so that what cannot be had is named.
//!
//! Recipes come from whoever could write: what a window may cost is bounded (`docs/format.md`, section 17) before it is spent.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blocking::blocking;
use crate::format::FormatError;
use crate::format::recipe::{CHUNKS_NEEDED_MAX, Item, PARTS_NEEDED_MAX, PLAIN_NEEDED_MAX, Recipe};
use crate::model::entry::ChunkRef;
use crate::model::id::{ChunkId, ChunkKey, DomainId, PackId};
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::reader::coming::{Came, Keep};
use crate::repository::reader::range::{Placed, RANGE_BYTES, join_frames_of};
use crate::repository::reader::{ReadError, Reader};
use crate::windows::cover::Stretch;

/// The part of the memory given that a group of windows takes.
const GROUP_SHARE: u64 = 8;
/// Groups in memory: one that is given out, and the next.
const GROUPS: usize = 2;
/// Parts after which a group is filled, and the rest of it resolved afterwards; 16 bytes each.
const PARTS_AT_ONCE: usize = 1 << 18;
/// How much more than a window may need is spent on putting it together carefully, when chunks have several places.
const PLACES_TRIED: usize = 2;

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

/// Chooses among places.
pub type PlaceChoice<'a> = &'a (dyn Fn(&ChunkPlace) -> bool + Sync);

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
        let frame = self.frame(location).await?;
        let (start, end) = (location.offset as usize, location.offset as usize + location.length as usize);
        let bytes = frame.get(start..end).ok_or_else(|| bad(location, "it lies outside of its frame"))?;
        Recipe::decode(bytes).map_err(|source| ReadError::Recipe { pack: location.pack, frame: location.frame, source })
    }

    /// Reads the recipe at a place that one of depth `below` names: it must be less deep.
    pub(super) async fn recipe_below(self: &Arc<Self>, location: &ChunkPlace, below: u8) -> Result<Recipe, ReadError> {
        let recipe = self.recipe(location).await?;
        if recipe.depth() < below { Ok(recipe) } else { Err(bad(location, "it is named by one that is not deeper")) }
    }

    /// Tells whether there is the same recipe at two places. What is damaged at either is not.
    ///
    /// # Errors
    /// When one is out of reach.
    pub async fn are_same_recipe(self: &Arc<Self>, one: &ChunkPlace, other: &ChunkPlace) -> Result<bool, ReadError> {
        let (one, other) = (self.recipe(one).await, self.recipe(other).await);
        match (one, other) {
            (Ok(one), Ok(other)) => Ok(one == other),
            (Err(error), _) | (_, Err(error)) if !error.is_damage() => Err(error),
            _ => Ok(false),
        }
    }

    /// Returns a chunk of which the key alone is known, and a place where it is or was, from the first place where it has its key:
    /// plain, or put together.
    ///
    /// # Errors
    /// The [`ReadError`] of the last place tried; one that is not damage comes first, since it leaves the answer open.
    pub async fn chunk_of_key(self: &Arc<Self>, key: &ChunkKey, known: &ChunkPlace) -> Result<Vec<u8>, ReadError> {
        let _alone = self.windows.carefully.lock().await;
        let domain = self.domain(known)?;
        let mut effort = Effort::on(*known);
        self.whole(key, u8::MAX, domain, &mut effort).await
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
                        Ok(bytes) => self.compared(&windows[nth], bytes).await,
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

    /// Resolves a window through all depths, over places that are chosen.
    ///
    /// # Errors
    /// When a recipe cannot be had, or asks for more than a reader may be asked for. What is missing is no error.
    pub async fn resolve(self: &Arc<Self>, window: &WindowAt, choice: PlaceChoice<'_>) -> Result<Resolved, ReadError> {
        let location = &window.location;
        let top = Arc::new(self.recipe(location).await?);
        if window.length.is_some_and(|length| length != top.length()) {
            return Err(ReadError::OtherLength { id: window.key });
        }
        let domain = self.domain(location)?;
        let resolved = Resolved {
            length: top.length(),
            depth: top.depth(),
            recipes: vec![*location],
            chunks: Vec::new(),
            keys: Vec::new(),
            parts: Vec::new(),
            missing: BTreeMap::new(),
            lost: Vec::new(),
        };
        let mut resolving = Resolving { sources: HashMap::new(), resolved };
        let mut recipes = VecDeque::from([top.clone()]);
        let (mut named, mut items) = (HashSet::new(), top.items().len());
        while let Some(recipe) = recipes.pop_front() {
            for key in recipe.chunks() {
                if resolving.sources.contains_key(&(*key, recipe.depth())) {
                    continue;
                }
                named.insert(*key);
                if named.len() > CHUNKS_NEEDED_MAX {
                    return Err(bad(location, "it needs too many chunks"));
                }
                let source = match self.source(key, recipe.depth(), domain, choice).await? {
                    Ok(At::Plain(place)) => {
                        resolving.resolved.chunks.push(place);
                        resolving.resolved.keys.push(*key);
                        NamedChunk::Plain(resolving.resolved.chunks.len() as u32 - 1)
                    }
                    Ok(At::Recipe(place, recipe)) => {
                        resolving.resolved.recipes.push(place);
                        items += recipe.items().len();
                        if items > PARTS_NEEDED_MAX {
                            return Err(bad(location, "it needs too many parts"));
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
        if !resolving.add(&top, 0, top.length(), 0) {
            return Err(bad(location, "a part lies outside of its chunk, or there are too many"));
        }
        let resolved = resolving.resolved;
        if resolved.plain_bytes() > PLAIN_NEEDED_MAX {
            Err(bad(location, "it needs too many frames"))
        } else {
            Ok(resolved)
        }
    }

    /// Finds out what a chunk is that a recipe of `depth` names: plain if it can be, else a recipe of a lower depth, of several one of which
    /// all that it names is somewhere. Inside, why it is nowhere.
    async fn source(
        self: &Arc<Self>,
        key: &ChunkKey,
        depth: u8,
        domain: DomainId,
        choice: PlaceChoice<'_>,
    ) -> Result<Result<At, ReadError>, ReadError> {
        let mut missing = ReadError::Unknown { id: *key };
        let places = self.index.places(key);
        let of_domain = |place: &&ChunkPlace| choice(place) && self.domain(place).is_ok_and(|its| its == domain);
        let (recipes, plain): (Vec<&ChunkPlace>, Vec<&ChunkPlace>) =
            places.iter().filter(of_domain).partition(|place| place.codec.holds_recipes());
        if let Some(place) = plain.first() {
            return Ok(Ok(At::Plain(**place)));
        }
        let (is_alone, mut stale) = (recipes.len() == 1, None);
        let is_somewhere = |key: &ChunkKey| self.index.places(key).iter().any(|place| of_domain(&place));
        for place in recipes.into_iter().filter(|_| depth > 1) {
            match self.recipe_below(place, depth).await {
                Ok(recipe) if is_alone || recipe.chunks().iter().all(is_somewhere) => {
                    return Ok(Ok(At::Recipe(*place, recipe)));
                }
                Ok(recipe) => stale = stale.or(Some(At::Recipe(*place, recipe))),
                Err(error) if error.is_damage() => missing = error,
                Err(error) => return Err(error),
            }
        }
        Ok(stale.ok_or(missing))
    }

    /// Returns what is told of the pack of a place: of several records, one that has the key to it.
    fn record_of(&self, location: &ChunkPlace) -> Result<PackInfo, ReadError> {
        let pack = location.pack;
        let mut records = self.index.pack(pack);
        // Deriving a pack's key costs more than all the rest, and nearly every pack has one record.
        let opens = match records.len() {
            0 | 1 => 0,
            _ => records.iter().position(|record| self.opener(record).is_ok()).unwrap_or(0),
        };
        if records.is_empty() { Err(ReadError::NoPack { pack }) } else { Ok(records.swap_remove(opens)) }
    }

    pub(super) fn domain(&self, location: &ChunkPlace) -> Result<DomainId, ReadError> {
        Ok(self.record_of(location)?.header.at.domain)
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

    /// Returns a window if it has its id.
    async fn compared(self: &Arc<Self>, window: &WindowAt, bytes: Vec<u8>) -> Result<Vec<u8>, ReadError> {
        let (found, bytes) = self.hashed(&window.location, bytes).await?;
        if window.is(&found) { Ok(bytes) } else { Err(wrong_recipe(&window.location, window.key)) }
    }

    /// Computes the id that bytes have in the domain of a place.
    async fn hashed(&self, location: &ChunkPlace, bytes: Vec<u8>) -> Result<(ChunkId, Vec<u8>), ReadError> {
        let hasher = self.hasher(&self.record_of(location)?)?;
        Ok(blocking(move || (hasher.id(&bytes), bytes)).await)
    }

    /// Puts a window together carefully: each chunk that it names is taken whole from a place where it is right.
    ///
    /// # Errors
    /// [`ReadError::Part`] names a chunk that is right nowhere, [`ReadError::WrongRecipe`] a recipe of which all chunks are right.
    pub(super) async fn window(self: &Arc<Self>, window: &WindowAt) -> Result<Vec<u8>, ReadError> {
        let _alone = self.windows.carefully.lock().await;
        // What asks for too much is refused before anything is spent on it.
        self.resolve(window, &|_| true).await?;
        let mut effort = Effort::on(window.location);
        let bytes = self.carefully(window.key, &window.location, u8::MAX, &mut effort).await?;
        self.compared(window, bytes).await
    }

    fn carefully<'a>(
        self: &'a Arc<Self>,
        name: ChunkKey,
        location: &'a ChunkPlace,
        below: u8,
        effort: &'a mut Effort,
    ) -> BoxFuture<'a, Result<Vec<u8>, ReadError>> {
        Box::pin(async move {
            let recipe = self.recipe_below(location, below).await?;
            let domain = self.domain(location)?;
            let mut window = vec![0; recipe.length() as usize];
            for items in recipe.items_by_chunk().chunk_by(|one, next| one.chunk == next.chunk) {
                let key = recipe.chunks()[usize::from(items[0].chunk)];
                let whole = self.whole(&key, recipe.depth(), domain, effort).await;
                let whole = whole.map_err(|source| part_of(name, location, key, source))?;
                for item in items {
                    put_part(&mut window, item, &whole, location)?;
                }
            }
            Ok(window)
        })
    }

    /// Returns a chunk whole from the first place where it has its key.
    pub(super) async fn whole(
        self: &Arc<Self>,
        key: &ChunkKey,
        below: u8,
        domain: DomainId,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, ReadError> {
        let mut last = ReadError::Unknown { id: *key };
        for place in self.index.places(key) {
            if !self.domain(&place).is_ok_and(|its| its == domain) {
                continue;
            }
            effort.spend(&place)?;
            let whole = match place.codec.holds_recipes() {
                true => self.carefully(*key, &place, below, effort).await,
                false => self.frame(&place).await.and_then(|frame| {
                    let bytes = frame.get(place.offset as usize..place.offset as usize + place.length as usize);
                    bytes.map(<[u8]>::to_vec).ok_or_else(|| wrong(&place, key))
                }),
            };
            let hashed = match whole {
                Ok(whole) => self.hashed(&place, whole).await,
                Err(error) => Err(error),
            };
            let error = match hashed {
                Ok((id, whole)) if id.key() == *key => return Ok(whole),
                Ok(_) if place.codec.holds_recipes() => wrong_recipe(&place, *key),
                Ok(_) => wrong(&place, key),
                Err(error) => error,
            };
            if last.is_damage() {
                last = error;
            }
        }
        Err(last)
    }
}

/// Copies the part of a chunk that an item of the recipe at `location` is to its place in the window.
pub(super) fn put_part(window: &mut [u8], item: &Item, chunk: &[u8], location: &ChunkPlace) -> Result<(), ReadError> {
    let part = chunk.get(item.offset as usize..item.end() as usize);
    let part = part.ok_or_else(|| bad(location, "a part lies outside of its chunk"))?;
    window[item.at as usize..][..part.len()].copy_from_slice(part);
    Ok(())
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
    /// Returns it unless something is missing.
    fn whole(mut self, window: &WindowAt) -> Result<Self, ReadError> {
        match self.missing.pop_first() {
            Some((key, source)) => Err(part_of(window.key, &window.location, key, source)),
            None => Ok(self),
        }
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

/// What was spent on putting a window together carefully.
pub(super) struct Effort {
    /// Where its recipe is.
    of: ChunkPlace,
    chunks: usize,
    bytes: u64,
    frames: HashSet<(PackId, u32)>,
}

impl Effort {
    /// Nothing yet, on the window whose recipe is at a place.
    pub(super) fn on(of: ChunkPlace) -> Self {
        Self { of, chunks: 0, bytes: 0, frames: HashSet::new() }
    }

    /// Counts a place that is tried.
    pub(super) fn spend(&mut self, place: &ChunkPlace) -> Result<(), ReadError> {
        self.chunks += 1;
        self.bytes += u64::from(place.length);
        if self.frames.insert((place.pack, place.frame)) {
            self.bytes += u64::from(place.plain_len);
        }
        let is_too_much =
            self.chunks > PLACES_TRIED * CHUNKS_NEEDED_MAX || self.bytes > PLACES_TRIED as u64 * PLAIN_NEEDED_MAX;
        if is_too_much { Err(bad(&self.of, "it needs too much")) } else { Ok(()) }
    }
}

fn bad(location: &ChunkPlace, why: &str) -> ReadError {
    let source = FormatError::Invalid { what: "a recipe", why: why.to_owned() };
    ReadError::Recipe { pack: location.pack, frame: location.frame, source }
}

fn wrong(place: &ChunkPlace, key: &ChunkKey) -> ReadError {
    ReadError::WrongChunk { pack: place.pack, frame: place.frame, id: *key }
}

pub(super) fn wrong_recipe(place: &ChunkPlace, id: ChunkKey) -> ReadError {
    ReadError::WrongRecipe { pack: place.pack, frame: place.frame, id }
}

pub(super) fn part_of(window: ChunkKey, location: &ChunkPlace, part: ChunkKey, source: ReadError) -> ReadError {
    ReadError::Part { window, pack: location.pack, frame: location.frame, part, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};

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
