//! Places of a chunk: which are tried, in which order, and by what is known of its pack one is opened.
//!
//! Whoever writes segments can say of any chunk that it lies anywhere, of any pack what it is, and can say so as often as he
//! likes. So no place and no record is relied on: what counts is the chunk's key. Authors take turns with a few of the places that each tells
//! of, those first of whom the least came to nothing in this run. How often somebody may fail for one window is `effort`'s.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::blocking::blocking;
use crate::crypto::chunk_id::ChunkHasher;
use crate::format::recipe::{Item, Recipe};
use crate::model::author::Author;
use crate::model::id::{ChunkId, ChunkKey, DomainEpoch, DomainId};
use crate::repository::Repository;
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::reader::frame::decoded_with;
use crate::repository::reader::recipe::{PlaceChoice, bad, recipe_in};
use crate::repository::reader::{ReadError, Reader};

/// Places of one chunk in an author's turn: one who is honest has a few.
const PLACES_A_TURN: usize = 64;

/// What a recipe wants of a chunk that it names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    /// The chunk.
    pub(super) key: ChunkKey,
    /// How deep the recipe is.
    pub(super) depth: u8,
    /// The domain that both are of.
    pub(super) domain: DomainId,
    /// Where what it takes of the chunk ends.
    pub(super) end: u32,
}

impl Named {
    /// What a recipe wants by items that are of one chunk.
    pub(super) fn by(recipe: &Recipe, items: &[Item], domain: DomainId) -> Self {
        let key = recipe.chunks()[usize::from(items[0].chunk)];
        Self { key, depth: recipe.depth(), domain, end: items.iter().map(Item::end).max().unwrap_or(0) }
    }

    /// Tells whether it may be at a place: no recipe is so low that one of depth 1 may name it.
    pub(super) fn may_be_at(&self, place: &ChunkPlace) -> bool {
        self.depth > 1 || !place.codec.holds_recipes()
    }
}

/// Which places of a chunk come first that are equal otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) enum FirstPlaces {
    /// Those that readers tell of: the first one is believed.
    OfReaders,
    /// Those in short frames, whoever tells of them: each is compared, and what is taken of frames has bounds.
    OfShortFrames,
}

impl FirstPlaces {
    /// Returns by what places are told apart.
    fn rank(self, place: &ChunkPlace) -> (u32, bool, u32) {
        let by_writer = place.author != Author::Reader;
        match self {
            FirstPlaces::OfReaders => (0, by_writer, place.plain_len),
            FirstPlaces::OfShortFrames => (place.plain_len, by_writer, 0),
        }
    }
}

/// A place where a chunk, or its recipe, is said to lie.
#[derive(Debug, Clone)]
pub(super) struct Telling {
    pub(super) place: ChunkPlace,
    /// What the pack tells of itself, where it is the pack that says so, and no segment.
    own: Option<PackInfo>,
}

impl Telling {
    /// A place that segments tell of.
    pub(super) fn by_segments(place: ChunkPlace) -> Self {
        Self { place, own: None }
    }

    /// A place that the pack tells of itself.
    pub(super) fn by_pack(place: ChunkPlace, own: PackInfo) -> Self {
        Self { place, own: Some(own) }
    }
}

/// How many places came to nothing of those that each author tells of. The order in which places are tried goes by it and nothing
/// else, so nobody is refused for what others bring about.
#[derive(Debug)]
pub(super) struct InVain(Mutex<HashMap<Author, u32>>);

impl InVain {
    /// Nothing was tried yet; those who were thrown out come behind all others.
    pub(super) fn of(repository: &Repository) -> Self {
        let thrown_out = repository.keys().writers().iter().filter(|writer| writer.is_revoked);
        Self(Mutex::new(thrown_out.map(|writer| (Author::Writer(writer.id), u32::MAX)).collect()))
    }

    pub(super) fn add(&self, author: Author) {
        let mut vain = self.0.lock().expect("no panic while held");
        let count = vain.entry(author).or_default();
        *count = count.saturating_add(1);
    }
}

impl Reader {
    /// Returns the places of `choice` where a chunk that is named may be, in the order in which they are tried: by turns of those who tell of
    /// them, first by how much of theirs came to nothing, then those that are long enough, plain, told of by readers, and of short
    /// frames.
    pub(super) fn untried(&self, named: &Named, choice: PlaceChoice<'_>) -> Vec<ChunkPlace> {
        let may_do = |place: &ChunkPlace| choice(place) && self.is_of_domain(place, named.domain);
        self.in_order(&named.key, named.end, FirstPlaces::OfReaders, may_do)
    }

    /// Returns all of them in the order in which they are compared one after the other: those in short frames before those that readers tell of.
    pub(super) fn untried_by_frames(&self, named: &Named) -> Vec<ChunkPlace> {
        let may_do = |place: &ChunkPlace| self.is_of_domain(place, named.domain);
        self.in_order(&named.key, named.end, FirstPlaces::OfShortFrames, may_do)
    }

    /// Returns the same, each place once, whoever tells of it.
    pub(super) fn untried_once(&self, named: &Named, choice: PlaceChoice<'_>) -> Vec<ChunkPlace> {
        let (mut places, mut seen) = (self.untried(named, choice), HashSet::new());
        places.retain(|place| seen.insert(place.by_anybody()));
        places
    }

    /// Returns those where a chunk may be of which up to `end` is wanted.
    pub(super) fn in_order(
        &self,
        key: &ChunkKey,
        end: u32,
        first: FirstPlaces,
        may_do: impl Fn(&ChunkPlace) -> bool,
    ) -> Vec<ChunkPlace> {
        let mut told = self.index().told_places(key);
        if told.len() > 1 {
            let vain = self.vain.0.lock().expect("no panic while held");
            told.sort_by_key(|(rank, place)| {
                let is_recipe = place.codec.holds_recipes();
                let is_short = !is_recipe && place.length < end;
                let in_vain = vain.get(&place.author).copied().unwrap_or(0);
                (*rank, in_vain, is_short, is_recipe, first.rank(place))
            });
        }
        let mut seen = HashSet::new();
        told.retain(|(_, place)| seen.insert(*place) && may_do(place));
        in_turns(told.into_iter().map(|(_, place)| place).collect())
    }

    /// Tells whether anybody says that the pack of a place is of a domain.
    pub(super) fn is_of_domain(&self, place: &ChunkPlace, domain: DomainId) -> bool {
        self.index().pack(place.pack).iter().any(|record| record.header.at.domain == domain)
    }

    /// Returns the domains that the pack of a place is said to be of, those to which there are keys: nearly always one.
    pub(super) fn domains(&self, telling: &Telling) -> Result<Vec<DomainId>, ReadError> {
        let mut domains = Vec::new();
        for (at, _) in self.hashers_of(telling)? {
            if !domains.contains(&at.domain) {
                domains.push(at.domain);
            }
        }
        Ok(domains)
    }

    /// Returns the hashers of all that the pack of a place is said to be of, one at least.
    fn hashers_of(&self, telling: &Telling) -> Result<Vec<(DomainEpoch, ChunkHasher)>, ReadError> {
        let pack = telling.place.pack;
        let records = match &telling.own {
            Some(own) => vec![own.clone()],
            None => self.index().pack(pack),
        };
        let (mut hashers, mut missing) = (Vec::<(DomainEpoch, ChunkHasher)>::new(), ReadError::NoPack { pack });
        for record in records {
            let at = record.header.at;
            if hashers.iter().any(|(known, _)| *known == at) {
                continue;
            }
            match self.hasher(&record) {
                Ok(hasher) => hashers.push((at, hasher)),
                Err(error) => missing = error,
            }
        }
        if hashers.is_empty() { Err(missing) } else { Ok(hashers) }
    }

    /// Returns bytes that were made of what lies at a place, if the id that they have is the one that is wanted.
    pub(super) async fn held_to(
        &self,
        telling: &Telling,
        bytes: Vec<u8>,
        is_wanted: impl Fn(&ChunkId) -> bool + Send + 'static,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let hashers = self.hashers_of(telling)?;
        let compare = move || {
            let is_right = hashers.iter().any(|(_, hasher)| is_wanted(&hasher.id(&bytes)));
            is_right.then_some(bytes)
        };
        Ok(blocking(compare).await)
    }

    /// Returns the plaintext of the frame at a place.
    pub(super) async fn frame_of(self: &Arc<Self>, telling: &Telling) -> Result<Arc<Vec<u8>>, ReadError> {
        let place = telling.place;
        let Some(own) = &telling.own else { return self.frame(&place).await };
        let opener = self.opener(own)?;
        let start = u64::from(place.frame_offset);
        let sealed = self.fetch(place.pack, start..start + u64::from(place.sealed_len)).await?.bytes;
        blocking(move || decoded_with(&opener, &place, sealed.into())).await.map(Arc::new)
    }

    /// Reads the recipe at a place that one of depth `below` names: it must be less deep.
    pub(super) async fn recipe_of(self: &Arc<Self>, telling: &Telling, below: u8) -> Result<Recipe, ReadError> {
        let place = &telling.place;
        let recipe = recipe_in(&self.frame_of(telling).await?[..], place)?;
        if recipe.depth() < below { Ok(recipe) } else { Err(bad(place, "it is named by one that is not deeper")) }
    }
}

/// Gives each author a turn of a few places after the other; within turns the order stays.
fn in_turns(places: Vec<ChunkPlace>) -> Vec<ChunkPlace> {
    if places.len() <= PLACES_A_TURN {
        return places;
    }
    let mut of_author: HashMap<Author, usize> = HashMap::new();
    let turn = |place: ChunkPlace| {
        let count = of_author.entry(place.author).or_default();
        *count += 1;
        ((*count - 1) / PLACES_A_TURN, place)
    };
    let mut turns: Vec<(usize, ChunkPlace)> = places.into_iter().map(turn).collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::id::{PackId, WriterId};

    #[test]
    fn where_places_are_compared_no_long_frame_is_taken_because_a_reader_tells_of_it() {
        let place = |author, plain_len| ChunkPlace {
            pack: PackId([1; 16]),
            author,
            kind: PackKind::Data,
            frame: 0,
            frame_offset: 0,
            sealed_len: 100,
            plain_len,
            codec: Codec::Zstd,
            offset: 0,
            length: 100,
        };
        let writer = Author::Writer(WriterId([1; WriterId::LEN]));
        let places = [place(Author::Reader, 16 << 20), place(writer, 512 << 10), place(Author::Reader, 512 << 10)];
        let in_order = |first: FirstPlaces| {
            let mut places = places;
            places.sort_by_key(|place| first.rank(place));
            places.map(|place| (place.author == Author::Reader, place.plain_len >> 10))
        };
        assert_eq!(in_order(FirstPlaces::OfReaders), [(true, 512), (true, 16 << 10), (false, 512)]);
        assert_eq!(in_order(FirstPlaces::OfShortFrames), [(true, 512), (false, 512), (true, 16 << 10)]);
    }
}
