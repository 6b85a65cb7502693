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
use crate::model::author::Author;
use crate::model::id::{ChunkId, ChunkKey, PackId};
use crate::model::key::PACK_BYTES_MAX;
use crate::repository::index::own::OwnPack;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::effort::{Effort, Tellers};
use crate::repository::reader::fetch::InTurn;
use crate::repository::reader::telling::{FirstPlaces, Telling};
use crate::repository::reader::{ReadError, Reader};

/// Bytes of directories that are kept; the last one is, however long it is.
const DIRECTORIES_KEPT_BYTES: usize = 4 << 20;
/// Packs remembered as not telling anything of themselves.
const SILENT_REMEMBERED: usize = 1 << 16;
/// Places of one chunk that are taken from a pack: one that was made rightly has it once.
const PLACES_IN_PACK: usize = 8;

/// What packs told of themselves so far.
#[derive(Debug, Default)]
pub(super) struct OwnPacks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    told: Vec<Arc<OwnPack>>,
    /// Those that cannot be opened.
    silent: HashSet<PackId>,
}

/// Where a pack says that it has a chunk.
#[derive(Debug, Default)]
pub(super) struct OwnTellings {
    pub(super) tellings: Vec<Telling>,
    /// The length of the directory that says so.
    pub(super) directory_bytes: u64,
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

/// Returns the packs that are asked themselves, each with who tells of it, in the order of the places that were tried.
pub(super) fn packs_asked(tried: &[ChunkPlace]) -> Vec<(PackId, Author)> {
    let mut seen = HashSet::new();
    tried.iter().map(|place| (place.pack, place.author)).filter(|asked| seen.insert(*asked)).collect()
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

    /// Returns a chunk that the packs in which segments place it have somewhere else than these say, plain or by a recipe; `None` where
    /// they do not.
    ///
    /// # Errors
    /// When one of them, or what a recipe needs, is out of reach, which leaves the answer open.
    pub(super) async fn chunk_from_its_packs(self: &Arc<Self>, id: &ChunkId) -> Result<Option<Vec<u8>>, ReadError> {
        let tried = self.in_order(&id.key(), 0, FirstPlaces::OfReaders, |_| true);
        let mut effort = Effort::default();
        for (pack, author) in packs_asked(&tried) {
            let tellers = Tellers::of(author);
            if !effort.may_try(&tellers) {
                continue;
            }
            let told = self.own_tellings(&id.key(), pack, &tried).await?;
            effort.add_vain(&tellers, told.directory_bytes);
            for telling in told.tellings {
                match self.chunk_told(id, &telling, &tellers, &mut effort).await {
                    Ok(chunk) => return Ok(Some(chunk)),
                    Err(error) if error.is_damage() => effort.add_vain_at(&tellers, &telling.place),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// Returns the places where a pack says itself that it has a chunk, those that were not tried as segments tell of the pack.
    ///
    /// # Errors
    /// When it is out of reach.
    pub(super) async fn own_tellings(
        &self,
        key: &ChunkKey,
        pack: PackId,
        tried: &[ChunkPlace],
    ) -> Result<OwnTellings, ReadError> {
        let Some(own) = self.own(pack).await? else { return Ok(OwnTellings::default()) };
        let info = own.info();
        let is_told = self.index.pack(pack).iter().any(|record| record.agrees(info));
        let is_new = |place: &ChunkPlace| !(is_told && tried.iter().any(|it| it.is_same_place(place)));
        let places = own.places().filter(|(found, place)| found == key && is_new(place)).take(PLACES_IN_PACK);
        let tellings = places.map(|(_, place)| Telling::by_pack(place, info.clone())).collect();
        Ok(OwnTellings { tellings, directory_bytes: own.directory_len() as u64 })
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
