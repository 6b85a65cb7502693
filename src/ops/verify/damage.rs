//! What can be wrong with an object.

use std::fmt;

use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::model::series::Sequence;
use crate::repository::Tampering;

/// What something is wrong with. Its `Display` is what people read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingSubject {
    /// An object, or all of a kind.
    Object(ObjectKey),
    /// A snapshot that is not there, and of which nobody knows the name.
    Unnamed {
        /// What it was one of.
        sequence: Sequence,
        /// Its number there.
        number: u64,
    },
}

impl fmt::Display for FindingSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => key.fmt(f),
            Self::Unnamed { sequence, number } => write!(f, "snapshot number {number} of {sequence}"),
        }
    }
}

impl PartialEq<ObjectKey> for FindingSubject {
    fn eq(&self, other: &ObjectKey) -> bool {
        matches!(self, Self::Object(key) if key == other)
    }
}

/// What is wrong with an object. Its `Display` is what people read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// It is not there.
    Missing,
    /// It is longer or shorter than it was.
    Length {
        /// Its bytes.
        bytes: u64,
        /// What they were.
        wanted: u64,
    },
    /// It cannot be opened: the clause says why.
    Unusable(String),
    /// Frames of the pack are at fault, of which this is one.
    Frame {
        /// Its number.
        frame: u32,
        /// What is wrong with it.
        why: String,
    },
    /// The index segment tells of packs what they are not; the packs are right.
    Lies {
        /// How many packs.
        packs: usize,
        /// One of them.
        pack: PackId,
    },
    /// The index segment has other digests of packs than these have, in which everything is right but perhaps the padding.
    Digest {
        /// How many packs.
        packs: usize,
        /// One of them.
        pack: PackId,
    },
    /// Chunks that snapshots need are in no index segment.
    NotIndexed,
    /// The snapshot was there, is not, and no clean-up removed it: the clause says how that is known.
    Vanished(String),
    /// It is as it was written, and somebody tried to change it, which the bucket's versions show.
    Tampered(Tampering),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Missing => f.write_str("is missing"),
            Damage::Length { bytes, wanted } => write!(f, "has {bytes} bytes instead of {wanted}"),
            Damage::Unusable(why) | Damage::Vanished(why) => f.write_str(why),
            Damage::Frame { frame, why } => write!(f, "frame {frame}: {why}"),
            Damage::Lies { packs: 1, pack } => write!(f, "lies about pack {pack}, which is as it was written"),
            Damage::Lies { packs, pack } => {
                write!(f, "lies about {packs} packs, which are as they were written: pack {pack} is one")
            }
            Damage::Digest { packs: 1, pack } => write!(
                f,
                "has another SHA-256 for pack {pack}, of which all is right: it lies about the pack, or the pack's padding \
                 was changed"
            ),
            Damage::Digest { packs, pack } => write!(
                f,
                "has other SHA-256s for {packs} packs, of which all is right: it lies about them, or their padding was \
                 changed; pack {pack} is one"
            ),
            Damage::NotIndexed => f.write_str("chunks that snapshots need are in no index segment"),
            Damage::Tampered(Tampering::Overwritten) => f.write_str(
                "was overwritten, and is given as it was first written: somebody has a key to the bucket; remove the later \
                 versions",
            ),
            Damage::Tampered(Tampering::Hidden) => f.write_str(
                "was deleted, and is given as it was first written: somebody has a key to the bucket; remove the delete marker",
            ),
        }
    }
}

impl Damage {
    /// Tells whether a chunk in this frame of the object is lost by it.
    pub(super) fn hits_frame(&self, number: u32) -> bool {
        !matches!(self, Damage::Frame { frame, .. } if *frame != number)
    }
}
