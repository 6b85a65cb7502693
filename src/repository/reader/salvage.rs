//! What there is of something of which a part is lost: a chunk without the parts of its recipe that cannot be had, and a content with
//! its gaps named, from beginning to end.
//!
//! What is given out was compared: each chunk that a recipe names with its own key. That the recipe puts them where they belong is its
//! author's word alone where the window lacks something, since only a whole one can be compared with its id.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::format::recipe::{Item, Recipe};
use crate::model::entry::{ChunkRef, FileContent};
use crate::model::id::{ChunkKey, DomainId};
use crate::repository::reader::carefully::put_part;
use crate::repository::reader::content::{ContentError, ContentPart, ContentStream};
use crate::repository::reader::effort::{Effort, Tellers};
use crate::repository::reader::recipe::{part_of, wrong_recipe};
use crate::repository::reader::telling::{Named, Telling};
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};

/// So many ends of parts must end a line each before those at gaps are believed to.
const LINE_ENDS_SEEN: usize = 3;

/// Bytes of a chunk that cannot be had.
#[derive(Debug, Clone)]
pub struct LostBytes {
    /// Where in the chunk.
    pub range: Range<u32>,
    /// Why.
    pub why: ReadError,
}

/// A chunk of which something cannot be had.
#[derive(Debug, Clone)]
pub struct SalvagedChunk {
    /// Its bytes, zeros for those that are lost.
    pub bytes: Vec<u8>,
    /// What is lost of it, in order; something is.
    pub lost: Vec<LostBytes>,
    /// Each part of it that is there ends a line, so those that are lost are lines.
    pub is_of_lines: bool,
}

impl SalvagedChunk {
    /// Of `length` bytes nothing is there.
    fn nothing(length: u32, why: ReadError) -> Self {
        let lost = vec![LostBytes { range: 0..length, why }];
        Self { bytes: vec![0; length as usize], lost, is_of_lines: false }
    }

    /// Returns another one instead, if no more is lost of it.
    fn or_better(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.lost_bytes() <= self.lost_bytes() => other,
            _ => self,
        }
    }

    /// Returns how many bytes are lost.
    pub fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|lost| u64::from(lost.range.end - lost.range.start)).sum()
    }

    /// Returns the parts that are there.
    pub fn there(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let starts = std::iter::once(0).chain(self.lost.iter().map(|lost| lost.range.end));
        let ends = self.lost.iter().map(|lost| lost.range.start).chain([self.bytes.len() as u32]);
        starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty())
    }

    /// Adds lost bytes, in order; those that touch and are lost by the same become one.
    fn add_lost(lost: &mut Vec<LostBytes>, range: Range<u32>, why: &ReadError) {
        match lost.last_mut().filter(|last| last.range.end == range.start && is_same(&last.why, why)) {
            Some(last) => last.range.end = range.end,
            None => lost.push(LostBytes { range, why: why.clone() }),
        }
    }
}

/// Tells whether two errors say the same.
fn is_same(one: &ReadError, other: &ReadError) -> bool {
    one.root().to_string() == other.root().to_string()
}

impl Reader {
    /// Returns what there is of a chunk that could not be had because of `why`: nothing, unless a recipe makes it of which some chunks are
    /// there. Of several recipes the one counts by which the least is lost. Takes the memory of putting one window together carefully.
    ///
    /// # Errors
    /// When something is out of reach, which leaves open what is lost.
    pub async fn salvage(self: &Arc<Self>, chunk: &ChunkRef, why: ReadError) -> Result<SalvagedChunk, ReadError> {
        let mut best = SalvagedChunk::nothing(chunk.length, why);
        let places = self.index().locate_all(&chunk.id).into_iter();
        for place in places.filter(|place| place.codec.holds_recipes()) {
            match self.salvage_window(&WindowAt::of(*chunk, place)).await {
                Ok(salvaged) if salvaged.lost_bytes() < best.lost_bytes() => best = salvaged,
                Err(error) if !error.is_damage() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(best)
    }

    async fn salvage_window(self: &Arc<Self>, window: &WindowAt) -> Result<SalvagedChunk, ReadError> {
        let _alone = self.windows.carefully.lock().await;
        self.may_be_made(window).await?;
        let telling = Telling::by_segments(window.location);
        let recipe = self.recipe_of(&telling, u8::MAX).await?;
        let mut best: Option<SalvagedChunk> = None;
        let mut failed = wrong_recipe(&window.location, window.key);
        for domain in self.domains(&telling)? {
            let mut effort = Effort::on(window.location);
            let by = Tellers::default();
            match self.salvage_at(window.key, &telling, &recipe, domain, &by, &mut effort).await {
                // All that it names is right, and yet it was asked for: what it makes is something else.
                Ok(salvaged) if salvaged.lost.is_empty() => {}
                Ok(salvaged) => best = Some(salvaged.or_better(best)),
                Err(error) if !error.is_damage() => return Err(error),
                Err(error) => failed = error,
            }
        }
        best.ok_or(failed)
    }

    fn salvage_at<'a>(
        self: &'a Arc<Self>,
        name: ChunkKey,
        telling: &'a Telling,
        recipe: &'a Recipe,
        domain: DomainId,
        by: &'a Tellers,
        effort: &'a mut Effort,
    ) -> BoxFuture<'a, Result<SalvagedChunk, ReadError>> {
        Box::pin(async move {
            let location = &telling.place;
            effort.names(recipe);
            let mut bytes = vec![0; recipe.length() as usize];
            let mut lost = Vec::new();
            for items in recipe.items_by_chunk().chunk_by(|one, next| one.chunk == next.chunk) {
                let named = Named::by(recipe, items, domain);
                let part = match self.whole(&named, by, effort).await {
                    Ok(whole) => SalvagedChunk { bytes: whole, lost: Vec::new(), is_of_lines: false },
                    Err(error) if !error.is_damage() => return Err(error),
                    Err(error) => {
                        let why = part_of(name, location, named.key, error);
                        match self.salvage_named(&named, by, effort).await? {
                            Some(part) => part,
                            None => {
                                lost.extend(items.iter().map(|item| (item.at..item.at + item.length, why.clone())));
                                continue;
                            }
                        }
                    }
                };
                for item in items {
                    put_part(&mut bytes, item, &part.bytes, location)?;
                    lost.extend(part.lost.iter().filter_map(|it| Some((within(item, &it.range)?, it.why.clone()))));
                }
            }
            lost.sort_by_key(|(range, _)| range.start);
            let mut joined = Vec::new();
            lost.iter().for_each(|(range, why)| SalvagedChunk::add_lost(&mut joined, range.clone(), why));
            let is_of_lines = are_lines(recipe, &bytes, &joined);
            Ok(SalvagedChunk { bytes, lost: joined, is_of_lines })
        })
    }

    /// Returns what there is of a chunk that is named, if a recipe makes something of it.
    async fn salvage_named(
        self: &Arc<Self>,
        named: &Named,
        by: &Tellers,
        effort: &mut Effort,
    ) -> Result<Option<SalvagedChunk>, ReadError> {
        let mut best: Option<SalvagedChunk> = None;
        for place in self.untried(named, &|_| true) {
            let tellers = by.and(place.author);
            if !place.codec.holds_recipes() || !named.may_be_at(&place) || !effort.may_try(&tellers) {
                continue;
            }
            let telling = Telling::by_segments(place);
            let before = effort.taken();
            let salvaged = match self.recipe_of(&telling, named.depth).await {
                Ok(recipe) => self.salvage_at(named.key, &telling, &recipe, named.domain, &tellers, effort).await,
                Err(error) => Err(error),
            };
            match salvaged {
                // All that it names is right, and it was not: what it makes is something else.
                Ok(salvaged) if salvaged.lost.is_empty() => {}
                Ok(salvaged) => best = Some(salvaged.or_better(best)),
                Err(error) if !error.is_damage() => return Err(error),
                Err(_) => {}
            }
            effort.give_back(before);
            effort.add_vain(&tellers, u64::from(place.sealed_len));
        }
        Ok(best)
    }

    /// Begins to read what there is of a content, from its beginning to its end.
    pub fn salvaged_content(self: &Arc<Self>, content: &FileContent) -> SalvageStream {
        let rest = self.content(content);
        let (reader, content) = (self.clone(), content.clone());
        SalvageStream { reader, content, position: 0, rest: Some(rest), found: VecDeque::new() }
    }
}

/// Returns where in its window the part of an item lies that is within `range` of its chunk.
fn within(item: &Item, range: &Range<u32>) -> Option<Range<u32>> {
    let (start, end) = (range.start.max(item.offset), range.end.min(item.end()));
    (start < end).then(|| item.at + (start - item.offset)..item.at + (end - item.offset))
}

/// Tells whether each part that is there ends a line, and there are enough to tell.
fn are_lines(recipe: &Recipe, bytes: &[u8], lost: &[LostBytes]) -> bool {
    let is_lost = |at: u32| lost.iter().any(|lost| lost.range.contains(&at));
    let ends = recipe.items().iter().map(|item| item.at + item.length - 1).filter(|at| !is_lost(*at));
    let seen = ends.take(1024).try_fold(0, |seen, at| (bytes[at as usize] == b'\n').then_some(seen + 1));
    seen.is_some_and(|seen| seen >= LINE_ENDS_SEEN)
}

/// A part of a content of which something may be lost.
#[derive(Debug, Clone)]
pub enum SalvagedPart {
    /// What is there.
    There(ContentPart),
    /// What is not.
    Lost {
        /// How many bytes.
        length: u64,
        /// Why, down to the cause.
        why: ReadError,
        /// Lines are lost, and nothing of those before and behind.
        is_of_lines: bool,
    },
}

impl SalvagedPart {
    /// Returns how many bytes of the content it is.
    pub fn length(&self) -> u64 {
        match self {
            SalvagedPart::There(ContentPart::Bytes(_, range)) => range.len() as u64,
            SalvagedPart::There(ContentPart::Zeros(length)) | SalvagedPart::Lost { length, .. } => *length,
        }
    }
}

/// What there is of a content, in order, with what is lost in its place.
pub struct SalvageStream {
    reader: Arc<Reader>,
    content: FileContent,
    /// Where what comes next stands.
    position: u64,
    /// What comes as long as nothing is lost.
    rest: Option<ContentStream>,
    /// What was found of a chunk that is not whole, and is not given out yet.
    found: VecDeque<SalvagedPart>,
}

impl SalvageStream {
    /// Returns what comes next, or `None` at the end.
    ///
    /// # Errors
    /// [`ContentError`] when something is out of reach, or the chunks are other than the entry says: nothing comes after that.
    pub async fn next(&mut self) -> Option<Result<SalvagedPart, ContentError>> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(Ok(self.up_to_hole(found)));
            }
            if self.rest.is_none() && self.position < self.content.size {
                let rest = self.position..self.content.size;
                self.rest = Some(self.reader.content_range(&self.content, rest));
            }
            match self.rest.as_mut()?.next().await? {
                Ok(part) => {
                    self.position += match &part {
                        ContentPart::Bytes(_, range) => range.len() as u64,
                        ContentPart::Zeros(zeros) => *zeros,
                    };
                    return Some(Ok(SalvagedPart::There(part)));
                }
                Err(error) if !error.is_damage() || matches!(error, ContentError::Length { .. }) => {
                    return Some(Err(error));
                }
                Err(error) => {
                    self.rest = None;
                    if let Err(source) = self.salvage_next(error).await {
                        (self.position, self.rest) = (self.content.size, None);
                        return Some(Err(source));
                    }
                }
            }
        }
    }

    /// Finds out what there is of the chunk, or the part of the list, that was met with an error.
    async fn salvage_next(&mut self, error: ContentError) -> Result<(), ContentError> {
        let offset = self.position;
        let unread = |source| ContentError::Chunk { offset, source };
        let from = self.content.stored_before(offset);
        let mut walk = self.reader.chunks_from(&self.content.chunks, self.content.stored_length(), from);
        match walk.next().await {
            Some(Ok(chunk)) => {
                let cut = walk.take_cut() as u32;
                let why = match error {
                    ContentError::Chunk { source, .. } => source,
                    ContentError::List { source, .. } => source.error,
                    ContentError::Length { .. } => return Err(error),
                };
                let salvaged = self.reader.salvage(&chunk, why).await.map_err(unread)?;
                self.found = parts_of(salvaged, cut).into();
                Ok(())
            }
            Some(Err(source)) if source.error.is_damage() => {
                let (length, why) = (source.bytes, source.error);
                self.found.push_back(SalvagedPart::Lost { length, why, is_of_lines: false });
                Ok(())
            }
            Some(Err(source)) => Err(ContentError::List { offset, source }),
            None => Err(error),
        }
    }

    /// Gives out what was found, only as far as the next hole, which comes with what follows.
    fn up_to_hole(&mut self, found: SalvagedPart) -> SalvagedPart {
        let holes = self.content.holes.iter();
        if let Some(hole) = holes.clone().find(|hole| hole.offset == self.position && hole.length > 0) {
            self.position += hole.length;
            self.found.push_front(found);
            return SalvagedPart::There(ContentPart::Zeros(hole.length));
        }
        let next = holes.map(|hole| hole.offset).find(|offset| *offset > self.position);
        let room = next.map_or(u64::MAX, |next| next - self.position);
        let (now, later) = split(found, room);
        self.position += now.length();
        if let Some(later) = later {
            self.found.push_front(later);
        }
        now
    }
}

/// Returns the parts of a chunk, there and lost, in order, without its first `cut` bytes.
fn parts_of(salvaged: SalvagedChunk, cut: u32) -> Vec<SalvagedPart> {
    let there: Vec<Range<u32>> = salvaged.there().collect();
    let SalvagedChunk { bytes, lost, is_of_lines } = salvaged;
    let bytes = Arc::new(bytes);
    let beyond = |range: Range<u32>| range.start.max(cut)..range.end.max(cut);
    let there = there.into_iter().map(|range| {
        let range = beyond(range);
        let part = ContentPart::Bytes(bytes.clone(), range.start as usize..range.end as usize);
        (range, SalvagedPart::There(part))
    });
    let lost = lost.into_iter().map(|LostBytes { range, why }| {
        let range = beyond(range);
        (range.clone(), SalvagedPart::Lost { length: u64::from(range.end - range.start), why, is_of_lines })
    });
    let mut parts: Vec<(Range<u32>, SalvagedPart)> = there.chain(lost).filter(|(range, _)| !range.is_empty()).collect();
    parts.sort_by_key(|(range, _)| range.start);
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Splits a part behind its first `room` bytes.
fn split(part: SalvagedPart, room: u64) -> (SalvagedPart, Option<SalvagedPart>) {
    if part.length() <= room {
        return (part, None);
    }
    let bytes = |bytes, range| SalvagedPart::There(ContentPart::Bytes(bytes, range));
    match part {
        SalvagedPart::There(ContentPart::Bytes(all, range)) => {
            let middle = range.start + room as usize;
            (bytes(all.clone(), range.start..middle), Some(bytes(all, middle..range.end)))
        }
        SalvagedPart::There(ContentPart::Zeros(length)) => {
            let zeros = |length| SalvagedPart::There(ContentPart::Zeros(length));
            (zeros(room), Some(zeros(length - room)))
        }
        SalvagedPart::Lost { length, why, is_of_lines } => {
            let lost = |length, why| SalvagedPart::Lost { length, why, is_of_lines };
            (lost(room, why.clone()), Some(lost(length - room, why)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::recipe::Part;

    fn error(id: u8) -> ReadError {
        ReadError::Unknown { id: ChunkKey([id; 16]) }
    }

    fn lost(range: Range<u32>) -> LostBytes {
        LostBytes { range, why: error(1) }
    }

    #[test]
    fn what_is_lost_and_what_is_there_fill_the_chunk() {
        let salvaged = |lost: Vec<LostBytes>| SalvagedChunk { bytes: (0..10).collect(), lost, is_of_lines: false };
        let told = |chunk: SalvagedChunk, cut| -> Vec<String> {
            let tell = |part| match part {
                SalvagedPart::There(ContentPart::Bytes(_, range)) => format!("{}-{}", range.start, range.end),
                SalvagedPart::There(ContentPart::Zeros(_)) => unreachable!("holes are of contents"),
                SalvagedPart::Lost { length, .. } => format!("{length} lost"),
            };
            parts_of(chunk, cut).into_iter().map(tell).collect()
        };
        assert_eq!(told(salvaged(vec![lost(0..2), lost(5..6)]), 0), ["2 lost", "2-5", "1 lost", "6-10"]);
        assert_eq!(told(salvaged(vec![lost(3..10)]), 0), ["0-3", "7 lost"]);
        assert_eq!(told(salvaged(vec![lost(3..6)]), 4), ["2 lost", "6-10"]);
        assert_eq!(told(salvaged(vec![lost(3..6)]), 6), ["6-10"]);
        assert_eq!(told(SalvagedChunk::nothing(10, error(1)), 0), ["10 lost"]);
        assert_eq!(salvaged(vec![lost(0..2), lost(5..6)]).lost_bytes(), 3);
    }

    #[test]
    fn a_part_of_a_lost_chunk_is_lost_where_it_stands_in_its_window() {
        let item = Item { at: 100, offset: 10, length: 20, chunk: 0 };
        for (range, expected) in
            [(0..10, None), (0..11, Some(100..101)), (15..18, Some(105..108)), (29..40, Some(119..120))]
        {
            assert_eq!(within(&item, &range), expected, "{range:?}");
        }
        let mut joined = Vec::new();
        for (range, why) in [(0..2, 1), (2..4, 1), (4..5, 2), (9..10, 2)] {
            SalvagedChunk::add_lost(&mut joined, range, &error(why));
        }
        assert_eq!(joined.iter().map(|lost| lost.range.clone()).collect::<Vec<_>>(), [0..4, 4..5, 9..10]);
    }

    #[test]
    fn lines_are_told_by_the_parts_that_are_there() {
        let key = |id| ChunkKey([id; 16]);
        let parts: Vec<Part> = vec![(key(1), 0, 4), (key(2), 0, 4), (key(1), 10, 4), (key(1), 20, 4)];
        let recipe = Recipe::new(1, &parts).expect("a recipe");
        let of_lines = b"aaa\n\0\0\0\0bbb\nccc\n";
        assert!(are_lines(&recipe, of_lines, &[lost(4..8)]));
        assert!(!are_lines(&recipe, b"aaa\n\0\0\0\0bbbbccc\n", &[lost(4..8)]), "one ends elsewhere");
        assert!(!are_lines(&recipe, of_lines, &[lost(4..12)]), "too few to tell");
    }

    #[test]
    fn a_part_is_split_where_a_hole_begins() {
        let part = |part: SalvagedPart, room| {
            let (now, later) = split(part, room);
            (now.length(), later.map(|later| later.length()))
        };
        let lost = || SalvagedPart::Lost { length: 10, why: error(1), is_of_lines: true };
        let there = || SalvagedPart::There(ContentPart::Bytes(Arc::new(vec![0; 20]), 5..15));
        assert_eq!((part(lost(), 10), part(lost(), 4)), ((10, None), (4, Some(6))));
        assert_eq!((part(there(), 11), part(there(), 1)), ((10, None), (1, Some(9))));
    }
}
