//! What a pack tells of itself, by its trailer and directory, when what segments tell of it does not give what is wanted.
//!
//! Whoever writes segments can name any pack and say anything of it. A pack's directory is sealed with its own key, so it is
//! as right as the pack is.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::blocking::blocking;
use crate::crypto::pack::PackOpener;
use crate::format::pack::{EncodedDirectory, TRAILER_LEN, Tail, Trailer};
use crate::model::id::{ChunkId, PackId};
use crate::model::key::PACK_BYTES_MAX;
use crate::repository::index::own::OwnPack;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::fetch::InTurn;
use crate::repository::reader::frame::decoded_with;
use crate::repository::reader::{ReadError, Reader};

/// Bytes of directories that are kept; the last one is, however long it is.
const DIRECTORIES_KEPT_BYTES: usize = 4 << 20;
/// Packs remembered as not telling anything of themselves.
const SILENT_REMEMBERED: usize = 1 << 16;
/// Packs asked for one chunk: an index may name any number of places for it.
const PACKS_ASKED: usize = 64;

/// What packs told of themselves so far.
#[derive(Debug, Default)]
pub(super) struct OwnPacks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    told: Vec<Arc<OwnPack>>,
    /// Those that cannot be opened.
    silent: HashSet<PackId>,
}

/// A trailer that was opened.
pub(super) struct OpenTrailer {
    pub(super) trailer: Trailer,
    pub(super) tail: Tail,
    pub(super) opener: PackOpener,
}

impl OpenTrailer {
    /// Returns where the sealed directory lies.
    pub(super) fn directory(&self) -> Range<u64> {
        let start = u64::from(self.tail.directory_offset);
        start..start + u64::from(self.tail.directory_len)
    }
}

/// Returns where the trailer of a pack of `size` bytes lies; what is wrong with that size is a clause about the pack.
pub(super) fn trailer_of(size: u64) -> Result<Range<u64>, String> {
    match size.checked_sub(TRAILER_LEN as u64) {
        Some(start) if size <= PACK_BYTES_MAX => Ok(start..size),
        _ => Err(format!("has {size} bytes, which no pack has")),
    }
}

impl Reader {
    /// Returns what a pack tells of itself, which is neither its digest nor how long it is kept (both zero); inside, what is wrong
    /// with it as a clause. Replicas are asked in turn.
    ///
    /// # Errors
    /// When it is out of reach, which says nothing about it.
    pub async fn own_record(&self, pack: PackId) -> Result<Result<OwnPack, String>, ReadError> {
        let mut asking = InTurn::over(self);
        while let Some(nth) = asking.next() {
            match self.own_record_at(nth, pack).await {
                Ok(entry) => return Ok(Ok(asking.told(entry))),
                Err(error) => asking.failed(error),
            }
        }
        match asking.error() {
            ReadError::Own { why, .. } => Ok(Err(why)),
            error if error.is_damage() => Ok(Err(error.to_string())),
            error => Err(error),
        }
    }

    async fn own_record_at(&self, nth: usize, pack: PackId) -> Result<OwnPack, ReadError> {
        let wrong = |why| ReadError::Own { pack, why };
        let size = self.repository.objects().pack_size_at(nth, pack).await;
        let size = size.map_err(|source| ReadError::Fetch { pack, source: Arc::new(source) })?;
        let end = self.fetch_at(nth, pack, trailer_of(size).map_err(wrong)?).await?;
        let opened = self.open_trailer(pack, size, &end).map_err(wrong)?;
        let sealed = self.fetch_at(nth, pack, opened.directory()).await?;
        blocking(move || open_directory(pack, &opened, sealed.into())).await.map_err(wrong)
    }

    /// Opens the trailer of a pack of `size` bytes. What is wrong with it is a clause about the pack.
    pub(super) fn open_trailer(&self, pack: PackId, size: u64, end: &[u8]) -> Result<OpenTrailer, String> {
        let trailer = Trailer::decode(end).map_err(|error| format!("its trailer: {error}"))?;
        let secret = self.repository.keys().session_secret(&trailer.header).map_err(|error| error.to_string())?;
        let opener = PackOpener::new(&secret, self.repository.id(), pack, &trailer.commitment)
            .map_err(|error| format!("its trailer: {error}"))?;
        let mut tail = trailer.sealed_tail;
        let tail = opener.open_tail(&mut tail).map_err(|error| format!("its trailer: {error}"))?;
        let tail = Tail::decode(tail).map_err(|error| error.to_string())?;
        if u64::from(tail.object_len) != size {
            return Err(format!("has {size} bytes instead of {}", tail.object_len));
        }
        Ok(OpenTrailer { trailer, tail, opener })
    }

    /// Returns a chunk that the packs in which segments place it have somewhere else than these say; `None` where they do not.
    ///
    /// # Errors
    /// When one of them is out of reach, which leaves the answer open.
    pub(super) async fn chunk_from_its_packs(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, ReadError> {
        let tried = self.index.locate_all(id);
        let mut packs: Vec<PackId> = tried.iter().map(|location| location.pack).collect();
        packs.sort_unstable();
        packs.dedup();
        for pack in packs.into_iter().take(PACKS_ASKED) {
            let Some(own) = self.own(pack).await? else { continue };
            let info = own.info();
            let is_told = self.index.pack(pack).iter().any(|record| record.agrees(info));
            // Of a window that is made by a recipe the parts are chunks, which are looked for in the same way.
            let is_new = |place: &ChunkPlace| {
                !(place.codec.holds_recipes() || is_told && tried.iter().any(|it| it.is_same_place(place)))
            };
            let places = own.places().filter(|(key, place)| *key == id.key() && is_new(place));
            for (_, place) in places.collect::<Vec<_>>() {
                let start = u64::from(place.frame_offset);
                let sealed = match self.fetch(pack, start..start + u64::from(place.sealed_len)).await {
                    Ok(came) => came.bytes,
                    Err(error) if error.is_damage() => continue,
                    Err(error) => return Err(error),
                };
                let opened = (self.opener(info), self.hasher(info));
                let (Ok(opener), Ok(hasher)) = opened else { continue };
                let Ok(frame) = decoded_with(&opener, &place, sealed.into()) else { continue };
                let chunk = &frame[place.offset as usize..][..place.length as usize];
                if hasher.id(chunk) == *id {
                    return Ok(Some(chunk.to_vec()));
                }
            }
        }
        Ok(None)
    }

    /// Returns what a pack tells of itself, unless it is known to tell nothing.
    async fn own(&self, pack: PackId) -> Result<Option<Arc<OwnPack>>, ReadError> {
        {
            let known = self.own.0.lock().expect("no panic while held");
            if known.silent.contains(&pack) {
                return Ok(None);
            }
            if let Some(own) = known.told.iter().find(|own| own.info().id == pack) {
                return Ok(Some(own.clone()));
            }
        }
        let told = self.own_record(pack).await?;
        let mut known = self.own.0.lock().expect("no panic while held");
        let Ok(entry) = told else {
            if known.silent.len() < SILENT_REMEMBERED {
                known.silent.insert(pack);
            }
            return Ok(None);
        };
        let own = Arc::new(entry);
        known.told.push(own.clone());
        let bytes = |told: &[Arc<OwnPack>]| told.iter().map(|own| own.directory_len()).sum::<usize>();
        while known.told.len() > 1 && bytes(&known.told) > DIRECTORIES_KEPT_BYTES {
            known.told.remove(0);
        }
        Ok(Some(own))
    }
}

/// Opens the directory of a pack whose trailer was opened, and returns all that the pack tells of itself.
pub(super) fn open_directory(pack: PackId, opened: &OpenTrailer, mut sealed: Vec<u8>) -> Result<OwnPack, String> {
    let OpenTrailer { trailer, tail, opener } = opened;
    let length = opener.open_directory(&mut sealed).map_err(|error| format!("its directory: {error}"))?.len();
    sealed.truncate(length);
    let directory = EncodedDirectory::new(sealed).map_err(|error| error.to_string())?;
    if directory.frames_len() != u64::from(tail.directory_offset) || directory.frame_count() != tail.frames as usize {
        return Err("its directory contradicts its trailer".into());
    }
    let header = Arc::new(trailer.header.clone());
    Ok(OwnPack::new(pack, tail, trailer.commitment, header, directory))
}
