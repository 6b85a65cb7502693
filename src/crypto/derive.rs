//! Derivation: every key but the root secrets and session secrets comes from HKDF-SHA256 with a label of its own.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::crypto::secret::Secret;
use crate::model::id::{DomainEpoch, RepositoryId, hex};

/// Fills `out` with HKDF-SHA256 (RFC 5869) of `key` with `salt`; `label` is prefixed with `coffre/1 ` as the info.
pub(crate) fn derive_into(key: &Secret, salt: &[u8], label: &str, out: &mut [u8]) {
    let info = [b"coffre/1 ", label.as_bytes()].concat();
    Hkdf::<Sha256>::new(Some(salt), key.expose()).expand(&info, out).expect("at most 255 hashes are asked for");
}

/// Derives a key of 32 bytes.
pub(crate) fn derive(key: &Secret, salt: &[u8], label: &str) -> Secret {
    let mut bytes = [0; 32];
    derive_into(key, salt, label, &mut bytes);
    Secret::take(&mut bytes)
}

/// Derives the key by which a host compares pieces of a domain's content with those of the night before, from the one that seals its nights.
/// Whoever has it can make two pieces that are equal by their hashes.
pub(crate) fn compare_key(nights: &Secret, at: DomainEpoch) -> Zeroizing<[u8; 16]> {
    let mut key = Zeroizing::new([0; 16]);
    derive_into(nights, &at.domain.0, "compare", &mut *key);
    key
}

/// The root secret that can do everything.
#[derive(Debug, Clone)]
pub struct ReaderKey(pub(crate) Secret);

impl ReaderKey {
    /// Makes the reader key of a new repository.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// Derives the key under which all that readers alone may know is sealed: the secret halves of domain keys, dedup secrets,
    /// names of writers.
    pub fn wrapping_key(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "reader wrap")
    }

    /// Derives the key by which a client believes what its own cache says it checked.
    pub(crate) fn verdict_key(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "verdicts")
    }

    /// Derives the key under which this host seals what one night leaves for the next in its cache.
    pub(crate) fn nights_key(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "nights")
    }

    /// Derives the seed of the key that signs keyrings and configurations.
    pub(crate) fn signing_seed(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "signing")
    }
}

/// The root secret of a host that backs up and cannot read: its own, which nobody else has and nothing else leads to.
#[derive(Debug, Clone)]
pub struct WriterKey(pub(crate) Secret);

impl WriterKey {
    /// Makes the key of a new writer.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// Derives the key under which dedup secrets are sealed for this writer.
    pub fn wrapping_key(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "writer wrap")
    }

    /// Derives the key under which this host seals what one night leaves for the next in its cache.
    pub(crate) fn nights_key(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "writer nights")
    }

    /// Derives the seed of the key that signs what this writer writes.
    pub(crate) fn signing_seed(&self, repository: RepositoryId) -> Secret {
        derive(&self.0, &repository.0, "writer signing")
    }
}

/// The secret of one domain and epoch that chunk ids, cut points and the index depend on; writers hold it.
#[derive(Debug, Clone)]
pub struct DedupSecret {
    pub(crate) secret: Secret,
    /// The domain and epoch it belongs to.
    pub at: DomainEpoch,
}

impl DedupSecret {
    /// Makes the secret of a new domain or epoch.
    pub fn random(at: DomainEpoch) -> Self {
        Self { secret: Secret::random(), at }
    }

    /// Derives the key of chunk ids.
    pub(crate) fn chunk_id_key(&self) -> Secret {
        derive(&self.secret, &self.at.domain.0, "chunk id")
    }

    /// Derives the key by which it is drawn where pieces and windows of content end: all who write draw alike.
    pub(crate) fn piece_key(&self) -> Zeroizing<[u8; 16]> {
        let mut key = Zeroizing::new([0; 16]);
        derive_into(&self.secret, &self.at.domain.0, "piece", &mut *key);
        key
    }

    /// Derives the key that seals index segments and leases.
    pub fn index_key(&self) -> Secret {
        derive(&self.secret, &self.at.domain.0, "index")
    }

    /// Derives the key that the HPKE exchange of every session takes besides the domain's key pair.
    pub(crate) fn session_psk(&self) -> Secret {
        derive(&self.secret, &self.at.domain.0, "session psk")
    }

    /// Derives the key that plain dumps of PostgreSQL are protected with (`pg_dump --restrict-key`), as letters and digits:
    /// always the same, so that dumps of the same data are, and unknown to whoever could write into the database.
    pub fn restrict_key(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 24]);
        derive_into(&self.secret, &self.at.domain.0, "restrict key", &mut *bytes);
        Zeroizing::new(hex(&*bytes))
    }

    /// Derives the chunker's gear table: 256 numbers, little-endian.
    pub fn gear_table(&self) -> Box<Zeroizing<[u64; 256]>> {
        let mut bytes = Zeroizing::new([0; 2048]);
        derive_into(&self.secret, &self.at.domain.0, "gear table", &mut *bytes);
        let mut table = Box::new(Zeroizing::new([0; 256]));
        for (entry, word) in table.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = u64::from_le_bytes(word.try_into().expect("8 bytes"));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::DomainId;

    /// RFC 5869, test case 1 has another key length; this pins our labels instead: changing one changes the format.
    #[test]
    fn labels_are_part_of_the_format() {
        let key = Secret::take(&mut [1; 32]);
        let mut out = [0; 4];
        derive_into(&key, &[2; 16], "writer wrap", &mut out);
        let expected = {
            let mut bytes = [0; 4];
            Hkdf::<Sha256>::new(Some(&[2; 16]), &[1; 32]).expand(b"coffre/1 writer wrap", &mut bytes).expect("short");
            bytes
        };
        assert_eq!(out, expected);
    }

    /// By HKDF alone: dumps of one database must be the same in every version of this program.
    #[test]
    fn the_restrict_key_is_part_of_the_format() {
        let at = DomainEpoch { domain: DomainId([2; 16]), epoch: 1 };
        let secret = DedupSecret { secret: Secret::take(&mut [1; 32]), at };
        let mut bytes = [0; 24];
        Hkdf::<Sha256>::new(Some(&[2; 16]), &[1; 32]).expand(b"coffre/1 restrict key", &mut bytes).expect("short");
        assert_eq!(*secret.restrict_key(), hex(&bytes));
    }
}
