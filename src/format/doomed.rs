//! Doomed packs: what cleaning up intends to delete, told before it does, so that no writer relies on it any more.

use minicbor::Decoder;

use crate::crypto::seal::Sealed;
use crate::format::FormatError;
use crate::format::lease::{join_domain_object, split_domain_object};
use crate::format::wire::{encode, read_map};
use crate::model::id::{DomainEpoch, PackId};
use crate::model::time::Timestamp;

const WHAT: &str = "a list of doomed packs";
const MARK: &[u8; 8] = b"coffreD\x01";

/// Packs that a clean-up run intends to delete. Its object is named after that run's session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Doomed {
    /// When the list was made: only leases that began before matter to it.
    pub listed: Timestamp,
    /// The packs.
    pub packs: Vec<PackId>,
}

impl Doomed {
    /// Encodes the value that is sealed under the index key.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            let packs: Vec<u8> = self.packs.iter().flat_map(|pack| pack.0).collect();
            e.map(2)?.u8(0)?.i64(self.listed.seconds)?.u8(1)?.bytes(&packs)?;
            Ok(())
        })
    }

    /// Decodes an opened value.
    ///
    /// # Errors
    /// [`FormatError`] when it is not a list of packs.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut doomed = Doomed::default();
        read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
            match key {
                0 => doomed.listed = Timestamp::from_seconds(d.i64()?),
                1 => {
                    let (packs, rest) = d.bytes()?.as_chunks::<{ PackId::LEN }>();
                    if !rest.is_empty() {
                        return Err(minicbor::decode::Error::message("a pack's id is cut off"));
                    }
                    doomed.packs = packs.iter().copied().map(PackId).collect();
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(doomed)
    }
}

/// Puts the mark and the domain's key epoch before a sealed list.
pub fn join_doomed_object(at: DomainEpoch, envelope: &Sealed) -> Vec<u8> {
    join_domain_object(MARK, at, envelope)
}

/// Splits an object into the domain's key epoch and the sealed list.
///
/// # Errors
/// [`FormatError`] when it is not a list of doomed packs.
pub fn split_doomed_object(bytes: &[u8]) -> Result<(DomainEpoch, &[u8]), FormatError> {
    split_domain_object(WHAT, MARK, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_round_trips_and_a_cut_id_is_refused() {
        let doomed = Doomed { listed: Timestamp::from_seconds(7), packs: vec![PackId([1; 16]), PackId([2; 16])] };
        assert_eq!(Doomed::decode(&doomed.encode()), Ok(doomed));
        let cut = encode(|e| {
            e.map(1)?.u8(1)?.bytes(&[1; 17])?;
            Ok(())
        });
        assert!(Doomed::decode(&cut).is_err());
    }
}
