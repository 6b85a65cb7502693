//! A session: one writing run, in one domain and epoch from its beginning to its end.
//!
//! Whatever a run names, cuts or seals, it does with the keys that its session took when it began. Nothing else knows which
//! domain is written to, so chunks cannot be named under one and sealed to another.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::chunker::Chunker;
use crate::crypto::CryptoError;
use crate::crypto::author::Signer;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::derive::{DedupSecret, compare_key};
use crate::crypto::session::{DomainPublicKey, SessionHeader, SessionSecret, new_session};
use crate::format::cleanup::{decode_cleanup, encode_cleanup};
use crate::format::config::ChunkerProfile;
use crate::format::evidence::{decode_run, encode_run};
use crate::format::index::IndexSegment;
use crate::format::lease::Lease;
use crate::format::object::{CLEANUP, DomainForm, EVIDENCE, INDEX, LEASE, SNAPSHOT, SealedAt};
use crate::format::pack::PackKind;
use crate::format::snapshot::{decode_snapshot, encode_snapshot};
use crate::model::author::Author;
use crate::model::cleanup::{CleanupId, CleanupList};
use crate::model::id::{DomainEpoch, SegmentId, SessionId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::{RunId, RunRecord};
use crate::model::snapshot::Snapshot;
use crate::repository::Repository;
use crate::repository::access::Writing;
use crate::repository::objects::UploadedPack;
use crate::repository::packer::PackBuilder;
use crate::repository::recheck::{Altered, check_sealed};
use crate::windows::pieces::{PieceCutter, PieceHasher, PieceRule};

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The keyring has no domain of that name.
    #[error("there is no domain {0:?}")]
    NoDomain(String),
    /// The domain's public key is not valid.
    #[error("the session cannot be sealed")]
    Seal(#[from] CryptoError),
}

impl Ended for SessionError {
    fn outcome(&self) -> Outcome {
        match self {
            SessionError::NoDomain(_) => Outcome::Missing,
            SessionError::Seal(error) => error.outcome(),
        }
    }
}

/// A session: its secret, the header from which the domain's reader recovers it, and what all writers of the domain share.
pub struct Session {
    repository: Arc<Repository>,
    secret: SessionSecret,
    header: Arc<SessionHeader>,
    dedup: DedupSecret,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?})", self.header)
    }
}

impl Writing {
    /// Begins a session in the newest epoch of the domain called `domain`. Nothing is stored by that.
    ///
    /// # Errors
    /// [`SessionError`] when there is no such domain, or its key is not valid.
    pub fn begin_session(&self, domain: &str) -> Result<Arc<Session>, SessionError> {
        let repository = self.repository();
        let newest = repository.keys().newest_epoch(domain);
        let (dedup, public_key) = newest.ok_or_else(|| SessionError::NoDomain(domain.to_owned()))?;
        Session::new(repository, dedup, public_key)
    }

    /// Begins a session in an epoch that need not be the newest, for telling of what is stored there.
    ///
    /// # Errors
    /// [`SessionError`] when the keyring does not have it, or its key is not valid.
    pub(super) fn begin_session_at(&self, at: DomainEpoch) -> Result<Arc<Session>, SessionError> {
        let repository = self.repository();
        let epoch = repository.keys().epoch(at);
        let (dedup, public_key) = epoch.ok_or_else(|| SessionError::NoDomain(at.to_string()))?;
        Session::new(repository, dedup, public_key)
    }
}

impl Session {
    fn new(
        repository: &Arc<Repository>,
        dedup: &DedupSecret,
        public_key: &DomainPublicKey,
    ) -> Result<Arc<Self>, SessionError> {
        let (secret, header) = new_session(repository.id(), dedup, public_key)?;
        let (repository, dedup) = (repository.clone(), dedup.clone());
        Ok(Arc::new(Self { repository, secret, header: header.into(), dedup }))
    }

    /// Returns the session's id.
    pub fn id(&self) -> SessionId {
        self.header.session
    }

    /// Returns the repository that it writes to.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Returns the domain and epoch that it writes to.
    pub fn at(&self) -> DomainEpoch {
        self.header.at
    }

    /// Returns what names chunks.
    pub(super) fn hasher(&self) -> ChunkHasher {
        ChunkHasher::new(&self.dedup)
    }

    /// Returns what cuts content.
    pub(super) fn chunker(&self, profile: ChunkerProfile) -> Chunker {
        Chunker::new(profile, &self.dedup.gear_table())
    }

    /// Returns what cuts content into the pieces of windows.
    pub(super) fn piece_cutter(&self, rule: PieceRule) -> PieceCutter {
        let compared = compare_key(&self.repository.keys().nights_key(), self.at());
        PieceCutter::new(rule, PieceHasher { ends: self.dedup.piece_key(), compared }, &self.dedup.gear_table())
    }

    /// Returns a secret that is the same in every session of the domain's epoch, as letters and digits, for programs that
    /// need one to give the same dump of the same data.
    pub fn stable_secret(&self) -> Zeroizing<String> {
        self.dedup.restrict_key()
    }

    /// Starts a pack of this session. `capacity` is reserved for its bytes.
    pub fn new_pack(&self, kind: PackKind, capacity: usize) -> PackBuilder {
        PackBuilder::new(&self.secret, self.header.clone(), self.repository.id(), kind, capacity)
    }

    /// Returns the secret from which keys of its packs come.
    pub(super) fn secret(&self) -> &SessionSecret {
        &self.secret
    }

    /// Returns who writes.
    pub fn author(&self) -> Author {
        self.signer().author()
    }

    /// Seals a snapshot of this session into its object.
    pub fn seal_snapshot(&self, snapshot: &Snapshot) -> Vec<u8> {
        let (object, value) = (snapshot.id.to_bytes(), encode_snapshot(snapshot));
        let place = SealedAt { repository: self.repository.id(), object: &object, root: &self.secret.0 };
        SNAPSHOT.seal(&self.header, &place, self.signer(), &value)
    }

    /// Seals an index segment of packs that are stored into its object.
    pub fn seal_segment(&self, id: SegmentId, packs: &[UploadedPack]) -> Vec<u8> {
        let segment = IndexSegment::of(self.author(), packs.iter().map(|pack| pack.entry().clone()).collect());
        self.seal_for_writers(INDEX, &id.0, &segment.encode())
    }

    /// Seals an index segment that repeats what others tell into its object, and opens it again.
    pub(super) fn seal_repeated(&self, id: SegmentId, segment: &IndexSegment) -> Result<Vec<u8>, Altered> {
        let object = self.seal_for_writers(INDEX, &id.0, &segment.encode());
        check_sealed(|| {
            let opened = self.repository.keys().open_for_writers(INDEX, &id.0, &object)?;
            Ok(opened.author == self.author() && IndexSegment::decode(opened.author, opened.value())? == *segment)
        })?;
        Ok(object)
    }

    /// Seals this session's lease into its object.
    pub(super) fn seal_lease(&self, lease: &Lease) -> Vec<u8> {
        self.seal_for_writers(LEASE, &self.id().0, &lease.encode())
    }

    /// Seals a list of this session, a clean-up, into its object.
    pub fn seal_cleanup(&self, id: CleanupId, list: &CleanupList) -> Vec<u8> {
        self.seal_for_writers(CLEANUP, &id.to_bytes(), &encode_cleanup(list))
    }

    /// Seals the record of a run into its object, like a snapshot.
    pub fn seal_run(&self, id: RunId, record: &RunRecord) -> Vec<u8> {
        let place = SealedAt { repository: self.repository.id(), object: &id.to_bytes(), root: &self.secret.0 };
        EVIDENCE.seal(&self.header, &place, self.signer(), &encode_run(record))
    }

    /// Checks that the object of a record gives back the record.
    pub(super) fn check_run(&self, id: RunId, record: &RunRecord, object: &[u8]) -> Result<(), Altered> {
        let place = SealedAt { repository: self.repository.id(), object: &id.to_bytes(), root: &self.secret.0 };
        check_sealed(|| {
            let opened = EVIDENCE.open(object, &place, self.repository.keys())?;
            Ok(opened.author == self.author() && decode_run(id, opened.value())? == *record)
        })
    }

    /// Checks that the object of a snapshot gives back the snapshot.
    pub(super) fn check_snapshot(&self, snapshot: &Snapshot, object: &[u8]) -> Result<(), Altered> {
        let name = snapshot.id.to_bytes();
        let place = SealedAt { repository: self.repository.id(), object: &name, root: &self.secret.0 };
        check_sealed(|| {
            let (header, _) = SNAPSHOT.split(object)?;
            let opened = SNAPSHOT.open(object, &place, self.repository.keys())?;
            let again = decode_snapshot(snapshot.id, &header, opened.author, opened.value())?;
            Ok(header == *self.header && again == Snapshot { digest: None, ..snapshot.clone() })
        })
    }

    /// Checks that the object of an index segment gives back what it should say of `packs`.
    pub(super) fn check_segment(&self, id: SegmentId, packs: &[UploadedPack], object: &[u8]) -> Result<(), Altered> {
        check_sealed(|| {
            let opened = self.repository.keys().open_for_writers(INDEX, &id.0, object)?;
            let again = IndexSegment::decode(opened.author, opened.value())?;
            Ok(opened.author == self.author() && again.packs().iter().eq(packs.iter().map(UploadedPack::entry)))
        })
    }

    /// Checks that the object of a list gives back the list.
    pub(super) fn check_cleanup(&self, id: CleanupId, list: &CleanupList, object: &[u8]) -> Result<(), Altered> {
        check_sealed(|| {
            let opened = self.repository.keys().open_for_writers(CLEANUP, &id.to_bytes(), object)?;
            Ok(opened.author == self.author() && decode_cleanup(opened.value())? == *list)
        })
    }

    /// Checks that the object of this session's lease gives back the lease.
    pub(super) fn check_lease(&self, lease: &Lease, object: &[u8]) -> Result<(), Altered> {
        check_sealed(|| {
            let opened = self.repository.keys().open_for_writers(LEASE, &self.id().0, object)?;
            // Times are kept in whole seconds.
            Ok(opened.author == self.author() && Lease::decode(opened.value())?.encode() == lease.encode())
        })
    }

    /// Seals a value that every writer of the domain must be able to read.
    fn seal_for_writers(&self, form: DomainForm, object: &[u8; 16], value: &[u8]) -> Vec<u8> {
        let place = SealedAt { repository: self.repository.id(), object, root: &self.dedup.index_key() };
        form.seal(self.at(), &place, self.signer(), value)
    }

    /// Seals any bytes as a value, as no program does.
    #[cfg(feature = "internals")]
    pub fn seal_forged(&self, form: DomainForm, object: &[u8; 16], value: &[u8]) -> Vec<u8> {
        self.seal_for_writers(form, object, value)
    }

    /// Seals any bytes as the value of a record of a run, as no program does.
    #[cfg(feature = "internals")]
    pub fn seal_forged_run(&self, id: RunId, value: &[u8]) -> Vec<u8> {
        let place = SealedAt { repository: self.repository.id(), object: &id.to_bytes(), root: &self.secret.0 };
        EVIDENCE.seal(&self.header, &place, self.signer(), value)
    }

    fn signer(&self) -> &Signer {
        self.repository.keys().signer().expect("a session is begun by who may write, and signs")
    }
}
