//! A window put together carefully, by itself: each chunk that it names is taken whole, and compared with its key, from the first
//! place where it is right. Then it is asked for in the packs that are named, by what these tell of themselves. What that may cost is
//! `effort`'s.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::format::recipe::{Item, Recipe};
use crate::model::id::{ChunkId, ChunkKey, DomainId};
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::effort::{Effort, Tellers};
use crate::repository::reader::own::packs_asked;
use crate::repository::reader::recipe::{bad, is_too_much, part_of, wrong_recipe};
use crate::repository::reader::telling::{Named, Telling};
use crate::repository::reader::windows::{NotResolved, WindowAt};
use crate::repository::reader::{ReadError, Reader};

impl Reader {
    /// Returns a chunk of which the key alone is known, and a place where it is or was, from the first place where it has its key:
    /// plain, or put together.
    ///
    /// # Errors
    /// The [`ReadError`] of the last place tried; one that is not damage comes first, since it leaves the answer open.
    pub async fn chunk_of_key(self: &Arc<Self>, key: &ChunkKey, known: &ChunkPlace) -> Result<Vec<u8>, ReadError> {
        let _alone = self.windows.carefully.lock().await;
        let mut failed = ReadError::Unknown { id: *key };
        for domain in self.domains(&Telling::by_segments(*known))? {
            let named = Named { key: *key, depth: u8::MAX, domain, end: 0 };
            match self.whole(&named, &Tellers::default(), &mut Effort::on(*known)).await {
                Ok(whole) => return Ok(whole),
                Err(error) if failed.is_damage() => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// Puts a window together carefully, by the recipe at its place.
    ///
    /// # Errors
    /// [`ReadError::Part`] names a chunk that is right nowhere, [`ReadError::WrongRecipe`] a recipe of which all chunks are right.
    pub(super) async fn window(self: &Arc<Self>, window: &WindowAt) -> Result<Vec<u8>, ReadError> {
        self.window_told(window, &Tellers::default(), &mut Effort::default()).await
    }

    /// Does the same by the word of some, with what may be spent on all recipes of the window.
    pub(super) async fn window_told(
        self: &Arc<Self>,
        window: &WindowAt,
        tellers: &Tellers,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, ReadError> {
        let _alone = self.windows.carefully.lock().await;
        self.may_be_made(window).await?;
        self.put_together(window, &Telling::by_segments(window.location), tellers, effort).await
    }

    /// Sees to it that other places than those that are chosen at first might do, where these do not.
    ///
    /// # Errors
    /// Why the window is not resolved, where there are no others: what asks for too much is refused before anything is spent on it.
    pub(super) async fn may_be_made(self: &Arc<Self>, window: &WindowAt) -> Result<(), ReadError> {
        match self.try_to_resolve(window, &|_| true).await {
            Err(NotResolved { error, is_open }) if !is_open || !error.is_damage() => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns a chunk that a pack, which some tell of, says itself that it has, plain or by a recipe, if it has its id.
    pub(super) async fn chunk_told(
        self: &Arc<Self>,
        id: &ChunkId,
        telling: &Telling,
        tellers: &Tellers,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, ReadError> {
        let wanted = *id;
        if !telling.place.codec.holds_recipes() {
            return self.plain_chunk(id.key(), telling, move |found| *found == wanted).await;
        }
        let _alone = self.windows.carefully.lock().await;
        let window = WindowAt { key: id.key(), id: Some(wanted), length: None, location: telling.place };
        self.put_together(&window, telling, tellers, effort).await
    }

    async fn put_together(
        self: &Arc<Self>,
        window: &WindowAt,
        telling: &Telling,
        tellers: &Tellers,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, ReadError> {
        let recipe = self.recipe_of(telling, u8::MAX).await?;
        effort.of = Some(telling.place);
        let mut failed = wrong_recipe(&telling.place, window.key);
        for domain in self.domains(telling)? {
            let before = effort.taken();
            let made = match self.carefully(window.key, telling, &recipe, domain, tellers, effort).await {
                Ok(bytes) => self.compared(window, telling, bytes).await,
                Err(error) => Err(error),
            };
            match made {
                Ok(bytes) => return Ok(bytes),
                Err(error) if failed.is_damage() => failed = error,
                Err(_) => {}
            }
            effort.give_back(before);
        }
        // That is no fault of the part at which it shows.
        Err(if is_too_much(&failed, &telling.place) { failed.root().clone() } else { failed })
    }

    /// Puts together what a recipe makes, which `name` is to be.
    fn carefully<'a>(
        self: &'a Arc<Self>,
        name: ChunkKey,
        telling: &'a Telling,
        recipe: &'a Recipe,
        domain: DomainId,
        tellers: &'a Tellers,
        effort: &'a mut Effort,
    ) -> BoxFuture<'a, Result<Vec<u8>, ReadError>> {
        Box::pin(async move {
            let location = &telling.place;
            effort.names(recipe);
            let mut window = vec![0; recipe.length() as usize];
            for items in recipe.items_by_chunk().chunk_by(|one, next| one.chunk == next.chunk) {
                let named = Named::by(recipe, items, domain);
                let whole = self.whole(&named, tellers, effort).await;
                let whole = whole.map_err(|source| part_of(name, location, named.key, source))?;
                for item in items {
                    put_part(&mut window, item, &whole, location)?;
                }
            }
            Ok(window)
        })
    }

    /// Returns a chunk whole that is named by the word of some, from the first place where it has its key.
    pub(super) async fn whole(
        self: &Arc<Self>,
        named: &Named,
        by: &Tellers,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, ReadError> {
        let told = self.untried_by_frames(named);
        let (mut failed, mut asks_for_too_much) = (None, false);
        for place in &told {
            let tellers = by.and(place.author);
            if !named.may_be_at(place) || !effort.may_try(&tellers) {
                continue;
            }
            match self.whole_at(named, &Telling::by_segments(*place), &tellers, effort).await {
                Ok(Some(whole)) => return Ok(whole),
                Ok(None) => asks_for_too_much = true,
                Err(error) => {
                    if error.is_damage() {
                        self.vain.add(place.author);
                    }
                    note(&mut failed, error);
                }
            }
        }
        if let Some(error) = &failed
            && !error.is_damage()
        {
            return Err(error.clone());
        }
        for (pack, author) in packs_asked(&told) {
            let tellers = by.and(author);
            if !effort.may_try(&tellers) {
                continue;
            }
            let own = self.own_tellings(&named.key, pack, &told).await?;
            effort.add_vain(&tellers, own.directory_bytes);
            for telling in &own.tellings {
                if !named.may_be_at(&telling.place) {
                    continue;
                }
                match self.whole_at(named, telling, &tellers, effort).await {
                    Ok(Some(whole)) => return Ok(whole),
                    Ok(None) => asks_for_too_much = true,
                    Err(error) => note(&mut failed, error),
                }
            }
        }
        Err(match failed {
            Some(error) => error,
            None if asks_for_too_much => effort.too_much(&named.key),
            None => ReadError::Unknown { id: named.key },
        })
    }

    /// Returns a chunk from a place; `None` where it is right there, and more than may be taken.
    async fn whole_at(
        self: &Arc<Self>,
        named: &Named,
        telling: &Telling,
        tellers: &Tellers,
        effort: &mut Effort,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let (key, place) = (named.key, &telling.place);
        if !place.codec.holds_recipes() {
            return match self.plain_chunk(key, telling, move |found| found.key() == key).await {
                Ok(whole) => Ok(effort.take(tellers, whole.len(), Some(place)).then_some(whole)),
                Err(error) => {
                    effort.add_vain_at(tellers, place);
                    Err(error)
                }
            };
        }
        let before = effort.taken();
        let made = self.made(named, telling, tellers, effort).await;
        if let Ok(whole) = &made
            && effort.take(tellers, whole.len(), None)
        {
            return made.map(Some);
        }
        effort.give_back(before);
        effort.add_vain_at(tellers, place);
        made.map(|_| None)
    }

    /// Returns what the recipe at a place makes, if it has the key of the chunk that is named. Nothing is fetched for one that names
    /// what nobody has.
    async fn made(
        self: &Arc<Self>,
        named: &Named,
        telling: &Telling,
        tellers: &Tellers,
        effort: &mut Effort,
    ) -> Result<Vec<u8>, ReadError> {
        let (key, place) = (named.key, &telling.place);
        let recipe = self.recipe_of(telling, named.depth).await?;
        let is_nowhere = |part: &&ChunkKey| {
            let named = Named { key: **part, depth: recipe.depth(), domain: named.domain, end: 0 };
            self.untried(&named, &|_| true).is_empty()
        };
        if let Some(part) = recipe.chunks().iter().find(is_nowhere) {
            return Err(part_of(key, place, *part, ReadError::Unknown { id: *part }));
        }
        let bytes = self.carefully(key, telling, &recipe, named.domain, tellers, effort).await?;
        let held = self.held_to(telling, bytes, move |found| found.key() == key).await?;
        held.ok_or_else(|| wrong_recipe(place, key))
    }

    /// Returns the chunk that is stored plain at a place, if its id is the one that is wanted.
    async fn plain_chunk(
        self: &Arc<Self>,
        key: ChunkKey,
        telling: &Telling,
        is_wanted: impl Fn(&ChunkId) -> bool + Send + 'static,
    ) -> Result<Vec<u8>, ReadError> {
        let place = &telling.place;
        let bytes = {
            let frame = self.frame_of(telling).await?;
            let bytes = frame.get(place.offset as usize..place.offset as usize + place.length as usize);
            bytes.map(<[u8]>::to_vec).ok_or_else(|| wrong(place, &key))?
        };
        self.held_to(telling, bytes, is_wanted).await?.ok_or_else(|| wrong(place, &key))
    }
}

/// Copies the part of a chunk that an item of the recipe at `location` is to its place in the window.
pub(super) fn put_part(window: &mut [u8], item: &Item, chunk: &[u8], location: &ChunkPlace) -> Result<(), ReadError> {
    let part = chunk.get(item.offset as usize..item.end() as usize);
    let part = part.ok_or_else(|| bad(location, "a part lies outside of its chunk"))?;
    window[item.at as usize..][..part.len()].copy_from_slice(part);
    Ok(())
}

/// Notes why something cannot be had from one more place: the last reason counts, and one first that leaves the answer open.
fn note(failed: &mut Option<ReadError>, error: ReadError) {
    if failed.as_ref().is_none_or(ReadError::is_damage) {
        *failed = Some(error);
    }
}

fn wrong(place: &ChunkPlace, key: &ChunkKey) -> ReadError {
    ReadError::WrongChunk { pack: place.pack, frame: place.frame, id: *key }
}
