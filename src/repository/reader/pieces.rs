//! A pack that is checked in pieces: its end, its directory, then its frames and the rest in order, a few MiB at a time, while its
//! SHA-256 is taken of what passes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::crypto::digest::Sha256;
use crate::model::id::PackId;
use crate::repository::index::own::OwnPack;
use crate::repository::reader::Reader;
use crate::repository::reader::own::{open_directory, trailer_of};
use crate::repository::reader::pack::{CheckedPack, Checks, FrameMemory, OpenPack, PackPart};
use crate::repository::reader::range::RANGE_BYTES;
use crate::store::transfer::Transfer;
use crate::store::{StoreError, StoreErrorKind};

/// What is asked for at once where not all of a range can be read.
const READABLE_PART: u64 = 64 << 10;

impl Reader {
    /// Checks a pack in pieces, a second time where anything is wrong: what is wrong both times counts. Whoever calls sees to it that
    /// nothing else is checked meanwhile.
    pub(super) async fn check_in_pieces(
        self: &Arc<Self>,
        checks: &Arc<Checks>,
        pack: PackId,
        transfer: &Transfer,
    ) -> Result<CheckedPack, StoreError> {
        let mut checked = self.look_through(checks, pack, transfer).await?;
        if checked.is_fine() {
            return Ok(checked);
        }
        let again = self.look_through(checks, pack, transfer).await?;
        // A pack that came right once is; it is vouched for when it comes right at first.
        checked.read_whole = None;
        checked.has_recipes |= again.has_recipes;
        checked.lied_about = again.lied_about.filter(|_| checked.lied_about.is_some());
        let twice = again.unusable.into_iter();
        checked.unusable = twice.filter(|(part, _)| checked.unusable.iter().any(|(it, _)| it == part)).collect();
        Ok(checked)
    }

    async fn look_through(
        self: &Arc<Self>,
        checks: &Arc<Checks>,
        pack: PackId,
        transfer: &Transfer,
    ) -> Result<CheckedPack, StoreError> {
        let size = self.repository.objects().pack_size_at(0, pack).await?;
        let mut pieces = Pieces { reader: self, pack, transfer, unreadable: None };
        let opened = match pieces.opened(size).await? {
            Ok(opened) => Arc::new(opened),
            Err(problem) => return Ok(pieces.with_unreadable(CheckedPack::unusable(problem))),
        };
        let mut sha256 = Sha256::default();
        let mut bad = Vec::new();
        let mut at = 0;
        for range in ranges(&opened.own) {
            let sealed = pieces.bytes(at..at + range.bytes).await?;
            at += range.bytes;
            let opened = opened.clone();
            let (found, hashed) = blocking(move || {
                sha256.update(&sealed);
                (opened.problems(&range, &sealed), sha256)
            })
            .await;
            sha256 = hashed;
            bad.extend(found);
        }
        while at < size {
            let end = (at + RANGE_BYTES).min(size);
            sha256.update(&pieces.bytes(at..end).await?);
            at = end;
        }
        let is_whole = bad.is_empty() && pieces.unreadable.is_none();
        let digest = is_whole.then(|| sha256.finish());
        let (reader, checks, judged) = (self.clone(), checks.clone(), opened);
        let checked = blocking(move || reader.judged(&checks, &judged.own, bad, digest)).await;
        Ok(pieces.with_unreadable(checked))
    }
}

/// Frames that are fetched together.
struct FramesTogether {
    /// Number of the first, and where the directory tells of it.
    first: u32,
    told_at: usize,
    count: usize,
    bytes: u64,
}

/// Joins frames, each behind the one before, into ranges of no more than a few MiB, or of one frame.
fn ranges(own: &OwnPack) -> Vec<FramesTogether> {
    let mut ranges: Vec<FramesTogether> = Vec::new();
    let (mut frames, mut first) = (own.frames(), 0);
    loop {
        let told_at = frames.position();
        let Some(frame) = frames.next() else { return ranges };
        let length = u64::from(frame.head.sealed_len);
        match ranges.last_mut().filter(|range| range.bytes + length <= RANGE_BYTES) {
            Some(range) => (range.count, range.bytes) = (range.count + 1, range.bytes + length),
            None => ranges.push(FramesTogether { first, told_at, count: 1, bytes: length }),
        }
        first += 1;
    }
}

/// Where the bytes of one pack come from.
struct Pieces<'a> {
    reader: &'a Reader,
    pack: PackId,
    transfer: &'a Transfer,
    /// Why some of them cannot be read.
    unreadable: Option<String>,
}

impl Pieces<'_> {
    /// Opens the pack from its own trailer; inside, what is wrong with it as a clause.
    async fn opened(&mut self, size: u64) -> Result<Result<OpenPack, String>, StoreError> {
        let trailer = match trailer_of(size) {
            Ok(trailer) => trailer,
            Err(problem) => return Ok(Err(problem)),
        };
        let (reader, pack) = (self.reader, self.pack);
        let end = self.bytes(trailer).await?;
        let opened = match reader.open_trailer(pack, size, &end) {
            Ok(opened) => opened,
            Err(problem) => return Ok(Err(problem)),
        };
        let sealed = self.bytes(opened.directory()).await?;
        let own = blocking(move || open_directory(pack, &opened, sealed.into()).map(|own| (opened.opener, own))).await;
        Ok(own.and_then(|(opener, own)| reader.open_pack(opener, own)))
    }

    /// Returns the bytes of a range, with zeros in the place of what cannot be read.
    async fn bytes(&mut self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let objects = self.reader.repository.objects();
        let (start, end) = (range.start, range.end);
        let bytes = match objects.pack_range(0, self.pack, range).await {
            Err(error) if error.kind == StoreErrorKind::Unreadable => {
                self.unreadable.get_or_insert_with(|| error.clause());
                let mut bytes = Vec::with_capacity((end - start) as usize);
                while (bytes.len() as u64) < end - start {
                    let from = start + bytes.len() as u64;
                    let to = (from + READABLE_PART).min(end);
                    match objects.pack_range(0, self.pack, from..to).await {
                        Ok(part) => bytes.extend_from_slice(&part),
                        Err(error) if error.kind == StoreErrorKind::Unreadable => {
                            bytes.resize((to - start) as usize, 0)
                        }
                        Err(error) => return Err(error),
                    }
                }
                Bytes::from(bytes)
            }
            answer => answer?,
        };
        self.transfer.reach(end);
        Ok(bytes)
    }

    fn with_unreadable(&self, mut checked: CheckedPack) -> CheckedPack {
        let what = self.unreadable.iter().map(|why| (PackPart::Unreadable, format!("cannot be read whole: {why}")));
        checked.unusable.extend(what);
        checked
    }
}

impl OpenPack {
    /// Checks frames that stand one behind the other in `sealed`; returns what is wrong with which.
    fn problems(&self, range: &FramesTogether, sealed: &[u8]) -> Vec<(u32, String)> {
        let (mut memory, mut bad, mut rest) = (FrameMemory::default(), Vec::new(), sealed);
        for (number, frame) in (range.first..).zip(self.own.frames_from(range.told_at).take(range.count)) {
            let (sealed, after) = rest.split_at(frame.head.sealed_len as usize);
            rest = after;
            bad.extend(self.problem(number, &frame, sealed, &mut memory).map(|problem| (number, problem)));
        }
        bad
    }
}
