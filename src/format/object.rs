//! The outer forms of objects: what stands beside the sealed or signed bytes, and the mark of every kind.
//!
//! A new kind of object is one more line in the table below; its value's bytes have a file of their own.

use zeroize::Zeroizing;

use crate::crypto::CryptoError;
use crate::crypto::author::{AUTHOR_BLOCK_LEN, AuthorBlock, SignedSubject, Signer};
use crate::crypto::seal::{Purpose, Sealed, open_envelope, seal_envelope};
use crate::crypto::secret::Secret;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::crypto::sign::{SIGNATURE_LEN, VerifyingKey};
use crate::format::FormatError;
use crate::format::wire::Cursor;
use crate::model::author::Author;
use crate::model::id::{DomainEpoch, DomainId, RepositoryId};

/// The configuration.
pub const CONFIG: SignedForm = SignedForm(Kind { mark: *b"coffreC\x01", what: "a configuration" });
/// The keyring.
pub const KEYRING: SignedForm = SignedForm(Kind { mark: *b"coffreK\x01", what: "a keyring" });
/// A segment of the index.
pub const INDEX: DomainForm = DomainForm(Kind { mark: *b"coffreI\x01", what: "an index segment" }, Purpose::Index);
/// A session's lease.
pub const LEASE: DomainForm = DomainForm(Kind { mark: *b"coffreL\x01", what: "a lease" }, Purpose::Lease);
/// A list of cleaning up.
pub const CLEANUP: DomainForm =
    DomainForm(Kind { mark: *b"coffreD\x01", what: "a list of cleaning up" }, Purpose::Cleanup);
/// A snapshot.
pub const SNAPSHOT: SessionForm = SessionForm(Kind { mark: *b"coffreS\x01", what: "a snapshot" }, Purpose::Snapshot);
/// A record of a run.
pub const EVIDENCE: SessionForm =
    SessionForm(Kind { mark: *b"coffreE\x01", what: "a record of a run" }, Purpose::Evidence);
/// A record of a verification.
pub const VERIFIED: ReaderForm = ReaderForm(Kind { mark: *b"coffreV\x01", what: "a record of a verification" });
/// A record of retention.
pub const RETENTION: ReaderForm = ReaderForm(Kind { mark: *b"coffreR\x01", what: "a record of retention" });
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

/// Who judges what author blocks claim.
pub trait Authors {
    /// Returns the key that checks an author's signatures, `None` when that is not known.
    fn key_of(&self, author: Author) -> Option<VerifyingKey>;

    /// Tells whose value it is.
    ///
    /// # Errors
    /// [`FormatError`] when the author is not known, or did not sign this. `what` names the object in it.
    fn check(
        &self,
        what: &'static str,
        block: &AuthorBlock,
        subject: &SignedSubject<'_>,
        value: &[u8],
    ) -> Result<Author, FormatError> {
        let author = block.claimed();
        let key = self.key_of(author).ok_or(FormatError::UnknownAuthor { what, author })?;
        block.check(&key, subject, value).map_err(|error| {
            let why = match error {
                CryptoError::Malformed => "it is signed in a way that this program does not know".to_owned(),
                error => format!("{author}: {error}"),
            };
            FormatError::Invalid { what, why }
        })
    }
}

/// A value that was opened and whose author is known. Nothing else gives its bytes.
#[derive(Debug)]
pub struct Authored {
    /// Who wrote it.
    pub author: Author,
    opened: Zeroizing<Vec<u8>>,
}

impl Authored {
    /// Returns the value.
    pub fn value(&self) -> &[u8] {
        &self.opened[AUTHOR_BLOCK_LEN..]
    }
}

/// Where a sealed value stands, and what seals it.
#[derive(Debug, Clone, Copy)]
pub struct SealedAt<'a> {
    /// The repository.
    pub repository: RepositoryId,
    /// What stands for the object's name.
    pub object: &'a [u8; 16],
    /// The key from which the envelope's comes.
    pub root: &'a Secret,
}

/// Appends the envelope of a value with its author block to what stands before it.
fn seal_authored(
    mut before: Vec<u8>,
    purpose: Purpose,
    place: &SealedAt<'_>,
    signer: &Signer,
    value: &[u8],
) -> Vec<u8> {
    let SealedAt { repository, object, root } = *place;
    let block = signer.block(&SignedSubject { repository, purpose, object, before: &before }, value);
    #[cfg_attr(not(test), expect(unused_mut, reason = "tests change it"))]
    let mut authored = Zeroizing::new([&block, value].concat());
    #[cfg(test)]
    tests::flip_marked(&mut authored);
    before.extend_from_slice(&seal_envelope(root, repository, purpose, object, &authored));
    before
}

/// Opens what [`seal_authored`] made; `envelope` is the end of `whole`.
fn open_authored(
    (whole, envelope): (&[u8], &[u8]),
    (what, purpose): (&'static str, Purpose),
    place: &SealedAt<'_>,
    authors: &impl Authors,
) -> Result<Authored, FormatError> {
    let SealedAt { repository, object, root } = *place;
    let invalid = |error: CryptoError| FormatError::invalid(what, error);
    let opened = open_envelope(root, repository, purpose, object, envelope).map_err(invalid)?;
    let (block, value) = AuthorBlock::split(&opened).map_err(invalid)?;
    let before = &whole[..whole.len() - envelope.len()];
    let author = authors.check(what, &block, &SignedSubject { repository, purpose, object, before }, value)?;
    Ok(Authored { author, opened })
}

/// Mark, domain, epoch, envelope: sealed under the index key of a domain's epoch, by an author.
#[derive(Debug, Clone, Copy)]
pub struct DomainForm(pub(super) Kind, Purpose);

impl DomainForm {
    /// Seals a value of a domain's epoch into its object.
    pub fn seal(self, at: DomainEpoch, place: &SealedAt<'_>, signer: &Signer, value: &[u8]) -> Vec<u8> {
        let before = [self.0.mark.as_slice(), &at.domain.0, &at.epoch.to_le_bytes()].concat();
        seal_authored(before, self.1, place, signer, value)
    }

    /// Returns the domain's epoch under whose key an object is sealed, and the envelope.
    ///
    /// # Errors
    /// [`FormatError`] when it is not an object of this kind.
    pub fn split(self, object: &[u8]) -> Result<(DomainEpoch, &[u8]), FormatError> {
        let mut cursor = self.0.after_mark(object)?;
        let at = DomainEpoch { domain: DomainId(cursor.array()?), epoch: cursor.u32()? };
        Ok((at, cursor.rest()))
    }

    /// Opens an object.
    ///
    /// # Errors
    /// [`FormatError`] says what is wrong with it.
    pub fn open(self, object: &[u8], place: &SealedAt<'_>, authors: &impl Authors) -> Result<Authored, FormatError> {
        let (_, envelope) = self.split(object)?;
        open_authored((object, envelope), (self.what(), self.1), place, authors)
    }

    /// Returns what messages call an object of this kind.
    pub fn what(self) -> &'static str {
        self.0.what
    }
}

/// Mark, session header, envelope: sealed under the session's secret, so that it can be read from itself, by an author.
#[derive(Debug, Clone, Copy)]
pub struct SessionForm(pub(super) Kind, Purpose);

impl SessionForm {
    /// Seals a value of a session into its object.
    pub fn seal(self, header: &SessionHeader, place: &SealedAt<'_>, signer: &Signer, value: &[u8]) -> Vec<u8> {
        let before = [self.0.mark.as_slice(), &header.to_bytes()].concat();
        seal_authored(before, self.1, place, signer, value)
    }

    /// Returns an object's session header, and the envelope.
    ///
    /// # Errors
    /// [`FormatError`] when it is not an object of this kind.
    pub fn split(self, object: &[u8]) -> Result<(SessionHeader, &[u8]), FormatError> {
        let mut cursor = self.0.after_mark(object)?;
        let header = SessionHeader::from_bytes(&cursor.array::<SESSION_HEADER_LEN>()?);
        Ok((header, cursor.rest()))
    }

    /// Opens an object.
    ///
    /// # Errors
    /// [`FormatError`] says what is wrong with it.
    pub fn open(self, object: &[u8], place: &SealedAt<'_>, authors: &impl Authors) -> Result<Authored, FormatError> {
        let (_, envelope) = self.split(object)?;
        open_authored((object, envelope), (self.what(), self.1), place, authors)
    }

    /// Returns what messages call an object of this kind.
    pub const fn what(self) -> &'static str {
        self.0.what
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
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crypto::author::AUTHOR_BLOCK_LEN;
    use crate::crypto::derive::ReaderKey;
    use crate::model::id::WriterId;

    /// A value that holds these words comes upon faulty memory in a test: a bit of it flips when it has been signed.
    pub(crate) const FLIPS: &[u8] = b"a bit of this value flips in memory";

    pub(super) fn flip_marked(value: &mut [u8]) {
        if let Some(at) = value.windows(FLIPS.len()).position(|words| words == FLIPS) {
            value[at] ^= 1;
        }
    }

    /// One author, or none, whom everybody claims to be.
    struct Only(Option<VerifyingKey>);

    impl Authors for Only {
        fn key_of(&self, _: Author) -> Option<VerifyingKey> {
            self.0
        }
    }

    #[test]
    fn an_object_opens_in_one_place_for_who_knows_its_author() {
        let (repository, root) = (RepositoryId([1; 16]), Secret::random());
        let signer = Signer::reader(&ReaderKey::random(), repository);
        let at = DomainEpoch { domain: DomainId([7; 16]), epoch: 3 };
        let place = SealedAt { repository, object: &[2; 16], root: &root };
        let object = LEASE.seal(at, &place, &signer, b"value");
        let authors = Only(Some(signer.verifying_key()));
        let opened = LEASE.open(&object, &place, &authors).expect("ours");
        assert_eq!((opened.author, opened.value()), (Author::Reader, &b"value"[..]));
        assert!(LEASE.open(&object, &SealedAt { object: &[3; 16], ..place }, &authors).is_err());
        let unknown = FormatError::UnknownAuthor { what: "a lease", author: Author::Reader };
        assert_eq!(LEASE.open(&object, &place, &Only(None)).map(drop), Err(unknown));
        // What stands before the envelope is signed too, though the envelope opens without it.
        let mut moved = object.clone();
        moved[24] ^= 1;
        let error = LEASE.open(&moved, &place, &authors).expect_err("of another epoch").to_string();
        assert_eq!(error, "a lease is not valid: a reader: the signature is not valid");
    }

    #[test]
    fn a_value_without_a_good_block_is_not_given_out() {
        let (repository, root) = (RepositoryId([1; 16]), Secret::random());
        let signer = Signer::reader(&ReaderKey::random(), repository);
        let (authors, before) =
            (Only(Some(signer.verifying_key())), [b"coffreL\x01".as_slice(), &[7; 16], &[3, 0, 0, 0]].concat());
        let subject = SignedSubject { repository, purpose: Purpose::Lease, object: &[2; 16], before: &before };
        let place = SealedAt { repository, object: &[2; 16], root: &root };
        let open = |opened: &[u8]| {
            let envelope = seal_envelope(&root, repository, Purpose::Lease, &[2; 16], opened);
            LEASE.open(&[&before[..], &envelope].concat(), &place, &authors).map_err(|error| error.to_string())
        };
        let good = [&signer.block(&subject, b"value")[..], b"value"].concat();
        assert_eq!(open(&good).expect("ours").value(), b"value");
        for at in 0..AUTHOR_BLOCK_LEN + 5 {
            let mut changed = good.clone();
            changed[at] ^= 1;
            let error = open(&changed).expect_err("changed");
            let expected = match at {
                WriterId::LEN => "it is signed in a way that this program does not know",
                _ => "the signature is not valid",
            };
            assert!(error.ends_with(expected), "byte {at}: {error}");
        }
        for length in 0..AUTHOR_BLOCK_LEN {
            assert!(open(&good[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn no_kind_is_taken_for_another() {
        let at = DomainEpoch { domain: DomainId([7; 16]), epoch: 3 };
        let object = [b"coffreL\x01".as_slice(), &[7; 16], &[3, 0, 0, 0], b"sealed"].concat();
        assert_eq!(LEASE.split(&object), Ok((at, &b"sealed"[..])));
        assert_eq!(CLEANUP.split(&object), Err(FormatError::WrongMark("a list of cleaning up")));
        assert_eq!(LEASE.split(&object[..27]), Err(FormatError::Truncated("a lease")));
        let kinds =
            [CONFIG.0, KEYRING.0, INDEX.0, LEASE.0, CLEANUP.0, SNAPSHOT.0, VERIFIED.0, RETENTION.0, EVIDENCE.0, PACK];
        assert_eq!(kinds.iter().map(|kind| kind.mark).collect::<BTreeSet<_>>().len(), kinds.len());
    }
}
