//! Names in the keyring that readers alone may know: of writers, and of key slots.

use zeroize::Zeroizing;

use crate::crypto::derive::ReaderKey;
use crate::crypto::seal::{Purpose, open_envelope, seal_envelope};
use crate::format::FormatError;
use crate::format::object::KEYRING;
use crate::model::id::RepositoryId;

/// Seals what is known of the writer or slot `id`.
pub(super) fn seal_name(repository: RepositoryId, reader: &ReaderKey, id: [u8; 8], value: &[u8]) -> Vec<u8> {
    let wrap = reader.wrapping_key(repository);
    seal_envelope(&wrap, repository, Purpose::Name, &object(id), value).into_bytes()
}

/// Opens what [`seal_name`] made.
pub(super) fn open_name(
    repository: RepositoryId,
    reader: &ReaderKey,
    id: [u8; 8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let wrap = reader.wrapping_key(repository);
    open_envelope(&wrap, repository, Purpose::Name, &object(id), sealed)
        .map_err(|e| FormatError::invalid(KEYRING.0.what, e))
}

/// Returns the object to which a name is sealed.
fn object(id: [u8; 8]) -> [u8; 16] {
    let mut object = [0; 16];
    object[..id.len()].copy_from_slice(&id);
    object
}
