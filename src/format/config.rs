//! The repository's configuration: what every client must know before it does anything.

use std::ops::RangeInclusive;

use minicbor::Decoder;

use crate::crypto::sign::{SIGNATURE_LEN, Signed, VerifyingKey};
use crate::format::object::CONFIG;
use crate::format::wire::{encode, read_array, read_bytes, read_map};
use crate::format::{FORMAT_VERSION, FormatError};
use crate::model::id::RepositoryId;
use crate::model::time::Timestamp;

const WHAT: &str = CONFIG.0.what;

/// The longest chunk that a profile may allow, in bytes.
pub const CHUNK_MAX: u32 = 8 << 20;
/// Sizes at which packs may be complete, in bytes: one is made in memory.
pub const PACK_TARGETS: RangeInclusive<u32> = 1 << 20..=512 << 20;

/// The settings that are fixed at `init` or by an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The repository's id.
    pub repository: RepositoryId,
    /// Counts configurations; the highest that is validly signed counts.
    pub counter: u64,
    /// Format version.
    pub version: u64,
    /// When the repository was made.
    pub created: Timestamp,
    /// Features that a program must know to read, to write and to delete.
    pub required: RequiredFeatures,
    /// How file contents are cut.
    pub files: ChunkerProfile,
    /// How streams are cut.
    pub streams: ChunkerProfile,
    /// Size at which a pack is complete.
    pub pack_target_bytes: u32,
}

/// Names of features that a program must know, per operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequiredFeatures {
    /// Needed to read.
    pub read: Vec<String>,
    /// Needed to write.
    pub write: Vec<String>,
    /// Needed to delete.
    pub delete: Vec<String>,
}

/// How content is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkerProfile {
    /// The algorithm; [`ChunkerProfile::FASTCDC_2020`] is the only one so far.
    pub algorithm: u32,
    /// No chunk but the last of a content is shorter, in bytes.
    pub min: u32,
    /// Where the cut condition becomes easier, in bytes.
    pub avg: u32,
    /// No chunk is longer, in bytes.
    pub max: u32,
    /// Normalisation level, 0 to 3.
    pub normalization: u8,
}

impl ChunkerProfile {
    /// FastCDC 2020 with a keyed gear table.
    pub const FASTCDC_2020: u32 = 1;

    fn is_valid(&self) -> bool {
        let even = |n: u32| n.is_multiple_of(2);
        self.algorithm == Self::FASTCDC_2020
            && (64..=self.avg).contains(&self.min)
            && self.avg <= self.max
            && self.max <= CHUNK_MAX
            && (256..=4 << 20).contains(&self.avg)
            && even(self.min)
            && even(self.avg)
            && even(self.max)
            && self.normalization <= 3
    }
}

impl Config {
    /// Checks that this program knows everything that an operation requires.
    ///
    /// # Errors
    /// [`FormatError::Newer`] or the name of the first unknown feature.
    pub fn check_features(&self, required: &[String]) -> Result<(), FormatError> {
        match required.first() {
            None => Ok(()),
            Some(name) => Err(FormatError::invalid(WHAT, format!("it requires {name:?}; use a newer coffre"))),
        }
    }

    /// Encodes the configuration; `sign` makes a signature over the payload.
    pub fn encode(&self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN]) -> Vec<u8> {
        let payload = encode(|e| {
            e.map(8)?.u8(0)?.bytes(&self.repository.0)?.u8(1)?.u64(self.counter)?.u8(2)?.u64(self.version)?;
            e.u8(3)?.i64(self.created.seconds)?.u8(4)?.map(3)?;
            let features = [&self.required.read, &self.required.write, &self.required.delete];
            for (key, names) in (0u8..).zip(features) {
                e.u8(key)?.array(names.len() as u64)?;
                names.iter().try_for_each(|name| e.str(name).map(|_| ()))?;
            }
            for (key, profile) in [(5, &self.files), (6, &self.streams)] {
                e.u8(key)?.array(5)?.u32(profile.algorithm)?.u32(profile.min)?.u32(profile.avg)?;
                e.u32(profile.max)?.u8(profile.normalization)?;
            }
            e.u8(7)?.u32(self.pack_target_bytes)?;
            Ok(())
        });
        CONFIG.join(&sign(&payload), &payload)
    }

    /// Decodes a configuration without checking its signature; enough to learn the repository's id and version.
    ///
    /// # Errors
    /// [`FormatError`] for anything that is not a configuration this program can understand.
    pub fn decode_unverified(bytes: &[u8]) -> Result<Self, FormatError> {
        let (_, payload) = CONFIG.split(bytes)?;
        let mut config = Config {
            repository: RepositoryId([0; 16]),
            counter: 0,
            version: 0,
            created: Timestamp::default(),
            required: RequiredFeatures::default(),
            files: ChunkerProfile { algorithm: 0, min: 0, avg: 0, max: 0, normalization: 0 },
            streams: ChunkerProfile { algorithm: 0, min: 0, avg: 0, max: 0, normalization: 0 },
            pack_target_bytes: 0,
        };
        read_map(WHAT, &mut Decoder::new(payload), |key, d| {
            match key {
                0 => config.repository = RepositoryId(read_bytes(d)?),
                1 => config.counter = d.u64()?,
                2 => config.version = d.u64()?,
                3 => config.created = Timestamp::from_seconds(d.i64()?),
                4 => {
                    let len = d.map()?.unwrap_or(0);
                    for _ in 0..len {
                        let key = d.u8()?;
                        let names = read_array(d, |d| d.str().map(str::to_owned))?;
                        match key {
                            0 => config.required.read = names,
                            1 => config.required.write = names,
                            2 => config.required.delete = names,
                            _ => {}
                        }
                    }
                }
                5 => config.files = read_profile(d)?,
                6 => config.streams = read_profile(d)?,
                7 => config.pack_target_bytes = d.u32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        config.check()
    }

    /// Decodes a configuration and checks its signature.
    ///
    /// # Errors
    /// As for [`Config::decode_unverified`], and when the signature is not valid.
    pub fn decode(bytes: &[u8], repository: RepositoryId, key: &VerifyingKey) -> Result<Self, FormatError> {
        let (signature, payload) = CONFIG.split(bytes)?;
        key.verify(Signed::Config, repository, payload, signature).map_err(|e| FormatError::invalid(WHAT, e))?;
        let config = Self::decode_unverified(bytes)?;
        if config.repository != repository {
            return Err(FormatError::invalid(WHAT, "it is another repository's"));
        }
        Ok(config)
    }

    fn check(self) -> Result<Self, FormatError> {
        if self.version > FORMAT_VERSION {
            return Err(FormatError::Newer { what: WHAT, version: self.version });
        }
        if self.version == 0 {
            return Err(FormatError::invalid(WHAT, "it has no version"));
        }
        if !self.files.is_valid() || !self.streams.is_valid() {
            return Err(FormatError::invalid(WHAT, "a chunker profile is out of range"));
        }
        if !PACK_TARGETS.contains(&self.pack_target_bytes) {
            return Err(FormatError::invalid(WHAT, "the pack size is out of range"));
        }
        Ok(self)
    }
}

fn read_profile(d: &mut Decoder<'_>) -> Result<ChunkerProfile, minicbor::decode::Error> {
    if d.array()? != Some(5) {
        return Err(minicbor::decode::Error::message("a chunker profile has five numbers"));
    }
    Ok(ChunkerProfile { algorithm: d.u32()?, min: d.u32()?, avg: d.u32()?, max: d.u32()?, normalization: d.u8()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: ChunkerProfile =
        ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min: 64, avg: 256, max: 256, normalization: 3 };

    #[test]
    fn a_profile_is_valid_up_to_its_limits_and_not_beyond() {
        let p = PROFILE;
        let avg = 4 << 20;
        for valid in [
            p,
            ChunkerProfile { min: 256, ..p },
            ChunkerProfile { min: avg, avg, max: CHUNK_MAX, normalization: 0, ..p },
            ChunkerProfile { avg: 258, max: 258, ..p },
        ] {
            assert!(valid.is_valid(), "{valid:?}");
        }
        for invalid in [
            ChunkerProfile { algorithm: 0, ..p },
            ChunkerProfile { algorithm: 2, ..p },
            ChunkerProfile { min: 62, ..p },
            ChunkerProfile { min: 63, ..p },
            ChunkerProfile { min: 65, ..p },
            ChunkerProfile { min: 258, ..p },
            ChunkerProfile { min: 64, avg: 254, max: 256, ..p },
            ChunkerProfile { avg: 257, max: 258, ..p },
            ChunkerProfile { avg: 256, max: 257, ..p },
            ChunkerProfile { avg: 258, max: 256, ..p },
            ChunkerProfile { avg: avg + 2, max: CHUNK_MAX, ..p },
            ChunkerProfile { avg, max: CHUNK_MAX + 2, ..p },
            ChunkerProfile { normalization: 4, ..p },
        ] {
            assert!(!invalid.is_valid(), "{invalid:?}");
        }
    }

    #[test]
    fn a_configuration_is_checked_field_by_field() {
        let config = Config {
            repository: RepositoryId([1; 16]),
            counter: 1,
            version: FORMAT_VERSION,
            created: Timestamp::from_seconds(1_795_485_300),
            required: RequiredFeatures::default(),
            files: PROFILE,
            streams: PROFILE,
            pack_target_bytes: *PACK_TARGETS.start(),
        };
        let decoded = |config: &Config| Config::decode_unverified(&config.encode(|_| [0; SIGNATURE_LEN]));
        assert_eq!(decoded(&config), Ok(config.clone()));
        let largest = Config { pack_target_bytes: *PACK_TARGETS.end(), ..config.clone() };
        assert_eq!(decoded(&largest), Ok(largest.clone()));
        let wrong = ChunkerProfile { algorithm: 2, ..PROFILE };
        for refused in [
            Config { version: 0, ..config.clone() },
            Config { version: FORMAT_VERSION + 1, ..config.clone() },
            Config { files: wrong, ..config.clone() },
            Config { streams: wrong, ..config.clone() },
            Config { pack_target_bytes: PACK_TARGETS.start() - 1, ..config.clone() },
            Config { pack_target_bytes: PACK_TARGETS.end() + 1, ..config.clone() },
        ] {
            assert!(decoded(&refused).is_err(), "{refused:?}");
        }
    }
}
