//! The envelope: one sealed value with its salt and key commitment.
//!
//! ```text
//! salt 16 | commitment 32 | ciphertext … | tag 16
//! ```
//!
//! Key and commitment come from HKDF over the root key with a fresh random salt, so a key seals one value and the nonce
//! can be zero. The plaintext is a length, the value, and zeros up to a PADMÉ size, so the sealed size tells little.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::crypto::derive::derive_into;
use crate::crypto::secret::Secret;
use crate::crypto::{CryptoError, random};
use crate::model::id::RepositoryId;

/// Length of an authentication tag.
pub const TAG_LEN: usize = 16;
/// Length of a key commitment.
pub const COMMITMENT_LEN: usize = 32;
/// What an envelope adds to the padded value.
pub const ENVELOPE_OVERHEAD: usize = 16 + COMMITMENT_LEN + TAG_LEN;

/// What a sealed value is; part of the derivation and of the associated data, so one cannot stand in for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// An index segment.
    Index = b'I',
    /// A session's lease.
    Lease = b'L',
    /// A snapshot's manifest.
    Snapshot = b'S',
    /// The secret half of a domain's key, under the reader's wrapping key.
    DomainKey = b'X',
    /// A domain's name and dedup secret, under the wrapping key of the readers or of one writer.
    DomainDedup = b'W',
    /// What readers alone may know of a writer or a key slot, under the reader's wrapping key.
    Name = b'N',
    /// A list of packs that are to be deleted.
    Cleanup = b'D',
    /// A record of a verification.
    Verified = b'V',
    /// A record of retention.
    Retention = b'R',
    /// A record of a run.
    Evidence = b'E',
}

/// An AES-256-GCM key with the commitment that stands beside what it seals.
pub(crate) struct CommittedKey {
    key: LessSafeKey,
    commitment: [u8; COMMITMENT_LEN],
}

impl CommittedKey {
    /// Derives key and commitment from `root`: 64 bytes of HKDF output, the key first.
    pub(crate) fn derive(root: &Secret, salt: &[u8; 16], label: &str) -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        derive_into(root, salt, label, &mut *bytes);
        let key = UnboundKey::new(&AES_256_GCM, &bytes[..32]).expect("a key of 32 bytes");
        Self { key: LessSafeKey::new(key), commitment: bytes[32..].try_into().expect("32 bytes") }
    }

    pub(crate) fn commitment(&self) -> &[u8; COMMITMENT_LEN] {
        &self.commitment
    }

    /// Compares a stored commitment with this key's, in constant time.
    pub(crate) fn check(&self, stored: &[u8]) -> Result<(), CryptoError> {
        verify_slices_are_equal(&self.commitment, stored).map_err(|_| CryptoError::OtherKey)
    }

    /// Seals `data` in place and returns the tag. `counter` must never repeat under one key.
    pub(crate) fn seal(&self, counter: u32, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(counter), Aad::from(aad), data)
            .expect("shorter than the AEAD's limit of 64 GiB");
        tag.as_ref().try_into().expect("tags are 16 bytes")
    }

    /// Opens `data` (ciphertext and tag) in place and returns the plaintext's part of it.
    pub(crate) fn open<'a>(&self, counter: u32, aad: &[u8], data: &'a mut [u8]) -> Result<&'a mut [u8], CryptoError> {
        if data.len() < TAG_LEN {
            return Err(CryptoError::Malformed);
        }
        self.key.open_in_place(nonce(counter), Aad::from(aad), data).map_err(|_| CryptoError::Forged)
    }

    /// Opens `sealed` (ciphertext and tag) into `out`, which holds the plaintext alone afterwards.
    pub(crate) fn open_into(
        &self,
        counter: u32,
        aad: &[u8],
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(CryptoError::Malformed)?;
        out.resize(ciphertext.len(), 0);
        self.key
            .open_separate_gather(nonce(counter), Aad::from(aad), ciphertext, tag, out)
            .map_err(|_| CryptoError::Forged)
    }
}

/// The nonce for the `counter`th use of a key: eight zero bytes and the counter, big-endian.
fn nonce(counter: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Returns the size to which `len` is padded by PADMÉ: at most 12 % more, and it tells only O(log log n) bits.
///
/// Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PoPETs 2019, §4.
pub fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let mantissa_bits = if exponent == 0 { 1 } else { exponent.ilog2() + 1 };
    let low_bits = exponent.saturating_sub(mantissa_bits);
    let mask = (1u64 << low_bits) - 1;
    (len + mask) & !mask
}

/// A value in its envelope: bytes that may leave this machine. Only [`seal_envelope`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Returns its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl std::ops::Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Seals `value` for `purpose` under a key derived from `root` and a fresh salt.
///
/// `object` names the place of the value (an id of 16 bytes); opening under another name fails.
pub fn seal_envelope(
    root: &Secret,
    repository: RepositoryId,
    purpose: Purpose,
    object: &[u8; 16],
    value: &[u8],
) -> Sealed {
    let salt = random::<16>();
    let key = CommittedKey::derive(root, &salt, &label(purpose));
    let padded = usize::try_from(padme(value.len() as u64 + 4)).expect("a value fits memory");
    let mut out = Vec::with_capacity(padded + ENVELOPE_OVERHEAD);
    out.extend_from_slice(&salt);
    out.extend_from_slice(key.commitment());
    let start = out.len();
    out.extend_from_slice(&u32::try_from(value.len()).expect("values are below 4 GiB").to_le_bytes());
    out.extend_from_slice(value);
    out.resize(start + padded, 0);
    let tag = key.seal(0, &associated_data(repository, purpose, object), &mut out[start..]);
    out.extend_from_slice(&tag);
    Sealed(out)
}

/// Opens what [`seal_envelope`] made.
///
/// # Errors
/// [`CryptoError::OtherKey`] when it was sealed under another root, [`CryptoError::Forged`] when it was changed or stands
/// under another name, [`CryptoError::Malformed`] when it is too short to be an envelope.
pub fn open_envelope(
    root: &Secret,
    repository: RepositoryId,
    purpose: Purpose,
    object: &[u8; 16],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let (salt, rest) = sealed.split_first_chunk::<16>().ok_or(CryptoError::Malformed)?;
    let (commitment, body) = rest.split_first_chunk::<COMMITMENT_LEN>().ok_or(CryptoError::Malformed)?;
    let key = CommittedKey::derive(root, salt, &label(purpose));
    key.check(commitment)?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain = key.open(0, &associated_data(repository, purpose, object), &mut body)?;
    let (len, content) = plain.split_first_chunk::<4>().ok_or(CryptoError::Malformed)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > content.len() {
        return Err(CryptoError::Malformed);
    }
    body.drain(..4);
    body.truncate(len);
    Ok(body)
}

fn label(purpose: Purpose) -> String {
    format!("envelope {}", char::from(purpose as u8))
}

fn associated_data(repository: RepositoryId, purpose: Purpose, object: &[u8; 16]) -> [u8; 33] {
    let mut aad = [0; 33];
    aad[..16].copy_from_slice(&repository.0);
    aad[16..32].copy_from_slice(object);
    aad[32] = purpose as u8;
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId([5; 16]);

    fn root(byte: u8) -> Secret {
        Secret::take(&mut [byte; 32])
    }

    #[test]
    fn an_envelope_opens_only_in_its_place() {
        let sealed = seal_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], b"value");
        let open = |root: &Secret, repository, purpose, object: &[u8; 16], sealed: &[u8]| {
            open_envelope(root, repository, purpose, object, sealed).map(|value| value.to_vec())
        };
        assert_eq!(open(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], &sealed), Ok(b"value".to_vec()));
        assert_eq!(open(&root(9), REPOSITORY, Purpose::Lease, &[2; 16], &sealed), Err(CryptoError::OtherKey));
        assert_eq!(open(&root(1), REPOSITORY, Purpose::Index, &[2; 16], &sealed), Err(CryptoError::OtherKey));
        assert_eq!(open(&root(1), REPOSITORY, Purpose::Lease, &[3; 16], &sealed), Err(CryptoError::Forged));
        let elsewhere = RepositoryId([6; 16]);
        assert_eq!(open(&root(1), elsewhere, Purpose::Lease, &[2; 16], &sealed), Err(CryptoError::Forged));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealed = seal_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], b"value");
        for position in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[position] ^= 1;
            assert!(open_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], &changed).is_err());
            let cut = &sealed[..position];
            assert!(open_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], cut).is_err());
        }
    }

    #[test]
    fn a_sealed_value_is_as_long_as_padme_says_of_it_and_its_length() {
        for len in [0usize, 1, 5, 6, 96, 997, 1020, 1021, 9_996, 70_000] {
            let sealed = seal_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], &vec![7; len]);
            assert_eq!(sealed.len() as u64, padme(len as u64 + 4) + 64, "{len}: a salt, a commitment and a tag are 64");
            let opened = open_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], &sealed).expect("opens");
            assert_eq!(*opened, vec![7; len]);
        }
    }

    /// Whoever has the key can seal what this program would not.
    #[test]
    fn a_value_may_fill_what_was_sealed_and_not_be_longer() {
        let sealed = |body: &[u8]| {
            let key = CommittedKey::derive(&root(1), &[9; 16], &label(Purpose::Lease));
            let mut body = body.to_vec();
            let tag = key.seal(0, &associated_data(REPOSITORY, Purpose::Lease, &[2; 16]), &mut body);
            [&[9; 16][..], key.commitment(), &body, &tag].concat()
        };
        let open = |bytes: &[u8]| open_envelope(&root(1), REPOSITORY, Purpose::Lease, &[2; 16], bytes);
        assert_eq!(*open(&sealed(&[3, 0, 0, 0, 1, 2, 3])).expect("exactly as long"), [1, 2, 3]);
        assert_eq!(open(&sealed(&[4, 0, 0, 0, 1, 2, 3])).err(), Some(CryptoError::Malformed));
        assert_eq!(open(&sealed(&[0, 0, 0])).err(), Some(CryptoError::Malformed));
    }

    #[test]
    fn padme_matches_the_paper() {
        for (len, padded) in
            [(0, 0), (1, 1), (8, 8), (9, 10), (100, 104), (1000, 1024), (10_000, 10_240), (1 << 25, 1 << 25)]
        {
            assert_eq!(padme(len), padded, "{len}");
        }
        for len in [9u64, 99, 12_345, 999_999, 123_456_789] {
            assert!(padme(len) >= len && padme(len) * 100 <= len * 112, "{len}");
        }
    }

    /// The crate `aes-gcm` seals the same bytes: whoever writes another reader may use any AES-256-GCM.
    #[test]
    fn sealing_is_plain_aes_256_gcm() {
        use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
        let root = root(7);
        let key = CommittedKey::derive(&root, &[8; 16], "test");
        let mut ours = b"some plaintext".to_vec();
        let our_tag = key.seal(3, b"aad", &mut ours);

        let mut raw = [0; 64];
        derive_into(&root, &[8; 16], "test", &mut raw);
        let cipher = Aes256Gcm::new_from_slice(&raw[..32]).expect("32 bytes");
        let mut theirs = b"some plaintext".to_vec();
        let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3].into();
        let tag = cipher.encrypt_inout_detached(&nonce, b"aad", theirs.as_mut_slice().into()).expect("short");
        assert_eq!((ours, our_tag.as_slice()), (theirs, tag.as_slice()));
    }
}
