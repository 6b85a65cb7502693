//! A domain's name and dedup secret, sealed for those who may write to it: in the keyring, for readers and for each writer.

use minicbor::Decoder;

use crate::crypto::derive::DedupSecret;
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::crypto::secret::Secret;
use crate::format::FormatError;
use crate::format::object::KEYRING;
use crate::format::wire::{encode_secret, read_map, read_secret};
use crate::model::id::{DomainEpoch, RepositoryId};

const WHAT: &str = KEYRING.0.what;
/// Bytes of an encoded dedup secret besides the domain's name.
const ROOM: usize = 64;

/// Seals a domain's name and dedup secret under the wrapping key of those who may write to it.
pub(super) fn seal_dedup(wrap: &Secret, repository: RepositoryId, name: &str, dedup: &DedupSecret) -> Vec<u8> {
    let named = encode_secret(name.len() + ROOM, |e| {
        e.map(2)?.u8(0)?.str(name)?.u8(1)?.bytes(dedup.secret.expose())?;
        Ok(())
    });
    seal_envelope(wrap, repository, Purpose::DomainDedup, &dedup.at.domain.0, &named).into_bytes()
}

/// Opens what [`seal_dedup`] made for the domain's epoch `at`.
pub(super) fn open_dedup(
    wrap: &Secret,
    repository: RepositoryId,
    at: DomainEpoch,
    sealed: &[u8],
) -> Result<(String, DedupSecret), FormatError> {
    let plain = open_envelope(wrap, repository, Purpose::DomainDedup, &at.domain.0, sealed)
        .map_err(|e| FormatError::invalid(WHAT, e))?;
    let (mut name, mut secret) = (String::new(), None);
    read_map(WHAT, &mut Decoder::new(&plain), |key, d| {
        match key {
            0 => name = d.str()?.to_owned(),
            1 => secret = Some(read_secret(d)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let secret = secret.ok_or_else(|| FormatError::invalid(WHAT, "a domain without dedup secret"))?;
    Ok((name, DedupSecret { secret, at }))
}
