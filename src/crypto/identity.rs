//! Identities of age and SSH: private keys that open key slots, and the public keys, called recipients, for which slots are made.
//!
//! Anybody can make a slot for a public key, so one that an identity opens says nothing about where it leads; who opens it must know
//! that already. And none of these keys is safe from quantum computers: whoever keeps a copy of a slot opens it with one.

use std::io::Read;
use std::sync::Arc;

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use crate::crypto::CryptoError;
use crate::crypto::secret::Passphrase;

/// The most stanzas that a slot for recipients may have: each costs a public-key operation for each identity.
pub(crate) const STANZAS_MAX: usize = 16;
/// What trying a stanza of RSA costs beside scrypt, in units of its N: some 15 ms with 4096 bits.
const RSA_WORK: u64 = 1 << 13;
/// What trying another stanza costs in the same units: less than 0.1 ms.
const CURVE_WORK: u64 = 1 << 6;
/// log2 of the most scrypt work for a protected identity, which is the user's own: 4 GiB, more than `age` itself makes.
const PROTECTED_LOG_N: u8 = 22;
/// The largest identity file, in bytes.
const MAX_IDENTITY_LEN: u64 = 1 << 20;

/// A kind of public key that a slot can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientKind {
    /// age's own keys.
    X25519,
    /// SSH keys of Ed25519, turned into X25519.
    SshEd25519,
    /// SSH keys of RSA, with OAEP.
    SshRsa,
}

impl RecipientKind {
    const ALL: [Self; 3] = [Self::X25519, Self::SshEd25519, Self::SshRsa];

    /// Returns what stands in an age header.
    fn stanza(self) -> &'static str {
        match self {
            RecipientKind::X25519 => "X25519",
            RecipientKind::SshEd25519 => "ssh-ed25519",
            RecipientKind::SshRsa => "ssh-rsa",
        }
    }

    /// Returns what people call the key that opens such a slot.
    pub fn name(self) -> &'static str {
        match self {
            RecipientKind::X25519 => "age identity",
            RecipientKind::SshEd25519 | RecipientKind::SshRsa => "SSH key",
        }
    }

    fn work(self) -> u64 {
        match self {
            RecipientKind::SshRsa => RSA_WORK,
            RecipientKind::X25519 | RecipientKind::SshEd25519 => CURVE_WORK,
        }
    }
}

/// What the header of a slot for public keys tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipientHeader {
    /// The kind of the first key that it was made for.
    pub kind: RecipientKind,
    /// What trying one private key on it costs, in units of scrypt's N; [`u64::MAX`] where it has more stanzas than a slot may have.
    pub work: u64,
}

impl RecipientHeader {
    /// Reads the header of an age file; none where a passphrase opens it, or nothing that we have.
    pub fn of(file: &[u8]) -> Option<Self> {
        let mut lines = file.split(|&byte| byte == b'\n');
        if lines.next() != Some(b"age-encryption.org/v1") {
            return None;
        }
        let (mut first, mut work, mut stanzas) = (None, 0, 0);
        for line in lines.take_while(|line| !line.starts_with(b"---")) {
            let Some(stanza) = line.strip_prefix(b"-> ") else { continue };
            let name = stanza.split(|&byte| byte == b' ').next().unwrap_or_default();
            if name == b"scrypt" {
                return None;
            }
            stanzas += 1;
            let kind = RecipientKind::ALL.into_iter().find(|kind| kind.stanza().as_bytes() == name);
            work += kind.map_or(CURVE_WORK, RecipientKind::work);
            first = first.or(kind);
        }
        Some(Self { kind: first?, work: if stanzas > STANZAS_MAX { u64::MAX } else { work } })
    }
}

/// A public key that a slot is made for.
#[derive(Debug, Clone)]
pub enum Recipient {
    /// One of age.
    Age(age::x25519::Recipient),
    /// One of SSH.
    Ssh(age::ssh::Recipient),
}

/// Why something is no key that a slot can be made for, or opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no public key.
    #[error("it is no public key of age (age1…) or SSH (ssh-ed25519 …, ssh-rsa …)")]
    NoRecipient,
    /// It is a key of a kind that age does not read.
    #[error("it is a key of a kind that cannot be used: ssh-ed25519, ssh-rsa (2048 to 4096 bits) and age's X25519 can")]
    Unsupported,
    /// It is no private key.
    #[error("it holds no private key of age (AGE-SECRET-KEY-1…) or SSH")]
    NoIdentity,
}

impl Recipient {
    /// Reads a public key as age and SSH write it.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        use age::ssh::ParseRecipientKeyError as Wrong;
        let text = text.trim();
        if text.starts_with("age1") {
            return text.parse().map(Recipient::Age).map_err(|_| IdentityError::NoRecipient);
        }
        match text.parse() {
            Ok(recipient) => Ok(Recipient::Ssh(recipient)),
            Err(Wrong::Invalid(_)) => Err(IdentityError::NoRecipient),
            Err(_) => Err(IdentityError::Unsupported),
        }
    }

    /// Returns the kind of key.
    pub fn kind(&self) -> RecipientKind {
        match self {
            Recipient::Age(_) => RecipientKind::X25519,
            Recipient::Ssh(age::ssh::Recipient::SshEd25519(..)) => RecipientKind::SshEd25519,
            Recipient::Ssh(age::ssh::Recipient::SshRsa(..)) => RecipientKind::SshRsa,
        }
    }

    /// Seals content so that the private key opens it.
    pub(super) fn seal(&self, content: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let sealed = match self {
            Recipient::Age(recipient) => age::encrypt(recipient, content),
            Recipient::Ssh(recipient) => age::encrypt(recipient, content),
        };
        sealed.map_err(|_| CryptoError::BadKey)
    }
}

/// Private keys that open slots.
#[derive(Clone)]
pub struct Identities(Arc<Vec<Box<dyn age::Identity + Send + Sync>>>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

/// A file of private keys, as it was read.
#[derive(Debug)]
pub enum IdentityFile {
    /// They can be used.
    Open(Identities),
    /// A passphrase protects them.
    Protected(ProtectedIdentity),
}

/// Private keys that a passphrase protects.
pub enum ProtectedIdentity {
    /// A file that `age -p` made of others.
    Age(Vec<u8>),
    /// A key of SSH.
    Ssh(Box<age::ssh::EncryptedKey>),
}

impl std::fmt::Debug for ProtectedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProtectedIdentity")
    }
}

impl IdentityFile {
    /// Reads a file of private keys: lines of age, one key of SSH, or a file of the former that a passphrase protects.
    ///
    /// # Errors
    /// [`IdentityError`] when there is none that can be used.
    pub fn read(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.starts_with(b"age-encryption.org/") || bytes.trim_ascii_start().starts_with(b"-----BEGIN AGE") {
            return Ok(IdentityFile::Protected(ProtectedIdentity::Age(bytes.to_vec())));
        }
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            let key = age::ssh::Identity::from_buffer(bytes, None).map_err(|_| IdentityError::NoIdentity)?;
            return match key {
                age::ssh::Identity::Unencrypted(_) => Ok(IdentityFile::Open(Identities::of(vec![Box::new(key)]))),
                age::ssh::Identity::Encrypted(key) => Ok(IdentityFile::Protected(ProtectedIdentity::Ssh(key.into()))),
                age::ssh::Identity::Unsupported(_) => Err(IdentityError::Unsupported),
            };
        }
        let text = std::str::from_utf8(bytes).map_err(|_| IdentityError::NoIdentity)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut keys: Vec<Box<dyn age::Identity + Send + Sync>> = Vec::new();
        for line in lines {
            let key: age::x25519::Identity = line.parse().map_err(|_| IdentityError::NoIdentity)?;
            keys.push(Box::new(key));
        }
        if keys.is_empty() { Err(IdentityError::NoIdentity) } else { Ok(IdentityFile::Open(Identities::of(keys))) }
    }
}

impl ProtectedIdentity {
    /// Opens the keys; `None` with another passphrase.
    ///
    /// # Errors
    /// [`IdentityError`] when what is protected is no private key that can be used.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Option<Identities>, IdentityError> {
        let passphrase = SecretString::from(passphrase.expose());
        let bytes = match self {
            ProtectedIdentity::Ssh(key) => {
                let opened = key.decrypt(passphrase).ok();
                return Ok(opened.map(|key| Identities::of(vec![Box::new(age::ssh::Identity::from(key))])));
            }
            ProtectedIdentity::Age(bytes) => bytes,
        };
        let mut identity = age::scrypt::Identity::new(passphrase);
        identity.set_max_work_factor(PROTECTED_LOG_N);
        let armored = age::armor::ArmoredReader::new(&bytes[..]);
        let decryptor = age::Decryptor::new_buffered(armored).map_err(|_| IdentityError::NoIdentity)?;
        let reader = match decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)) {
            Ok(reader) => reader,
            Err(age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed) => return Ok(None),
            Err(_) => return Err(IdentityError::NoIdentity),
        };
        // As long as the content can be, so that no copy of a key is left behind by growing.
        let mut content = Zeroizing::new(Vec::with_capacity(bytes.len()));
        reader.take(MAX_IDENTITY_LEN).read_to_end(&mut content).map_err(|_| IdentityError::NoIdentity)?;
        match IdentityFile::read(&content)? {
            IdentityFile::Open(identities) => Ok(Some(identities)),
            IdentityFile::Protected(_) => Err(IdentityError::NoIdentity),
        }
    }
}

impl Identities {
    fn of(keys: Vec<Box<dyn age::Identity + Send + Sync>>) -> Self {
        Self(Arc::new(keys))
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the keys as the crate `age` takes them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|key| &**key as &dyn age::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_slot_is_in_its_header() {
        let file = |stanzas: &[&str]| {
            let stanzas: String = stanzas.iter().map(|stanza| format!("-> {stanza}\nAAAA\n")).collect();
            format!("age-encryption.org/v1\n{stanzas}--- AAAA\n-> X25519 behind the header\n").into_bytes()
        };
        let header = |stanzas: &[&str]| RecipientHeader::of(&file(stanzas));
        let kind = |stanzas: &[&str]| header(stanzas).map(|header| header.kind);
        assert_eq!(kind(&["X25519 abc"]), Some(RecipientKind::X25519));
        assert_eq!(kind(&["ssh-ed25519 abc def"]), Some(RecipientKind::SshEd25519));
        assert_eq!(kind(&["x-grease", "ssh-rsa abc"]), Some(RecipientKind::SshRsa));
        assert_eq!((kind(&["scrypt abc 17"]), kind(&["X25519 a", "scrypt abc 17"]), kind(&["x"])), (None, None, None));
        let work = |stanzas: &[&str]| header(stanzas).map(|header| header.work);
        let many = |count| work(&vec!["X25519 abc"; count]);
        assert_eq!((many(STANZAS_MAX), many(STANZAS_MAX + 1)), (Some(16 << 6), Some(u64::MAX)));
        assert_eq!(work(&["X25519 abc", "ssh-rsa abc", "x-grease"]), Some((1 << 13) + (2 << 6)));
        assert_eq!((RecipientHeader::of(b""), RecipientHeader::of(b"-> X25519 abc\n")), (None, None));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "age1", "age1qqqq", "ssh-ed25519", "ssh-ed25519 AAAA", "hunter2", "AGE-SECRET-KEY-1"] {
            assert!(Recipient::parse(text).is_err(), "{text}");
        }
        for text in ["", "# only a comment\n", "hunter2", "AGE-SECRET-KEY-1QQ", "-----BEGIN OPENSSH PRIVATE KEY-----\n"]
        {
            assert!(IdentityFile::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
