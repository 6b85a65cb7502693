//! Doomed packs: what cleaning up intends to delete, told before it does, so that no writer relies on it any more.

use minicbor::Decoder;

use crate::format::FormatError;
use crate::format::object::DOOMED;
use crate::format::wire::{encode_record, read_map};
use crate::model::id::PackId;
use crate::model::time::Timestamp;

const WHAT: &str = DOOMED.0.what;

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
        let packs: Vec<u8> = self.packs.iter().flat_map(|pack| pack.0).collect();
        encode_record(|r| {
            r.field(0, |e| e.i64(self.listed.seconds)).field(1, |e| e.bytes(&packs));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_round_trips_and_a_cut_id_is_refused() {
        let doomed = Doomed { listed: Timestamp::from_seconds(7), packs: vec![PackId([1; 16]), PackId([2; 16])] };
        assert_eq!(Doomed::decode(&doomed.encode()), Ok(doomed));
        let cut = encode_record(|r| {
            r.field(1, |e| e.bytes(&[1; 17]));
        });
        assert!(Doomed::decode(&cut).is_err());
    }
}
