//! zstd for frames: compressed when that helps, stored when it does not, and capped when read back.

use std::cell::RefCell;

use crate::format::pack::{Codec, FRAME_PLAIN_MAX};
use crate::model::outcome::{Ended, Outcome};

/// zstd's level: 3 is where ratio for time is best on two cores (`docs/performance.md`).
pub const DEFAULT_LEVEL: i32 = 3;
/// The level for new rows of a night, which are few, unless one below [`DEFAULT_LEVEL`] is asked for: 6 % smaller for half a second
/// of a gigabyte's night.
const ROWS_LEVEL: i32 = 9;
/// Pieces of a frame looked at to guess whether it can be compressed, evenly spread: a frame may hold many files.
const SAMPLE_PIECES: usize = 16;
/// Length of such a piece, in bytes.
const PIECE_LEN: usize = 4 << 10;

/// Why a frame's plaintext could not be recovered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The plaintext is not as long as the directory says.
    #[error("the frame does not have the length its directory tells")]
    Length,
    /// The bytes are not a zstd frame.
    #[error("the frame cannot be decompressed: {0}")]
    Zstd(String),
}

impl Ended for DecompressError {
    fn outcome(&self) -> Outcome {
        Outcome::Damaged
    }
}

/// Compresses frames; keeps its working memory between them.
pub struct Compressor {
    level: i32,
    zstd: zstd::bulk::Compressor<'static>,
    probe: zstd::bulk::Compressor<'static>,
    sample: Vec<u8>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// Makes a compressor of the given level (1 to 19).
    pub fn new(level: i32) -> Self {
        let zstd = zstd::bulk::Compressor::new(level).expect("zstd takes any level");
        let probe = zstd::bulk::Compressor::new(-5).expect("zstd takes any level");
        Self { level, zstd, probe, sample: Vec::new(), out: Vec::new() }
    }

    /// Returns `plain` compressed, or as it is when compressing would not save one part in 64.
    pub fn compress<'a>(&'a mut self, plain: &'a [u8]) -> (Codec, &'a [u8]) {
        if self.looks_incompressible(plain) {
            return (Codec::Stored, plain);
        }
        let bound = zstd::zstd_safe::compress_bound(plain.len());
        self.out.clear();
        self.out.reserve(bound);
        match self.zstd.compress_to_buffer(plain, &mut self.out) {
            Ok(_) if self.out.len() + plain.len() / 64 < plain.len() => (Codec::Zstd, &self.out),
            _ => (Codec::Stored, plain),
        }
    }

    /// Does the same for new rows of a night, and tries harder.
    pub fn compress_rows<'a>(&'a mut self, plain: &'a [u8]) -> (Codec, &'a [u8]) {
        let harder = if self.level < DEFAULT_LEVEL { self.level } else { self.level.max(ROWS_LEVEL) };
        self.zstd.set_compression_level(harder).expect("zstd takes any level");
        let (codec, length) = {
            let (codec, encoded) = self.compress(plain);
            (codec, encoded.len())
        };
        self.zstd.set_compression_level(self.level).expect("zstd takes any level");
        match codec {
            Codec::Stored => (codec, plain),
            _ => (codec, &self.out[..length]),
        }
    }

    /// Lends the memory of what was compressed last, when that is not needed any more.
    pub(crate) fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Guesses from a sample: bytes as evenly spread as random ones, which zstd's fastest level cannot shorten either.
    fn looks_incompressible(&mut self, plain: &[u8]) -> bool {
        if plain.len() < 4096 {
            return false;
        }
        let sample = match plain.len().checked_sub(SAMPLE_PIECES * PIECE_LEN) {
            None | Some(0) => plain,
            Some(between) => {
                self.sample.clear();
                for piece in 0..SAMPLE_PIECES {
                    let start = piece * PIECE_LEN + between * piece / (SAMPLE_PIECES - 1);
                    self.sample.extend_from_slice(&plain[start..start + PIECE_LEN]);
                }
                &self.sample
            }
        };
        let mut counts = [0u32; 256];
        sample.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        let even = sample.len() as f64 / 256.0;
        // Chi-squared with 255 degrees of freedom: random bytes stay near 255; text is in the hundred thousands.
        let chi_squared: f64 = counts.iter().map(|&count| (f64::from(count) - even).powi(2) / even).sum();
        if chi_squared > 1000.0 {
            return false;
        }
        self.out.clear();
        self.out.reserve(zstd::zstd_safe::compress_bound(sample.len()));
        match self.probe.compress_to_buffer(sample, &mut self.out) {
            Ok(length) => length * 64 > sample.len() * 63,
            Err(_) => true,
        }
    }
}

thread_local! {
    /// Working memory is kept between frames.
    static DECOMPRESSOR: RefCell<zstd::bulk::Decompressor<'static>> =
        RefCell::new(zstd::bulk::Decompressor::new().expect("zstd has memory for its context"));
}

/// Recovers a frame's plaintext of exactly `plain_len` bytes; never allocates more than that.
///
/// # Errors
/// [`DecompressError`] when the bytes give another length or are not zstd.
pub fn decompress(codec: Codec, encoded: &[u8], plain_len: u32) -> Result<Vec<u8>, DecompressError> {
    let mut plain = Vec::new();
    match codec {
        Codec::Stored | Codec::StoredRecipes => {
            decompress_into(codec, encoded, plain_len, &mut plain).map(<[u8]>::to_vec)
        }
        Codec::Zstd | Codec::ZstdRecipes => {
            decompress_into(codec, encoded, plain_len, &mut plain).map(drop).map(|()| plain)
        }
    }
}

/// Recovers a frame's plaintext as [`decompress`] does, in memory that is used again: `memory` holds it afterwards, unless
/// the frame is its own plaintext.
///
/// # Errors
/// As for [`decompress`].
pub(crate) fn decompress_into<'a>(
    codec: Codec,
    encoded: &'a [u8],
    plain_len: u32,
    memory: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecompressError> {
    if plain_len > FRAME_PLAIN_MAX {
        return Err(DecompressError::Length);
    }
    let plain = match codec {
        Codec::Stored | Codec::StoredRecipes => encoded,
        Codec::Zstd | Codec::ZstdRecipes => {
            memory.clear();
            memory.reserve_exact(plain_len as usize);
            DECOMPRESSOR
                .with_borrow_mut(|zstd| zstd.decompress_to_buffer(encoded, memory))
                .map_err(|error| DecompressError::Zstd(error.to_string()))?;
            memory
        }
    };
    if plain.len() == plain_len as usize { Ok(plain) } else { Err(DecompressError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn text_is_compressed_and_comes_back() {
        let text = b"the quick brown fox ".repeat(5000);
        let mut compressor = Compressor::new(DEFAULT_LEVEL);
        let (codec, encoded) = compressor.compress(&text);
        assert_eq!(codec, Codec::Zstd);
        assert!(encoded.len() < text.len() / 20);
        assert_eq!(decompress(codec, encoded, text.len() as u32), Ok(text.clone()));
        assert!(decompress(codec, encoded, 10).is_err());
    }

    #[test]
    fn random_bytes_are_stored() {
        let random = random(200_000);
        let (codec, encoded) = { Compressor::new(DEFAULT_LEVEL).compress(&random).to_owned_pair() };
        assert_eq!((codec, encoded), (Codec::Stored, random));
    }

    #[test]
    fn a_repeated_random_block_is_still_compressed() {
        let block = random(10_000);
        let data = block.repeat(20);
        let mut compressor = Compressor::new(DEFAULT_LEVEL);
        assert_eq!(compressor.compress(&data).0, Codec::Zstd);
    }

    #[test]
    fn text_among_random_bytes_is_still_compressed() {
        let mut data = random(1 << 20);
        data[300_000..500_000].copy_from_slice(&b"0123456789 and some words\n".repeat(8000)[..200_000]);
        let mut compressor = Compressor::new(DEFAULT_LEVEL);
        let (codec, encoded) = compressor.compress(&data);
        assert_eq!(codec, Codec::Zstd);
        assert!(encoded.len() < data.len() - 190_000);
    }

    trait Owned {
        fn to_owned_pair(self) -> (Codec, Vec<u8>);
    }

    impl Owned for (Codec, &[u8]) {
        fn to_owned_pair(self) -> (Codec, Vec<u8>) {
            (self.0, self.1.to_vec())
        }
    }
}
