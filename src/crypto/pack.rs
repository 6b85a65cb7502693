//! Sealing the frames of one pack.
//!
//! The pack key comes from the session secret with the pack's random id as salt. A new attempt is a new pack id, so no key
//! and nonce ever meet twice, whatever crashes, is cloned or is resumed; inside a pack the frame number is the nonce, and
//! [`PackSealer`] hands numbers out itself. The directory and the tail have numbers of their own, which are used once because
//! sealing them consumes the sealer.

use crate::crypto::CryptoError;
use crate::crypto::seal::{COMMITMENT_LEN, CommittedKey};
use crate::crypto::session::SessionSecret;
use crate::model::id::{PackId, RepositoryId};

const LABEL: &str = "pack";
const DIRECTORY_NUMBER: u32 = u32::MAX - 1;
const TAIL_NUMBER: u32 = u32::MAX;

/// What part of a pack some bytes are; part of the associated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum PackArea {
    Frame = 0,
    Directory = 1,
    Tail = 2,
}

/// Seals the frames and the directory of one new pack.
///
/// A pack has any number of frames, then one directory, then one tail; the types allow nothing else. The directory is sealed
/// by a sealer that is gone afterwards:
///
/// ```
/// # use coffre::crypto::pack::PackSealer;
/// fn complete(mut sealer: PackSealer, buffer: &mut Vec<u8>) {
///     sealer.seal_frame(buffer, 0);
///     let directory = buffer.len();
///     let tail_sealer = sealer.seal_directory(buffer, directory);
///     let tail = buffer.len();
///     tail_sealer.finish(buffer, tail);
/// }
/// ```
///
/// A second directory, which would have the nonce of the first, does not compile:
///
/// ```compile_fail,E0382
/// # use coffre::crypto::pack::PackSealer;
/// fn twice(sealer: PackSealer, buffer: &mut Vec<u8>) {
///     sealer.seal_directory(buffer, 0);
///     sealer.seal_directory(buffer, 0);
/// }
/// ```
///
/// Nor does a frame that no directory would name:
///
/// ```compile_fail,E0382
/// # use coffre::crypto::pack::PackSealer;
/// fn too_late(mut sealer: PackSealer, buffer: &mut Vec<u8>) {
///     sealer.seal_directory(buffer, 0);
///     sealer.seal_frame(buffer, 0);
/// }
/// ```
///
/// Nor a second tail:
///
/// ```compile_fail,E0382
/// # use coffre::crypto::pack::TailSealer;
/// fn twice(sealer: TailSealer, buffer: &mut Vec<u8>) {
///     sealer.finish(buffer, 0);
///     sealer.finish(buffer, 0);
/// }
/// ```
pub struct PackSealer {
    parts: PartSealer,
    next_frame: u32,
}

impl PackSealer {
    /// Derives the key of a new pack, whose id must be fresh and random.
    pub fn new(secret: &SessionSecret, repository: RepositoryId, pack: PackId) -> Self {
        let key = CommittedKey::derive(&secret.0, &pack.0, LABEL);
        Self { parts: PartSealer { key, repository, pack }, next_frame: 0 }
    }

    /// Returns the pack's id.
    pub fn pack(&self) -> PackId {
        self.parts.pack
    }

    /// Returns the commitment that stands in the pack's trailer and in the index.
    pub fn commitment(&self) -> [u8; COMMITMENT_LEN] {
        *self.parts.key.commitment()
    }

    /// Seals the next frame: everything in `buffer` from `start` on is sealed in place, and the tag is appended.
    ///
    /// # Panics
    /// When all numbers of frames are taken; no number is given twice. A pack of 4 GiB has far fewer frames.
    pub fn seal_frame(&mut self, buffer: &mut Vec<u8>, start: usize) {
        let number = self.next_frame;
        assert!(number < DIRECTORY_NUMBER, "a pack has fewer frames than there are numbers");
        self.next_frame += 1;
        self.parts.seal(PackArea::Frame, number, buffer, start);
    }

    /// Seals the directory as [`PackSealer::seal_frame`] does a frame, after which nothing but the tail can be sealed.
    pub fn seal_directory(self, buffer: &mut Vec<u8>, start: usize) -> TailSealer {
        self.parts.seal(PackArea::Directory, DIRECTORY_NUMBER, buffer, start);
        TailSealer(self.parts)
    }
}

/// Seals the tail of a pack whose directory is sealed.
#[must_use = "a pack without a tail cannot be opened"]
pub struct TailSealer(PartSealer);

impl TailSealer {
    /// Seals the tail, after which nothing can be sealed.
    pub fn finish(self, buffer: &mut Vec<u8>, start: usize) {
        self.0.seal(PackArea::Tail, TAIL_NUMBER, buffer, start);
    }
}

/// The key of a pack in the making. Who calls [`PartSealer::seal`] keeps that no part and number come twice.
struct PartSealer {
    key: CommittedKey,
    repository: RepositoryId,
    pack: PackId,
}

impl PartSealer {
    fn seal(&self, part: PackArea, number: u32, buffer: &mut Vec<u8>, start: usize) {
        let aad = associated_data(self.repository, self.pack, part, number);
        let tag = self.key.seal(number, &aad, &mut buffer[start..]);
        buffer.extend_from_slice(&tag);
    }
}

/// Opens the parts of a stored pack. Its existence means that the pack's key commitment was compared.
pub struct PackOpener {
    key: CommittedKey,
    repository: RepositoryId,
    pack: PackId,
}

impl PackOpener {
    /// Derives a pack's key and compares `commitment` with it before anything is opened.
    ///
    /// # Errors
    /// [`CryptoError::OtherKey`] when the commitment is another key's.
    pub fn new(
        secret: &SessionSecret,
        repository: RepositoryId,
        pack: PackId,
        commitment: &[u8; COMMITMENT_LEN],
    ) -> Result<Self, CryptoError> {
        let key = CommittedKey::derive(&secret.0, &pack.0, LABEL);
        key.check(commitment)?;
        Ok(Self { key, repository, pack })
    }

    /// Opens frame `number` in place and returns its plaintext.
    ///
    /// # Errors
    /// [`CryptoError::Forged`] when it was changed or is another frame.
    pub fn open_frame<'a>(&self, number: u32, sealed: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        self.open(PackArea::Frame, number, sealed)
    }

    /// Opens frame `number` into `out`, which holds nothing else afterwards, and leaves the sealed bytes as they are.
    ///
    /// # Errors
    /// As for [`PackOpener::open_frame`].
    pub(crate) fn open_frame_into(&self, number: u32, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.key.open_into(number, &associated_data(self.repository, self.pack, PackArea::Frame, number), sealed, out)
    }

    /// Opens the directory in place.
    ///
    /// # Errors
    /// As for [`PackOpener::open_frame`].
    pub fn open_directory<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        self.open(PackArea::Directory, DIRECTORY_NUMBER, sealed)
    }

    /// Opens the tail in place.
    ///
    /// # Errors
    /// As for [`PackOpener::open_frame`].
    pub fn open_tail<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        self.open(PackArea::Tail, TAIL_NUMBER, sealed)
    }

    fn open<'a>(&self, part: PackArea, number: u32, sealed: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        self.key.open(number, &associated_data(self.repository, self.pack, part, number), sealed)
    }
}

fn associated_data(repository: RepositoryId, pack: PackId, part: PackArea, number: u32) -> [u8; 37] {
    let mut aad = [0; 37];
    aad[..16].copy_from_slice(&repository.0);
    aad[16..32].copy_from_slice(&pack.0);
    aad[32] = part as u8;
    aad[33..].copy_from_slice(&number.to_le_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::seal::TAG_LEN;
    use crate::crypto::secret::Secret;

    #[test]
    fn frames_open_only_under_their_number_and_pack() {
        let secret = SessionSecret(Secret::random());
        let (repository, pack) = (RepositoryId([1; 16]), PackId([2; 16]));
        let mut sealer = PackSealer::new(&secret, repository, pack);
        let commitment = sealer.commitment();
        let mut buffer = b"first".to_vec();
        sealer.seal_frame(&mut buffer, 0);
        let second = buffer.len();
        buffer.extend_from_slice(b"second");
        sealer.seal_frame(&mut buffer, second);

        let opener = PackOpener::new(&secret, repository, pack, &commitment).expect("the same key");
        assert_eq!(opener.open_frame(0, &mut buffer[..second].to_vec()).expect("frame 0"), b"first");
        assert_eq!(opener.open_frame(1, &mut buffer[second..].to_vec()).expect("frame 1"), b"second");
        assert!(opener.open_frame(1, &mut buffer[..second].to_vec()).is_err());
        assert!(opener.open_directory(&mut buffer[..second].to_vec()).is_err());
        assert!(PackOpener::new(&secret, repository, PackId([3; 16]), &commitment).is_err());
        let mut out = b"what was in it before".to_vec();
        opener.open_frame_into(1, &buffer[second..], &mut out).expect("frame 1");
        assert_eq!(out, b"second");
        assert!(opener.open_frame_into(0, &buffer[second..], &mut out).is_err());
        assert_eq!(opener.open_frame_into(0, &buffer[..TAG_LEN - 1], &mut out), Err(CryptoError::Malformed));
        assert_eq!(opener.open_frame(0, &mut [0; TAG_LEN - 1]), Err(CryptoError::Malformed));
        assert_eq!(opener.open_frame(0, &mut [0; TAG_LEN]), Err(CryptoError::Forged));
    }

    #[test]
    #[should_panic(expected = "fewer frames than there are numbers")]
    fn the_numbers_of_directory_and_tail_are_given_to_no_frame() {
        let secret = SessionSecret(Secret::random());
        let mut sealer = PackSealer::new(&secret, RepositoryId([1; 16]), PackId([2; 16]));
        sealer.next_frame = DIRECTORY_NUMBER - 1;
        sealer.seal_frame(&mut Vec::new(), 0);
        sealer.seal_frame(&mut Vec::new(), 0);
    }
}
