//! A pack read as if there were no index: trailer, session, commitment, tail, directory, and every frame.
//!
//! One of usual size is fetched whole, by one request. Whatever is longer, or has a directory that much memory would go into, is read
//! in pieces while nothing else is checked, so that no pack takes more than is set aside, whoever made it ([`Checks`]).

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::RwLock;

use crate::blocking::blocking;
use crate::compress::decompress_into;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::digest::sha256_of;
use crate::crypto::pack::PackOpener;
use crate::format::pack::{FRAME_PLAIN_MAX, FrameView, TRAILER_LEN};
use crate::format::recipe::Recipe;
use crate::model::id::PackId;
use crate::progress::Counter;
use crate::repository::index::misplaced::PlaceSums;
use crate::repository::index::own::OwnPack;
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::index::{Index, Truth};
use crate::repository::reader::Reader;
use crate::repository::reader::own::open_directory;
use crate::repository::vouching::ReadWhole;
use crate::store::transfer::Transfer;
use crate::store::{StoreError, StoreErrorKind};

/// Bytes of a directory that are taken out of a pack which was fetched whole; of a longer one the pack is read in pieces.
const DIRECTORY_WHOLE_MAX: usize = 4 << 20;
/// Plaintext of a frame beyond which one such frame is opened at a time.
const FRAME_LARGE: u32 = 2 << 20;
/// What a large frame takes: as it came, opened, and decompressed.
const LARGE_FRAME_BYTES: u64 = 3 * FRAME_PLAIN_MAX as u64;
/// What the program takes besides.
const PROGRAM_BYTES: u64 = 10 << 20;
/// Packs checked at the same time, at most.
const CHECKS_MAX: u64 = 8;
/// Frames of a pack told of one by one; of a pack with more that are damaged, it is told that it is.
const FRAMES_TOLD: usize = 1 << 14;

/// What of a pack cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackPart {
    /// Nothing of it can.
    Whole,
    /// The frame of this number.
    Frame(u32),
    /// Bytes of which the other parts tell what they hit.
    Unreadable,
}

/// What segments tell of a pack is not so.
#[derive(Debug, Clone)]
pub struct LiedAbout {
    /// What the pack tells itself.
    pub truth: Truth,
    /// Where segments place chunks that are not there.
    pub places: Vec<ChunkPlace>,
}

/// What was found in a pack.
#[derive(Debug)]
pub struct CheckedPack {
    /// What of it cannot be used, with what is wrong as a clause about the pack.
    pub unusable: Vec<(PackPart, String)>,
    /// Where segments tell of it what is not so, which makes it no less right.
    pub lied_about: Option<LiedAbout>,
    /// Whether recipes are in it: what they make is still to be compared ([`Reader::check_windows`]).
    pub has_recipes: bool,
    /// The pack as a reader may vouch for it: read whole, right, and named by writers alone.
    pub read_whole: Option<ReadWhole>,
}

impl CheckedPack {
    pub(super) fn unusable(why: String) -> Self {
        Self { unusable: vec![(PackPart::Whole, why)], lied_about: None, has_recipes: false, read_whole: None }
    }

    /// Tells whether nothing is wrong: with the pack, or with what is told of it.
    pub(super) fn is_fine(&self) -> bool {
        self.unusable.is_empty() && self.lied_about.is_none()
    }
}

/// Checks of packs that go on beside each other, in a bounded memory.
#[derive(Debug)]
pub struct Checks {
    sums: PlaceSums,
    vouches: bool,
    at_once: usize,
    /// The longest pack that is fetched whole.
    whole_max: u64,
    /// Shared by checks of packs that are fetched whole; one that is read in pieces is alone.
    alone: RwLock<()>,
    large_frame: Mutex<()>,
}

impl Checks {
    /// Prepares to check packs of about `pack_bytes` in `memory_bytes`, of which an eighth is kept for frames. Reads the whole index.
    ///
    /// `vouches` tells whether what is read whole and right is to be vouched for.
    pub fn new(index: &Index, memory_bytes: u64, pack_bytes: u64, vouches: bool) -> Self {
        let room = memory_bytes.saturating_sub(memory_bytes / 8 + PROGRAM_BYTES + LARGE_FRAME_BYTES);
        // Padding, directory and trailer come on top of what a pack is filled to.
        let longest = pack_bytes + (2 << 20);
        let with_directory = longest + DIRECTORY_WHOLE_MAX as u64;
        Self {
            sums: index.place_sums(),
            vouches,
            at_once: (room / with_directory).clamp(1, CHECKS_MAX) as usize,
            whole_max: longest.min(room.saturating_sub(DIRECTORY_WHOLE_MAX as u64)),
            alone: RwLock::default(),
            large_frame: Mutex::default(),
        }
    }

    /// Returns how many packs are to be checked at the same time.
    pub fn at_once(&self) -> usize {
        self.at_once
    }
}

/// A pack that opens from its own trailer.
pub(super) struct OpenPack {
    pub(super) opener: PackOpener,
    pub(super) own: OwnPack,
    hasher: ChunkHasher,
}

/// Memory that frames are opened in: what it holds is written over.
#[derive(Debug, Default)]
pub(super) struct FrameMemory {
    opened: Vec<u8>,
    plain: Vec<u8>,
}

/// What came of a pack that was fetched whole.
enum Whole {
    Checked(CheckedPack),
    /// It has a directory for which there is no room beside it.
    Wide,
}

impl Reader {
    /// Checks every frame and chunk of a pack that the first replica lists with `size` bytes, against its own directory and
    /// against the index; returns what cannot be used, with what is wrong as a clause about the pack, or that the index lies.
    /// Recipes are decoded; what they make is not looked at. Its bytes are counted as they come.
    ///
    /// A pack that comes wrong is fetched a second time, and that answer counts.
    ///
    /// # Errors
    /// The store's, where the pack cannot be had.
    pub async fn check_pack(
        self: &Arc<Self>,
        checks: &Arc<Checks>,
        pack: &PackInfo,
        size: u64,
    ) -> Result<CheckedPack, StoreError> {
        let transfer = {
            let monitor = self.monitor.clone();
            Transfer::of_at_most(size, move |bytes| monitor.add(Counter::Bytes, bytes))
        };
        let checked = self.checked_pack(checks, pack.id, size, &transfer).await;
        // What is shorter or gone is done with as well.
        transfer.reach(u64::from(pack.size));
        checked
    }

    async fn checked_pack(
        self: &Arc<Self>,
        checks: &Arc<Checks>,
        pack: PackId,
        size: u64,
        transfer: &Transfer,
    ) -> Result<CheckedPack, StoreError> {
        if size > checks.whole_max {
            let _alone = checks.alone.write().await;
            return self.check_in_pieces(checks, pack, transfer).await;
        }
        let check = |bytes: Bytes| {
            let (reader, checks) = (self.clone(), checks.clone());
            blocking(move || match reader.checked_whole(&checks, pack, &bytes) {
                Whole::Checked(checked) if !checked.is_fine() => Err(checked),
                fine => Ok(fine),
            })
        };
        let whole = {
            let _beside_others = checks.alone.read().await;
            self.repository.objects().pack(pack, transfer, check).await
        };
        match whole {
            Ok(Ok(Whole::Checked(checked)) | Err(checked)) => return Ok(checked),
            Ok(Ok(Whole::Wide)) => {}
            // It is longer by now than it was listed, or a part of it cannot be read.
            Err(error) if matches!(error.kind, StoreErrorKind::TooLong | StoreErrorKind::Unreadable) => {}
            Err(error) => return Err(error),
        }
        let _alone = checks.alone.write().await;
        self.check_in_pieces(checks, pack, transfer).await
    }

    /// Checks a pack that is there whole.
    fn checked_whole(&self, checks: &Checks, pack: PackId, bytes: &[u8]) -> Whole {
        let opened = match self.open_whole(pack, bytes) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Whole::Wide,
            Err(problem) => return Whole::Checked(CheckedPack::unusable(problem)),
        };
        let (mut memory, mut bad, mut offset) = (FrameMemory::default(), Vec::new(), 0);
        for (number, frame) in (0..).zip(opened.own.frames()) {
            let sealed = &bytes[offset..offset + frame.head.sealed_len as usize];
            offset += sealed.len();
            let _large = (frame.head.plain_len > FRAME_LARGE).then(|| checks.large_frame.lock());
            bad.extend(opened.problem(number, &frame, sealed, &mut memory).map(|problem| (number, problem)));
            memory.shrink();
        }
        // A pack of which a part is damaged is not what its digest was made of.
        let digest = bad.is_empty().then(|| sha256_of(bytes));
        Whole::Checked(self.judged(checks, &opened.own, bad, digest))
    }

    /// Says what it means that these frames are bad, and of a pack whose bytes are all there that it has this digest.
    pub(super) fn judged(
        &self,
        checks: &Checks,
        own: &OwnPack,
        bad: Vec<(u32, String)>,
        digest: Option<[u8; 32]>,
    ) -> CheckedPack {
        if bad.len() > FRAMES_TOLD {
            return CheckedPack::unusable(format!("{} of its frames are damaged", bad.len()));
        }
        let unusable = bad.into_iter().map(|(frame, problem)| (PackPart::Frame(frame), problem)).collect();
        let places = self.index.misplaced(own, &checks.sums);
        let is_so =
            |record: &PackInfo| record.agrees(own.info()) && digest.is_none_or(|digest| record.digest == digest);
        let is_lied_about = !places.is_empty() || !self.index.pack(own.info().id).iter().all(is_so);
        let lied_about = is_lied_about.then(|| LiedAbout { truth: Truth::of(own, digest), places });
        let wanted = digest.filter(|_| checks.vouches && !self.index.is_vouched_for(own.info().id));
        let read_whole = wanted.and_then(|digest| own.read_whole(digest));
        CheckedPack { unusable, lied_about, has_recipes: own.holds_recipes(), read_whole }
    }

    /// Opens a pack from its own trailer; `None` where its directory is too long. What is wrong is a clause about it.
    fn open_whole(&self, pack: PackId, bytes: &[u8]) -> Result<Option<OpenPack>, String> {
        let trailer = bytes.len().checked_sub(TRAILER_LEN).ok_or("is too short to be a pack")?;
        let opened = self.open_trailer(pack, bytes.len() as u64, &bytes[trailer..])?;
        let directory = opened.directory();
        if directory.end - directory.start > DIRECTORY_WHOLE_MAX as u64 {
            return Ok(None);
        }
        let sealed = &bytes[directory.start as usize..directory.end as usize];
        let own = open_directory(pack, &opened, sealed.to_vec())?;
        self.open_pack(opened.opener, own).map(Some)
    }

    pub(super) fn open_pack(&self, opener: PackOpener, own: OwnPack) -> Result<OpenPack, String> {
        let hasher = self.hasher(own.info()).map_err(|error| error.to_string())?;
        Ok(OpenPack { opener, own, hasher })
    }
}

impl FrameMemory {
    /// Gives back what a large frame took.
    pub(super) fn shrink(&mut self) {
        for memory in [&mut self.opened, &mut self.plain] {
            if memory.capacity() > FRAME_LARGE as usize {
                *memory = Vec::new();
            }
        }
    }
}

impl OpenPack {
    /// Checks every chunk of a frame; returns what is wrong with it.
    pub(super) fn problem(
        &self,
        number: u32,
        frame: &FrameView<'_>,
        sealed: &[u8],
        memory: &mut FrameMemory,
    ) -> Option<String> {
        let FrameMemory { opened, plain } = memory;
        if let Err(error) = self.opener.open_frame_into(number, sealed, opened) {
            return Some(error.to_string());
        }
        let mut rest = match decompress_into(frame.head.codec, opened, frame.head.plain_len, plain) {
            Ok(plain) => plain,
            Err(error) => return Some(error.to_string()),
        };
        frame.chunks().find_map(|(key, length)| {
            let (chunk, after) = rest.split_at(length as usize);
            rest = after;
            if frame.head.codec.holds_recipes() {
                return Recipe::decode(chunk).err().map(|error| error.to_string());
            }
            (self.hasher.id(chunk).key() != key).then(|| "a chunk is not the one it is named after".to_owned())
        })
    }
}
