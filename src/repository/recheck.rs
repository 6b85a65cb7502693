//! What was sealed is opened again before it is uploaded: packs are decompressed and hashed, the rest must say what it said.
//!
//! A bit that flips in memory, or a processor that computes wrong, after the id of a chunk is known would leave a pack that
//! nobody can restore from, found months later. So a finished pack is read as a reader reads it, from its trailer on, with
//! a key derived anew, and must give exactly the chunks that the index will name. Recipes are compared with those that were made:
//! what a recipe makes, only readers can tell.

use crate::compress::decompress_into;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::pack::PackOpener;
use crate::crypto::session::SessionSecret;
use crate::format::FormatError;
use crate::format::pack::{PackDirectory, TRAILER_LEN, Tail, Trailer};
use crate::model::id::RepositoryId;
use crate::repository::packer::PackImage;

/// What of a sealed object is not as it was made. Only a fault of this machine, or of this program, leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Altered {
    /// The end of the pack, with its length, commitment and session.
    #[error("its trailer is not as it was written")]
    Trailer,
    /// The list of frames and chunks.
    #[error("its directory is not as it was written")]
    Directory,
    /// A frame cannot be opened.
    #[error("frame {0} does not open again")]
    Frame(u32),
    /// A frame was compressed into something else.
    #[error("frame {0} does not decompress to what was compressed")]
    Compressed(u32),
    /// A chunk has another id.
    #[error("a chunk in frame {0} has another id than when it was read")]
    Chunk(u32),
    /// Recipes are not as they were made.
    #[error("the recipes in frame {0} are not those that were made")]
    Recipes(u32),
    /// Another object than a pack does not open to what it was made of.
    #[error("it does not open to what was sealed")]
    Sealed,
}

/// Checks that a sealed object gives back the value that it was made of; `opens` opens it and compares.
///
/// # Errors
/// [`Altered::Sealed`] when it does not.
pub(super) fn check_sealed(opens: impl FnOnce() -> Result<bool, FormatError>) -> Result<(), Altered> {
    if opens() == Ok(true) { Ok(()) } else { Err(Altered::Sealed) }
}

/// Memory that a check works in: what it holds is written over.
pub(super) struct Scratch<'a> {
    /// For opened frames.
    pub(super) opened: &'a mut Vec<u8>,
    /// For decompressed ones.
    pub(super) plain: &'a mut Vec<u8>,
}

/// Checks that a finished pack gives back every chunk that its entry names.
///
/// # Errors
/// [`Altered`] says which part does not.
pub(super) fn check_pack(
    image: &PackImage,
    secret: &SessionSecret,
    repository: RepositoryId,
    hasher: &ChunkHasher,
    scratch: &mut Scratch<'_>,
) -> Result<(), Altered> {
    let (entry, bytes) = (image.entry(), image.bytes());
    let opener = check_trailer(image, secret, repository, scratch.opened)?;
    let mut offset = 0;
    for (number, record) in (0u32..).zip(&entry.directory.frames) {
        let sealed = &bytes[offset..offset + record.sealed_len as usize];
        offset += sealed.len();
        opener.open_frame_into(number, sealed, scratch.opened).map_err(|_| Altered::Frame(number))?;
        let mut rest = decompress_into(record.codec, scratch.opened, record.plain_len, scratch.plain)
            .map_err(|_| Altered::Compressed(number))?;
        if record.codec.holds_recipes() {
            if image.recipes(number) != Some(blake3::hash(rest)) {
                return Err(Altered::Recipes(number));
            }
            continue;
        }
        for &(key, length) in &record.chunks {
            let (chunk, after) = rest.split_at_checked(length as usize).ok_or(Altered::Chunk(number))?;
            rest = after;
            if hasher.id(chunk).key() != key {
                return Err(Altered::Chunk(number));
            }
        }
        if !rest.is_empty() {
            return Err(Altered::Chunk(number));
        }
    }
    Ok(())
}

/// Checks that trailer and directory say what the entry says, and returns what opens the frames.
fn check_trailer(
    image: &PackImage,
    secret: &SessionSecret,
    repository: RepositoryId,
    opened: &mut Vec<u8>,
) -> Result<PackOpener, Altered> {
    let (entry, bytes) = (image.entry(), image.bytes());
    let (_, end) = bytes.split_at_checked(bytes.len().saturating_sub(TRAILER_LEN)).ok_or(Altered::Trailer)?;
    let mut trailer = Trailer::decode(end).map_err(|_| Altered::Trailer)?;
    if trailer.header != *entry.header || trailer.commitment != entry.commitment {
        return Err(Altered::Trailer);
    }
    let opener = PackOpener::new(secret, repository, entry.id, &trailer.commitment).map_err(|_| Altered::Trailer)?;
    let tail = opener.open_tail(&mut trailer.sealed_tail).map_err(|_| Altered::Trailer)?;
    let tail = Tail::decode(tail).map_err(|_| Altered::Trailer)?;
    let frames_len = entry.directory.frames_len();
    let is_as_told = tail.object_len == entry.size
        && bytes.len() == entry.size as usize
        && tail.kind == entry.kind
        && tail.frames as usize == entry.directory.frames.len()
        && u64::from(tail.directory_offset) == frames_len;
    if !is_as_told {
        return Err(Altered::Trailer);
    }
    let start = tail.directory_offset as usize;
    let sealed = bytes.get(start..start + tail.directory_len as usize).ok_or(Altered::Directory)?;
    opened.clear();
    opened.extend_from_slice(sealed);
    let directory = opener.open_directory(opened).map_err(|_| Altered::Directory)?;
    match PackDirectory::decode(directory) {
        Ok(directory) if directory == entry.directory => Ok(opener),
        _ => Err(Altered::Directory),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::compress::Compressor;
    use crate::crypto::derive::DedupSecret;
    use crate::crypto::seal::TAG_LEN;
    use crate::crypto::session::{new_domain_key, new_session};
    use crate::format::pack::PackKind;
    use crate::format::recipe::Recipe;
    use crate::model::id::{ChunkKey, DomainEpoch, DomainId};
    use crate::repository::frame::Frame;
    use crate::repository::packer::PackBuilder;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
    const AT: DomainEpoch = DomainEpoch { domain: DomainId([2; 16]), epoch: 1 };

    struct Maker {
        secret: SessionSecret,
        hasher: ChunkHasher,
        builder: PackBuilder,
        compressor: Compressor,
    }

    impl Maker {
        fn new() -> Self {
            let (_, public) = new_domain_key();
            let dedup = DedupSecret::random(AT);
            let (secret, header) = new_session(REPOSITORY, &dedup, &public).expect("a good key");
            let builder = PackBuilder::new(&secret, Arc::new(header), REPOSITORY, PackKind::Data, 4096);
            let hasher = ChunkHasher::new(&dedup);
            Self { secret, hasher, builder, compressor: Compressor::new(3) }
        }

        /// Seals a frame of chunks, each with what it is named after and what is stored.
        fn frame(&mut self, chunks: &[(&[u8], &[u8])]) {
            let mut frame = Frame::default();
            chunks.iter().for_each(|(read, stored)| frame.push(&self.hasher.id(read), stored));
            self.builder.push_frame(frame.encode(&mut self.compressor));
        }

        /// Seals a frame of one recipe, in which a bit flips before that if it is to.
        fn recipe(&mut self, recipe: &Recipe, flips: bool) {
            let mut frame = Frame::default();
            frame.push_recipe(&self.hasher.id(b"what it makes"), recipe);
            if flips {
                frame.memory_of_tests()[30] ^= 1;
            }
            self.builder.push_frame(frame.encode(&mut self.compressor));
        }

        fn check(&self, image: &PackImage) -> Result<(), Altered> {
            let (mut opened, mut plain) = (Vec::new(), Vec::new());
            let mut scratch = Scratch { opened: &mut opened, plain: &mut plain };
            check_pack(image, &self.secret, REPOSITORY, &self.hasher, &mut scratch)
        }

        fn finish(&mut self) -> PackImage {
            let fresh = Self::new();
            std::mem::replace(&mut self.builder, fresh.builder).finish()
        }
    }

    #[test]
    fn a_pack_as_it_was_made_passes_and_none_with_a_flipped_bit() {
        let mut maker = Maker::new();
        let text = b"some words that can be shortened ".repeat(20);
        maker.frame(&[(&text, &text), (b"more", b"more")]);
        maker.frame(&[(b"stored as it is", b"stored as it is")]);
        let image = maker.finish();
        assert_eq!(maker.check(&image), Ok(()));
        let frames = image.entry().directory.frames_len() as usize;
        let directory = frames..frames + image.entry().directory.encode().len() + TAG_LEN;
        let trailer = image.bytes().len() - TRAILER_LEN;
        for at in (0..directory.end).chain(trailer..image.bytes().len()) {
            let altered = maker.check(&image.with_flipped_bit(at)).expect_err("a bit flipped");
            match altered {
                Altered::Frame(_) => assert!(at < frames, "{at}"),
                Altered::Directory => assert!(directory.contains(&at), "{at}"),
                Altered::Trailer => assert!(at >= trailer, "{at}"),
                other => panic!("{at}: {other}"),
            }
        }
    }

    #[test]
    fn what_changed_before_it_was_sealed_is_found_by_its_id() {
        for (read, stored) in [(&b"as it was read"[..], &b"as it was reae"[..]), (b"longer", b"long")] {
            let mut maker = Maker::new();
            maker.frame(&[(b"good", b"good")]);
            maker.frame(&[(b"good, too", b"good, too"), (read, stored)]);
            let image = maker.finish();
            assert_eq!(maker.check(&image), Err(Altered::Chunk(1)));
        }
    }

    #[test]
    fn recipes_are_those_that_were_made() {
        let parts: Vec<_> = (0..200u32).map(|i| (ChunkKey([i as u8 % 7; 16]), i * 3, 40 + i)).collect();
        let recipe = Recipe::new(1, &parts).expect("a recipe");
        for flips in [false, true] {
            let mut maker = Maker::new();
            maker.frame(&[(b"plain", b"plain")]);
            maker.recipe(&recipe, flips);
            maker.frame(&[(b"plain again", b"plain again")]);
            let image = maker.finish();
            let frames = &image.entry().directory.frames;
            assert_eq!(
                frames.iter().map(|frame| frame.codec.holds_recipes()).collect::<Vec<_>>(),
                [false, true, false]
            );
            assert_eq!(maker.check(&image), if flips { Err(Altered::Recipes(1)) } else { Ok(()) });
        }
    }
}
