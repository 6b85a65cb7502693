//! The outer forms of objects: what stands beside the sealed or signed bytes, and the mark of every kind.
//!
//! A new kind of object is one more line in the table below; its value's bytes have a file of their own.

use crate::crypto::seal::Sealed;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::crypto::sign::SIGNATURE_LEN;
use crate::format::FormatError;
use crate::format::wire::Cursor;
use crate::model::id::{DomainEpoch, DomainId};

/// The configuration.
pub const CONFIG: SignedForm = SignedForm(Kind { mark: *b"coffreC\x01", what: "a configuration" });
/// The keyring.
pub const KEYRING: SignedForm = SignedForm(Kind { mark: *b"coffreK\x01", what: "a keyring" });
/// A segment of the index.
pub const INDEX: DomainForm = DomainForm(Kind { mark: *b"coffreI\x01", what: "an index segment" });
/// A session's lease.
pub const LEASE: DomainForm = DomainForm(Kind { mark: *b"coffreL\x01", what: "a lease" });
/// A list of doomed packs.
pub const DOOMED: DomainForm = DomainForm(Kind { mark: *b"coffreD\x01", what: "a list of doomed packs" });
/// A snapshot.
pub const SNAPSHOT: SessionForm = SessionForm(Kind { mark: *b"coffreS\x01", what: "a snapshot" });
/// A record of a verification.
pub const VERIFIED: ReaderForm = ReaderForm(Kind { mark: *b"coffreV\x01", what: "a record of a verification" });
/// A pack, which has its mark at the end; its form is [`crate::format::pack`]'s.
pub(super) const PACK: Kind = Kind { mark: *b"coffreP\x01", what: "a pack" };

/// A kind of object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The eight bytes that tell what an object is.
    pub(super) mark: [u8; 8],
    /// What messages call it.
    pub(super) what: &'static str,
}

impl Kind {
    /// Begins to read an object of this kind, behind its mark.
    fn after_mark(self, object: &[u8]) -> Result<Cursor<'_>, FormatError> {
        let mut cursor = Cursor::new(self.what, object);
        cursor.mark(&self.mark)?;
        Ok(cursor)
    }
}

/// Mark, signature, payload in the clear.
#[derive(Debug, Clone, Copy)]
pub struct SignedForm(pub(super) Kind);

impl SignedForm {
    /// Joins an object.
    pub(super) fn join(self, signature: &[u8; SIGNATURE_LEN], payload: &[u8]) -> Vec<u8> {
        [self.0.mark.as_slice(), signature, payload].concat()
    }

    /// Splits an object into signature and payload. The signature is not checked.
    pub(super) fn split(self, object: &[u8]) -> Result<(&[u8; SIGNATURE_LEN], &[u8]), FormatError> {
        let mut cursor = self.0.after_mark(object)?;
        let signature = cursor.bytes(SIGNATURE_LEN)?.try_into().expect("as many as asked for");
        Ok((signature, cursor.rest()))
    }
}

/// Mark, domain, epoch, envelope: sealed under the index key of a domain's epoch.
#[derive(Debug, Clone, Copy)]
pub struct DomainForm(pub(super) Kind);

impl DomainForm {
    /// Joins an object from the domain's key epoch and the envelope.
    pub fn join(self, at: DomainEpoch, envelope: &Sealed) -> Vec<u8> {
        [self.0.mark.as_slice(), &at.domain.0, &at.epoch.to_le_bytes(), &**envelope].concat()
    }

    /// Splits an object into the domain's key epoch and the envelope.
    ///
    /// # Errors
    /// [`FormatError`] when it is not an object of this kind.
    pub fn split(self, object: &[u8]) -> Result<(DomainEpoch, &[u8]), FormatError> {
        let mut cursor = self.0.after_mark(object)?;
        let at = DomainEpoch { domain: DomainId(cursor.array()?), epoch: cursor.u32()? };
        Ok((at, cursor.rest()))
    }
}

/// Mark, session header, envelope: sealed under the session's secret, so that it can be read from itself.
#[derive(Debug, Clone, Copy)]
pub struct SessionForm(pub(super) Kind);

impl SessionForm {
    /// Joins an object from its session's header and the envelope.
    pub fn join(self, header: &SessionHeader, envelope: &Sealed) -> Vec<u8> {
        [self.0.mark.as_slice(), &header.to_bytes(), &**envelope].concat()
    }

    /// Splits an object into its session's header and the envelope.
    ///
    /// # Errors
    /// [`FormatError`] when it is not an object of this kind.
    pub fn split(self, object: &[u8]) -> Result<(SessionHeader, &[u8]), FormatError> {
        let mut cursor = self.0.after_mark(object)?;
        let header = SessionHeader::from_bytes(&cursor.array::<SESSION_HEADER_LEN>()?);
        Ok((header, cursor.rest()))
    }
}

/// Mark, envelope: sealed under the reader key.
#[derive(Debug, Clone, Copy)]
pub struct ReaderForm(pub(super) Kind);

impl ReaderForm {
    /// Joins an object.
    pub(super) fn join(self, envelope: &Sealed) -> Vec<u8> {
        [self.0.mark.as_slice(), &**envelope].concat()
    }

    /// Returns an object's envelope.
    pub(super) fn split(self, object: &[u8]) -> Result<&[u8], FormatError> {
        Ok(self.0.after_mark(object)?.rest())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_kind_is_taken_for_another() {
        let at = DomainEpoch { domain: DomainId([7; 16]), epoch: 3 };
        let object = [b"coffreL\x01".as_slice(), &[7; 16], &[3, 0, 0, 0], b"sealed"].concat();
        assert_eq!(LEASE.split(&object), Ok((at, &b"sealed"[..])));
        assert_eq!(DOOMED.split(&object), Err(FormatError::WrongMark("a list of doomed packs")));
        assert_eq!(LEASE.split(&object[..27]), Err(FormatError::Truncated("a lease")));
        let kinds = [CONFIG.0, KEYRING.0, INDEX.0, LEASE.0, DOOMED.0, SNAPSHOT.0, VERIFIED.0, PACK];
        assert_eq!(kinds.iter().map(|kind| kind.mark).collect::<BTreeSet<_>>().len(), kinds.len());
    }
}
