//! Session secrets: made by each writing run, sealed to the domain's public key, unreadable for the writer afterwards.
//!
//! HPKE (RFC 9180) with X-Wing (ML-KEM-768 + X25519, draft-ietf-hpke-pq), HKDF-SHA256 and AES-256-GCM. What is harvested
//! today stays closed when X25519 falls.
//!
//! It is in PSK mode, with a key from the domain's dedup secret: the public key stands in the keyring in the clear, and whoever
//! has no more than that can make no session that opens.

use hpke::{Deserializable, OpModeR, OpModeS, PskBundle, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::XWing};

use crate::crypto::CryptoError;
use crate::crypto::derive::DedupSecret;
use crate::crypto::secret::Secret;
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, SessionId};

/// Length of an X-Wing public key.
pub const PUBLIC_KEY_LEN: usize = 1216;
/// Length of an X-Wing encapsulation.
pub const ENCAPSULATION_LEN: usize = 1120;
/// Length of a session secret sealed by HPKE.
pub const SEALED_SECRET_LEN: usize = 48;
/// Length of a session header.
pub const SESSION_HEADER_LEN: usize = 16 + 16 + 4 + ENCAPSULATION_LEN + SEALED_SECRET_LEN;

type Kem = XWing;

/// The public half of a domain's key; enough to write.
#[derive(Clone, PartialEq, Eq)]
pub struct DomainPublicKey(Box<[u8; PUBLIC_KEY_LEN]>);

impl std::fmt::Debug for DomainPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DomainPublicKey({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl DomainPublicKey {
    /// Takes a public key from its bytes, or `None` when their number is wrong.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(Box::new(bytes.try_into().ok()?)))
    }

    /// Returns the key's bytes.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_KEY_LEN] {
        &self.0
    }
}

/// The secret half of a domain's key: the X-Wing seed; needed to read.
#[derive(Debug, Clone)]
pub struct DomainSecretKey(pub(crate) Secret);

/// Makes a domain's key pair.
pub fn new_domain_key() -> (DomainSecretKey, DomainPublicKey) {
    let secret = Secret::random();
    let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(secret.expose()).expect("any 32 bytes are a seed");
    let public = <Kem as hpke::Kem>::sk_to_pk(&private).to_bytes();
    (DomainSecretKey(secret), DomainPublicKey::from_slice(&public).expect("X-Wing's length"))
}

/// A session's id, domain and sealed secret, as packs, index segments and snapshots repeat it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionHeader {
    /// The session.
    pub session: SessionId,
    /// The domain and epoch whose key opens it.
    pub at: DomainEpoch,
    encapsulation: Box<[u8; ENCAPSULATION_LEN]>,
    sealed: [u8; SEALED_SECRET_LEN],
}

impl std::fmt::Debug for SessionHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionHeader({}, {}, epoch {})", self.session.short(), self.at.domain.short(), self.at.epoch)
    }
}

impl SessionHeader {
    /// Returns the header's bytes.
    pub fn to_bytes(&self) -> [u8; SESSION_HEADER_LEN] {
        let mut bytes = [0; SESSION_HEADER_LEN];
        bytes[..16].copy_from_slice(&self.session.0);
        bytes[16..32].copy_from_slice(&self.at.domain.0);
        bytes[32..36].copy_from_slice(&self.at.epoch.to_le_bytes());
        bytes[36..36 + ENCAPSULATION_LEN].copy_from_slice(&*self.encapsulation);
        bytes[36 + ENCAPSULATION_LEN..].copy_from_slice(&self.sealed);
        bytes
    }

    /// Reads a header; any bytes of the right length are one, [`SessionHeader::open`] finds out whether it is true.
    pub fn from_bytes(bytes: &[u8; SESSION_HEADER_LEN]) -> Self {
        Self {
            session: SessionId(bytes[..16].try_into().expect("16 bytes")),
            at: DomainEpoch {
                domain: DomainId(bytes[16..32].try_into().expect("16 bytes")),
                epoch: u32::from_le_bytes(bytes[32..36].try_into().expect("4 bytes")),
            },
            encapsulation: Box::new(bytes[36..36 + ENCAPSULATION_LEN].try_into().expect("1120 bytes")),
            sealed: bytes[36 + ENCAPSULATION_LEN..].try_into().expect("48 bytes"),
        }
    }

    /// Recovers the session's secret with the domain's secret key and its dedup secret.
    ///
    /// # Errors
    /// [`CryptoError::Forged`] when the header was changed, belongs to another domain or repository, or was made by somebody
    /// without the dedup secret.
    pub fn open(
        &self,
        repository: RepositoryId,
        key: &DomainSecretKey,
        dedup: &DedupSecret,
    ) -> Result<SessionSecret, CryptoError> {
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(key.0.expose()).map_err(|_| CryptoError::BadKey)?;
        let encapsulated =
            <Kem as hpke::Kem>::EncappedKey::from_bytes(&*self.encapsulation).map_err(|_| CryptoError::Malformed)?;
        let info = info(repository, self.at, self.session);
        let (psk, psk_id) = (dedup.session_psk(), psk_id(self.at));
        let mode = OpModeR::Psk(PskBundle::new(psk.expose(), &psk_id).expect("neither is empty"));
        let mut context = hpke::setup_receiver::<AesGcm256, HkdfSha256, Kem>(&mode, &private, &encapsulated, &info)
            .map_err(|_| CryptoError::Forged)?;
        let plain = zeroize::Zeroizing::new(context.open(&self.sealed, b"").map_err(|_| CryptoError::Forged)?);
        Ok(SessionSecret(Secret::from_slice(&plain).ok_or(CryptoError::Malformed)?))
    }
}

/// The secret from which a session's pack and snapshot keys come.
#[derive(Debug, Clone)]
pub struct SessionSecret(pub(crate) Secret);

/// Makes a fresh session in the domain and epoch of `dedup`: its secret, and the header that lets the domain's reader recover it.
///
/// # Errors
/// [`CryptoError::BadKey`] when the public key is not one.
pub fn new_session(
    repository: RepositoryId,
    dedup: &DedupSecret,
    public: &DomainPublicKey,
) -> Result<(SessionSecret, SessionHeader), CryptoError> {
    let session = SessionId(crate::crypto::random());
    let secret = Secret::random();
    let public = <Kem as hpke::Kem>::PublicKey::from_bytes(&*public.0).map_err(|_| CryptoError::BadKey)?;
    let at = dedup.at;
    let (info, psk, psk_id) = (info(repository, at, session), dedup.session_psk(), psk_id(at));
    let mode = OpModeS::Psk(PskBundle::new(psk.expose(), &psk_id).expect("neither is empty"));
    let (encapsulated, mut context) =
        hpke::setup_sender::<AesGcm256, HkdfSha256, Kem>(&mode, &public, &info).map_err(|_| CryptoError::BadKey)?;
    let sealed = context.seal(secret.expose(), b"").map_err(|_| CryptoError::BadKey)?;
    let header = SessionHeader {
        session,
        at,
        encapsulation: Box::new(encapsulated.to_bytes().as_slice().try_into().expect("X-Wing's length")),
        sealed: sealed.try_into().expect("32 bytes and a tag"),
    };
    Ok((SessionSecret(secret), header))
}

fn info(repository: RepositoryId, at: DomainEpoch, session: SessionId) -> Vec<u8> {
    [b"coffre/1 session".as_slice(), &repository.0, &at.domain.0, &at.epoch.to_le_bytes(), &session.0].concat()
}

fn psk_id(at: DomainEpoch) -> Vec<u8> {
    [&at.domain.0[..], &at.epoch.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
    const AT: DomainEpoch = DomainEpoch { domain: DomainId([2; 16]), epoch: 1 };

    #[test]
    fn only_the_domain_key_recovers_a_session_secret() {
        let (private, public) = new_domain_key();
        let dedup = DedupSecret::random(AT);
        let (secret, header) = new_session(REPOSITORY, &dedup, &public).expect("a good key");
        let again = SessionHeader::from_bytes(&header.to_bytes());
        assert_eq!(again, header);
        assert_eq!(again.open(REPOSITORY, &private, &dedup).expect("ours").0.expose(), secret.0.expose());
        let (other, _) = new_domain_key();
        assert!(header.open(REPOSITORY, &other, &dedup).is_err());
        assert!(header.open(RepositoryId([9; 16]), &private, &dedup).is_err());
        let moved = SessionHeader { at: DomainEpoch { domain: DomainId([3; 16]), epoch: 1 }, ..header };
        assert!(moved.open(REPOSITORY, &private, &dedup).is_err());
    }

    /// The public key stands in the keyring in the clear: it alone, with HPKE of any mode, makes nothing that opens.
    #[test]
    fn nobody_without_the_dedup_secret_makes_a_session() {
        let (private, public) = new_domain_key();
        let dedup = DedupSecret::random(AT);
        let key = <Kem as hpke::Kem>::PublicKey::from_bytes(public.as_bytes()).expect("a key");
        let guessed = (DedupSecret::random(AT).session_psk(), psk_id(AT));
        let modes = [
            OpModeS::Base,
            OpModeS::Psk(PskBundle::new(b"", b"").expect("both are empty")),
            OpModeS::Psk(PskBundle::new(guessed.0.expose(), &guessed.1).expect("neither is empty")),
        ];
        for mode in modes {
            let (encapsulated, mut context) = hpke::setup_sender::<AesGcm256, HkdfSha256, Kem>(
                &mode,
                &key,
                &info(REPOSITORY, AT, SessionId([7; 16])),
            )
            .expect("a good key");
            let sealed = context.seal(&[5; 32], b"").expect("sealed");
            let forged = SessionHeader {
                session: SessionId([7; 16]),
                at: AT,
                encapsulation: Box::new(encapsulated.to_bytes().as_slice().try_into().expect("X-Wing's length")),
                sealed: sealed.try_into().expect("32 bytes and a tag"),
            };
            assert_eq!(forged.open(REPOSITORY, &private, &dedup).map(drop), Err(CryptoError::Forged));
        }
    }
}
