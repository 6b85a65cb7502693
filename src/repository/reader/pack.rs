//! A pack read as if there were no index: trailer, session, commitment, tail, directory, and every frame.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::compress::decompress;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::digest::sha256_of;
use crate::crypto::pack::PackOpener;
use crate::format::index::PackEntry;
use crate::format::pack::TRAILER_LEN;
use crate::format::recipe::Recipe;
use crate::model::author::Author;
use crate::model::id::PackId;
use crate::model::key::PACK_BYTES_MAX;
use crate::progress::Counter;
use crate::repository::index::Truth;
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::reader::Reader;
use crate::repository::reader::own::open_directory;
use crate::store::transfer::Transfer;
use crate::store::{StoreError, StoreErrorKind};

/// Bytes of a pack that cannot be read whole which are asked for at once.
const READABLE_PART: usize = 64 << 10;

/// What of a pack cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackPart {
    /// Nothing of it can.
    Whole,
    /// The frame of this number.
    Frame(u32),
    /// Nothing is wrong with it: segments tell of it what is not so. What it tells itself, and where they place chunks that
    /// are not there.
    Lied(Truth, Vec<ChunkPlace>),
    /// Bytes of which the other parts tell what they hit.
    Unreadable,
}

/// What was found in a pack.
#[derive(Debug)]
pub struct CheckedPack {
    /// What of it cannot be used, with what is wrong as a clause about the pack.
    pub unusable: Vec<(PackPart, String)>,
    /// Whether recipes are in it: what they make is still to be compared ([`Reader::check_windows`]).
    pub has_recipes: bool,
}

/// A whole pack that opens from its own trailer.
struct OpenPack<'a> {
    bytes: &'a [u8],
    opener: PackOpener,
    told: PackEntry,
    hasher: ChunkHasher,
}

impl Reader {
    /// Fetches a pack whole from the first replica and checks every frame and chunk of it, against its own directory and
    /// against the index; returns what cannot be used, with what is wrong as a clause about the pack, or that the index lies.
    /// Recipes are decoded; what they make is not looked at. Its bytes are counted as they come.
    ///
    /// A pack that comes wrong is fetched a second time, and that answer counts. `chunks_in_packs` is
    /// [`Index::chunks_in_packs`](crate::repository::index::Index::chunks_in_packs). Takes the pack's size in memory, and a frame.
    ///
    /// # Errors
    /// The store's, where the pack cannot be had.
    pub async fn check_pack(
        self: &Arc<Self>,
        pack: &PackInfo,
        chunks_in_packs: &Arc<HashMap<PackId, u64>>,
    ) -> Result<CheckedPack, StoreError> {
        let transfer = {
            let monitor = self.monitor.clone();
            Transfer::new(move |bytes| monitor.add(Counter::Bytes, bytes))
        };
        let checked = self.checked_pack(pack, chunks_in_packs, &transfer).await;
        // What is shorter or gone is done with as well.
        transfer.reach(u64::from(pack.size));
        checked
    }

    async fn checked_pack(
        self: &Arc<Self>,
        pack: &PackInfo,
        chunks_in_packs: &Arc<HashMap<PackId, u64>>,
        transfer: &Transfer,
    ) -> Result<CheckedPack, StoreError> {
        let check = |bytes: Bytes, is_whole: bool| {
            let (reader, pack, chunks_in_packs) = (self.clone(), pack.clone(), chunks_in_packs.clone());
            blocking(move || {
                let checked = reader.checked(&pack, &bytes, is_whole, &chunks_in_packs);
                if checked.unusable.is_empty() { Ok(checked) } else { Err(checked) }
            })
        };
        match self.repository.objects().pack(pack.id, transfer, |bytes| check(bytes, true)).await {
            Ok(Ok(checked) | Err(checked)) => Ok(checked),
            Err(error) if error.kind == StoreErrorKind::Unreadable => {
                let (Ok(mut checked) | Err(mut checked)) = check(self.readable_parts(pack).await?, false).await;
                checked.unusable.push((PackPart::Unreadable, format!("cannot be read whole: {}", error.clause())));
                Ok(checked)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches what can be read of a pack; the rest is zero, so that checking it tells what is hit.
    async fn readable_parts(&self, pack: &PackInfo) -> Result<Bytes, StoreError> {
        let size = self.repository.objects().pack_size_at(0, pack.id).await?;
        let (size, mut bytes) = (size.min(PACK_BYTES_MAX) as usize, Vec::new());
        while bytes.len() < size {
            let (start, end) = (bytes.len(), (bytes.len() + READABLE_PART).min(size));
            match self.repository.objects().pack_range(0, pack.id, start as u64..end as u64).await {
                Ok(part) => bytes.extend_from_slice(&part),
                Err(error) if error.kind == StoreErrorKind::Unreadable => bytes.resize(end, 0),
                Err(error) => return Err(error),
            }
        }
        Ok(bytes.into())
    }

    /// Checks a pack, of which `bytes` may have zeros where it could not be read.
    fn checked(
        &self,
        info: &PackInfo,
        bytes: &[u8],
        is_whole: bool,
        chunks_in_packs: &HashMap<PackId, u64>,
    ) -> CheckedPack {
        let opened = match self.open_pack(info.id, bytes) {
            Ok(opened) => opened,
            Err(problem) => return CheckedPack { unusable: vec![(PackPart::Whole, problem)], has_recipes: false },
        };
        let has_recipes = opened.told.directory.frames.iter().any(|frame| frame.codec.holds_recipes());
        let mut unusable: Vec<_> =
            opened.damaged_frames().into_iter().map(|(frame, problem)| (PackPart::Frame(frame), problem)).collect();
        let told = &opened.told;
        let misplaced = self.index.misplaced(told, chunks_in_packs);
        // A pack of which a part is damaged is not what its digest was made of.
        let digest = (is_whole && unusable.is_empty()).then(|| sha256_of(bytes));
        let own = told.info(Author::Reader);
        let is_so = |record: &PackInfo| record.agrees(&own) && digest.is_none_or(|digest| record.digest == digest);
        if !misplaced.is_empty() || !self.index.pack(told.id).iter().all(is_so) {
            unusable.push((PackPart::Lied(Truth::of(told, digest), misplaced), String::new()));
        }
        CheckedPack { unusable, has_recipes }
    }

    /// Opens a pack from its own trailer. What is wrong is a clause about it.
    fn open_pack<'a>(&self, pack: PackId, bytes: &'a [u8]) -> Result<OpenPack<'a>, String> {
        let trailer = bytes.len().checked_sub(TRAILER_LEN).ok_or("is too short to be a pack")?;
        let opened = self.open_trailer(pack, bytes.len() as u64, &bytes[trailer..])?;
        let start = opened.tail.directory_offset as usize;
        let directory = bytes[start..start + opened.tail.directory_len as usize].to_vec();
        let told = open_directory(pack, &opened, directory)?;
        let hasher = self.hasher(&told.info(Author::Reader)).map_err(|error| error.to_string())?;
        Ok(OpenPack { bytes, opener: opened.opener, told, hasher })
    }
}

impl OpenPack<'_> {
    /// Checks every chunk of every frame; returns the frames that cannot be used, with what is wrong.
    fn damaged_frames(&self) -> Vec<(u32, String)> {
        let mut bad = Vec::new();
        let mut offset = 0;
        for (number, frame) in (0u32..).zip(&self.told.directory.frames) {
            let end = offset + frame.sealed_len as usize;
            let mut sealed = self.bytes[offset..end].to_vec();
            offset = end;
            let plain =
                self.opener.open_frame(number, &mut sealed).map_err(|error| error.to_string()).and_then(|encoded| {
                    decompress(frame.codec, encoded, frame.plain_len).map_err(|error| error.to_string())
                });
            let problem = match plain {
                Err(error) => Some(error),
                Ok(plain) => {
                    let mut at = 0;
                    frame.chunks.iter().find_map(|(key, length)| {
                        let chunk = &plain[at..at + *length as usize];
                        at += *length as usize;
                        if frame.codec.holds_recipes() {
                            return Recipe::decode(chunk).err().map(|error| error.to_string());
                        }
                        (self.hasher.id(chunk).key() != *key)
                            .then(|| "a chunk is not the one it is named after".to_owned())
                    })
                }
            };
            if let Some(problem) = problem {
                bad.push((number, problem));
            }
        }
        bad
    }
}
