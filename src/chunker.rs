//! Cuts content into chunks by FastCDC: on bytes, knowing nothing of files.
//!
//! Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS
//! 2020. The gear table is derived from the domain's dedup secret, so where a content is cut tells a provider nothing.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::Zeroizing;

use crate::format::config::ChunkerProfile;

/// Finds the cut points of one profile.
#[derive(Clone)]
pub struct Chunker {
    profile: ChunkerProfile,
    gear: Box<Zeroizing<[u64; 256]>>,
    gear_shifted: Box<Zeroizing<[u64; 256]>>,
    mask_small: u64,
    mask_large: u64,
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunker({}, {}, {})", self.profile.min, self.profile.avg, self.profile.max)
    }
}

impl Chunker {
    /// Prepares a chunker; the profile comes from a checked configuration.
    pub fn new(profile: ChunkerProfile, gear: &[u64; 256]) -> Self {
        let level = match profile.normalization {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            _ => Normalization::Level3,
        };
        let (mask_small, mask_large) = select_masks(profile.avg as usize, level);
        Self {
            profile,
            gear: Box::new(Zeroizing::new(*gear)),
            gear_shifted: Box::new(Zeroizing::new(gear.map(|entry| entry << 1))),
            mask_small,
            mask_large,
        }
    }

    /// Returns the length of the first chunk of `data`, or `None` when more data is needed to tell.
    ///
    /// `at_end` says that nothing follows `data`; then only empty data gives `None`.
    pub fn cut(&self, data: &[u8], at_end: bool) -> Option<usize> {
        let p = &self.profile;
        if data.is_empty() || (data.len() < p.max as usize && !at_end) {
            return None;
        }
        let (_, length) = cut_gear(
            data,
            p.min as usize,
            p.avg as usize,
            p.max as usize,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &**self.gear,
            &**self.gear_shifted,
        );
        Some(length)
    }

    /// Returns the longest chunk it cuts, in bytes.
    pub fn max(&self) -> usize {
        self.profile.max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunker() -> Chunker {
        let profile = ChunkerProfile {
            algorithm: ChunkerProfile::FASTCDC_2020,
            min: 1024,
            avg: 4096,
            max: 16384,
            normalization: 2,
        };
        let mut gear = [0; 256];
        for (i, entry) in gear.iter_mut().enumerate() {
            let hash = blake3::hash(&[u8::try_from(i).expect("256 values")]);
            *entry = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"));
        }
        Chunker::new(profile, &gear)
    }

    fn data(seed: u8, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
        out
    }

    fn cut_all(chunker: &Chunker, mut data: &[u8]) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        while let Some(length) = chunker.cut(data, true) {
            chunks.push(data[..length].to_vec());
            data = &data[length..];
        }
        chunks
    }

    #[test]
    fn chunks_put_together_are_the_data_and_keep_the_limits() {
        let (chunker, data) = (chunker(), data(1, 300_000));
        let chunks = cut_all(&chunker, &data);
        assert_eq!(chunks.concat(), data);
        assert!(chunks.iter().all(|chunk| chunk.len() <= 16384));
        assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk.len() >= 1024));
    }

    #[test]
    fn an_insertion_changes_only_chunks_near_it() {
        let (chunker, before) = (chunker(), data(2, 1_000_000));
        let mut after = before.clone();
        after.splice(500_000..500_000, *b"inserted");
        let old = cut_all(&chunker, &before);
        let new = cut_all(&chunker, &after);
        let unknown = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!(unknown <= 3, "{unknown} new chunks");
    }

    #[test]
    fn too_little_data_asks_for_more() {
        assert_eq!(chunker().cut(&data(3, 16_383), false), None);
        assert_eq!(chunker().cut(&[], true), None);
        assert_eq!(chunker().cut(&[1, 2, 3], true), Some(3));
    }
}
