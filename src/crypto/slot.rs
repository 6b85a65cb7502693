//! Key slots: ordinary age files that hold the reader key or that of a writer.
//!
//! Each can be opened with the `age` program too. The recovery identity is a passphrase of 160 random bits,
//! printed once at `init`: like every passphrase slot it is symmetric, so a quantum computer gains nothing from a harvested
//! slot, which an X25519 identity would not give.

use std::io::Read;

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use crate::crypto::CryptoError;
use crate::crypto::crockford::{self, ALPHABET};
use crate::crypto::identity::{Identities, Recipient, RecipientHeader, RecipientKind};
use crate::crypto::secret::Passphrase;

/// log2 of scrypt's work for a passphrase that a person chose: 128 MiB and a quarter of a second, what OWASP's Password
/// Storage Cheat Sheet asks for at least. (age's own 18 would take more memory than a whole backup.)
const PASSPHRASE_LOG_N: u8 = 17;
/// log2 of scrypt's work for a recovery identity, whose 160 bits need no stretching.
const RECOVERY_LOG_N: u8 = 12;
/// log2 of the most work accepted from a slot, which a provider could have planted: 256 MiB and half a second.
pub const MAX_LOG_N: u8 = 18;
/// The largest slot read, in bytes.
pub const MAX_SLOT_LEN: u64 = 64 * 1024;

const RECOVERY_PREFIX: &str = "COFFRE-RECOVERY";
/// Symbols of a recovery identity: 32 of the identity itself and four to check it.
const SYMBOLS: usize = 36;

/// How a slot is locked.
#[derive(Debug, Clone)]
pub enum SlotLock {
    /// A passphrase that a person chose.
    Passphrase(Passphrase),
    /// The recovery identity printed at `init`.
    Recovery(Passphrase),
    /// A public key, whose private key opens it.
    Recipient(Recipient),
}

/// What somebody has to open a slot.
#[derive(Debug, Clone)]
pub enum Opener {
    /// A passphrase, a recovery identity, or the secret of a host.
    Passphrase(Passphrase),
    /// Private keys of age or SSH.
    Identities(Identities),
}

impl Opener {
    /// Tells what trying a slot costs, in units of scrypt's N; [`u64::MAX`] for one that must be left alone, and nothing for one that
    /// is not opened with such a thing.
    pub fn work(&self, slot: &[u8]) -> Option<u64> {
        match self {
            Opener::Passphrase(_) => {
                let log_n = scrypt_work(slot)?;
                Some(if log_n > u32::from(MAX_LOG_N) { u64::MAX } else { 1 << log_n })
            }
            Opener::Identities(identities) => {
                Some(RecipientHeader::of(slot)?.work.saturating_mul(identities.count() as u64))
            }
        }
    }

    /// Opens a key slot; `None` when something else opens it.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when the slot is not an age file, or asks for excessive work.
    pub fn open(&self, slot: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, CryptoError> {
        match self {
            Opener::Passphrase(passphrase) => open_slot(passphrase, slot),
            Opener::Identities(identities) => open_with(identities.iter(), slot),
        }
    }
}

impl From<&Passphrase> for Opener {
    fn from(passphrase: &Passphrase) -> Self {
        Opener::Passphrase(passphrase.clone())
    }
}

impl From<&Opener> for Opener {
    fn from(opener: &Opener) -> Self {
        opener.clone()
    }
}

/// What opens a key slot, as its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpensWith {
    /// A passphrase that a person chose.
    Passphrase,
    /// A random secret that needs no stretching: the recovery identity, or what is carried to a host.
    Random,
    /// A private key.
    Identity(RecipientKind),
}

/// Tells what opens a slot; nothing when it is none of ours.
pub fn opens_with(slot: &[u8]) -> Option<OpensWith> {
    match scrypt_work(slot) {
        None => RecipientHeader::of(slot).map(|header| OpensWith::Identity(header.kind)),
        Some(work) if work <= u32::from(RECOVERY_LOG_N) => Some(OpensWith::Random),
        Some(_) => Some(OpensWith::Passphrase),
    }
}

/// Reads the work factor from an age file's scrypt stanza, so that cheap slots are tried first, and dear ones not at all.
pub fn scrypt_work(slot: &[u8]) -> Option<u32> {
    let head = &slot[..slot.len().min(200)];
    let stanza = head.split(|&byte| byte == b'\n').nth(1)?;
    let factor = std::str::from_utf8(stanza).ok()?.strip_prefix("-> scrypt ")?.split(' ').nth(1)?;
    factor.parse().ok()
}

/// Makes a random secret that opens the slot of a host: `COFFRE-HOST-` and eight groups of four letters and digits (160 bits).
pub fn new_host_secret() -> Passphrase {
    let entropy = Zeroizing::new(crate::crypto::random());
    Passphrase::new(std::mem::take(&mut *spelled("COFFRE-HOST", &symbols_of(&entropy))))
}

/// Seals the contents of a key slot into an age file.
///
/// # Errors
/// [`CryptoError::BadKey`] when age refuses, which it does for an empty passphrase.
pub fn seal_slot(lock: &SlotLock, content: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (passphrase, log_n) = match lock {
        SlotLock::Passphrase(text) => (text, PASSPHRASE_LOG_N),
        SlotLock::Recovery(text) => (text, RECOVERY_LOG_N),
        SlotLock::Recipient(recipient) => return recipient.seal(content),
    };
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.expose()));
    recipient.set_work_factor(log_n);
    age::encrypt(&recipient, content).map_err(|_| CryptoError::BadKey)
}

/// Opens a key slot with a passphrase or recovery identity; `None` when it is locked with another.
///
/// # Errors
/// [`CryptoError::Malformed`] when the slot is not an age file that a passphrase opens, or asks for excessive work.
pub fn open_slot(passphrase: &Passphrase, slot: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, CryptoError> {
    let recovery = normalise_recovery(passphrase.expose());
    let text = recovery.as_ref().map_or(passphrase.expose(), |identity| identity.as_str());
    let mut identity = age::scrypt::Identity::new(SecretString::from(text));
    identity.set_max_work_factor(MAX_LOG_N);
    open_with(std::iter::once(&identity as &dyn age::Identity), slot)
}

fn open_with<'a>(
    identities: impl Iterator<Item = &'a dyn age::Identity>,
    slot: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, CryptoError> {
    let decryptor = age::Decryptor::new(slot).map_err(|_| CryptoError::Malformed)?;
    let reader = match decryptor.decrypt(identities) {
        Ok(reader) => reader,
        Err(
            age::DecryptError::DecryptionFailed
            | age::DecryptError::NoMatchingKeys
            | age::DecryptError::KeyDecryptionFailed,
        ) => return Ok(None),
        Err(_) => return Err(CryptoError::Malformed),
    };
    // As long as the content can be, so that no copy of the key is left behind by growing.
    let mut content = Zeroizing::new(Vec::with_capacity(slot.len()));
    reader.take(MAX_SLOT_LEN).read_to_end(&mut content).map_err(|_| CryptoError::Forged)?;
    Ok(Some(content))
}

/// Makes a recovery identity: `COFFRE-RECOVERY-` and nine groups of four letters and digits (160 random bits, 20 check bits).
pub fn new_recovery_identity() -> Passphrase {
    let entropy = Zeroizing::new(crate::crypto::random());
    Passphrase::new(std::mem::take(&mut *encode_recovery(&entropy)))
}

/// Tells whether `text` looks like a recovery identity, and if so whether its check digits fit.
///
/// Returns `None` for anything else, so that a typing error in an identity is told apart from a wrong passphrase. Without
/// the words in front it is an identity only when its check digits fit: a passphrase can be 36 letters, too.
pub fn check_recovery_identity(text: &str) -> Option<bool> {
    let symbols = recovery_symbols(text)?;
    let fits = decode_recovery(&symbols).is_some();
    (fits || has_prefix(text)).then_some(fits)
}

/// Symbols that may be missing, too many, or wrong in what is still taken for a recovery identity.
const SLIPS: usize = 2;
/// Digits that such a text has at least; identities have eleven on average, passphrases of words few.
const DIGITS: usize = 5;

/// Tells whether `text`, which opens nothing, is about as long as a recovery identity without the words in front, and of its
/// letters, so that typing errors in one are the likely reason.
pub fn resembles_recovery_identity(text: &str) -> bool {
    if let Some(symbols) = recovery_symbols(text) {
        return decode_recovery(&symbols).is_none();
    }
    let upper = even_out(text);
    let symbols = || upper.bytes().filter(|&byte| byte != b'-');
    let strange = symbols().filter(|byte| !ALPHABET.contains(byte) && !b"OIL".contains(byte)).count();
    let digits = symbols().filter(u8::is_ascii_digit).count();
    symbols().count().abs_diff(SYMBOLS) <= SLIPS && strange <= SLIPS && digits >= DIGITS
}

fn encode_recovery(entropy: &[u8; 20]) -> Zeroizing<String> {
    let mut symbols = symbols_of(entropy);
    symbols.extend(check_symbols(entropy));
    spelled(RECOVERY_PREFIX, &symbols)
}

/// Returns the symbols of a random secret, with room for those that check it.
fn symbols_of(entropy: &[u8; 20]) -> Zeroizing<Vec<u8>> {
    let mut symbols = Zeroizing::new(Vec::with_capacity(SYMBOLS));
    let (groups, _) = entropy.as_chunks::<5>();
    symbols.extend(groups.iter().flat_map(crockford::symbols));
    symbols
}

/// Spells a secret as people read it: a prefix, then groups of four symbols.
fn spelled(prefix: &str, symbols: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + symbols.len() + symbols.len().div_ceil(4)));
    text.push_str(prefix);
    for group in symbols.chunks(4) {
        text.push('-');
        text.push_str(std::str::from_utf8(group).expect("the alphabet is ASCII"));
    }
    text
}

/// Four symbols of 20 bits from BLAKE3 of the entropy: a mistyped identity is found before scrypt runs.
fn check_symbols(entropy: &[u8; 20]) -> [u8; 4] {
    let hash = blake3::derive_key("coffre/1 recovery identity check", entropy);
    std::array::from_fn(|i| ALPHABET[usize::from(hash[i] & 31)])
}

fn even_out(text: &str) -> Zeroizing<String> {
    let mut upper = Zeroizing::new(String::with_capacity(text.len()));
    upper.extend(text.trim().chars().map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_uppercase() }));
    upper
}

fn has_prefix(text: &str) -> bool {
    even_out(text).starts_with(RECOVERY_PREFIX)
}

/// Returns the symbols, with spaces, hyphens and case evened out and look-alikes read as meant, of what begins with the
/// prefix, or is nothing but as many symbols as an identity has.
fn recovery_symbols(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let upper = even_out(text);
    let rest = upper.strip_prefix(RECOVERY_PREFIX);
    let mut symbols = Zeroizing::new(Vec::with_capacity(upper.len()));
    symbols.extend(rest.unwrap_or(&upper).bytes().filter(|&b| b != b'-').map(crockford::meant));
    let is_bare = || symbols.len() == SYMBOLS && symbols.iter().all(|symbol| ALPHABET.contains(symbol));
    (rest.is_some() || is_bare()).then_some(symbols)
}

fn decode_recovery(symbols: &[u8]) -> Option<Zeroizing<[u8; 20]>> {
    if symbols.len() != SYMBOLS {
        return None;
    }
    let mut entropy = Zeroizing::new([0; 20]);
    let (groups, _) = symbols.as_chunks::<8>();
    for (bytes, group) in entropy.as_chunks_mut::<5>().0.iter_mut().zip(groups) {
        *bytes = crockford::bytes(group)?;
    }
    (check_symbols(&entropy) == symbols[32..]).then_some(entropy)
}

pub(crate) fn normalise_recovery(text: &str) -> Option<Zeroizing<String>> {
    Some(encode_recovery(&*decode_recovery(&recovery_symbols(text)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_identity_survives_being_typed_from_paper() {
        let identity = new_recovery_identity();
        let slot = seal_slot(&SlotLock::Recovery(identity.clone()), b"key").expect("sealed");
        let typed = identity.expose().to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        let typed = typed.replacen("c", "C", 1);
        // The prefix itself holds an o, which must stay one.
        let typed = format!("coffre recovery{}", &typed["coffre recovery".len()..]);
        assert_eq!(check_recovery_identity(&typed), Some(true), "{typed}");
        let opened = open_slot(&Passphrase::new(typed), &slot).expect("readable").expect("unlocked");
        assert_eq!(*opened, b"key");
    }

    #[test]
    fn a_mistyped_recovery_identity_is_recognised_as_one() {
        let mut text = encode_recovery(&[7; 20]);
        let last = text.pop().expect("not empty");
        text.push(if last == 'A' { 'B' } else { 'A' });
        assert_eq!(check_recovery_identity(&text), Some(false));
        assert_eq!(check_recovery_identity("correct horse"), None);
    }

    #[test]
    fn the_words_in_front_of_a_recovery_identity_may_be_left_out() {
        let whole = encode_recovery(&[7; 20]);
        let bare = whole.strip_prefix("COFFRE-RECOVERY-").expect("the words").to_owned();
        for typed in [bare.clone(), bare.to_lowercase().replace('-', " "), bare.replace('-', ""), format!(" {bare}\n")]
        {
            assert_eq!(check_recovery_identity(&typed), Some(true), "{typed}");
            assert_eq!(normalise_recovery(&typed).as_deref(), Some(&*whole));
            assert!(!resembles_recovery_identity(&typed));
        }
        // One wrong letter: a passphrase may look like that, so it is tried as one, and told only when nothing opens.
        let wrong = format!("{}{}", if bare.starts_with('A') { 'B' } else { 'A' }, &bare[1..]);
        assert_eq!((check_recovery_identity(&wrong), resembles_recovery_identity(&wrong)), (None, true));
        assert!(!resembles_recovery_identity("correct horse battery staple"));
        // Wrong letters and missing or doubled ones at once, as fingers make them.
        for typed in [&bare[1..], &wrong[..wrong.len() - 1], &format!("u{bare}"), &bare[..bare.len() - 2]] {
            assert!(resembles_recovery_identity(typed), "{typed}");
            assert_eq!(check_recovery_identity(typed), None, "{typed}");
        }
        for other in [&bare[..bare.len() / 2], "correct horse battery staple and 100 more"] {
            assert!(!resembles_recovery_identity(other), "{other}");
        }
    }

    #[test]
    fn what_a_slot_costs_is_read_from_its_head() {
        let of =
            |work: &str| format!("age-encryption.org/v1\n-> scrypt c2FsdHNhbHRzYWx0c2FsdA {work}\nbody").into_bytes();
        assert_eq!(scrypt_work(&of("17")), Some(17));
        for other in ["", "x", "-1", "4294967296"] {
            assert_eq!(scrypt_work(&of(other)), None, "{other:?}");
        }
        assert_eq!(scrypt_work(b"age-encryption.org/v1\n-> X25519 abc 17\n"), None);
        assert_eq!(scrypt_work(b"-> scrypt salt 17"), None, "it is the second line");
        let far = format!("{}\n-> scrypt salt 17\n", "a".repeat(200)).into_bytes();
        assert_eq!(scrypt_work(&far), None, "nobody looks so far");

        let opener = Opener::from(&Passphrase::new("some".into()));
        for (log_n, work) in [("0", 1), ("12", 1 << 12), ("18", 1 << 18), ("19", u64::MAX), ("64", u64::MAX)] {
            assert_eq!(opener.work(&of(log_n)), Some(work), "{log_n}");
        }
        assert_eq!(opener.work(b"age-encryption.org/v1\n-> X25519 abc\n"), None);
        for (log_n, opens) in [("12", OpensWith::Random), ("13", OpensWith::Passphrase), ("17", OpensWith::Passphrase)]
        {
            assert_eq!(opens_with(&of(log_n)), Some(opens));
        }
        let key = OpensWith::Identity(RecipientKind::X25519);
        assert_eq!(opens_with(b"age-encryption.org/v1\n-> X25519 abc\nbody\n--- mac"), Some(key));
        assert_eq!(opens_with(b"something else"), None);
    }

    #[test]
    fn slots_are_sealed_with_the_work_of_their_kind() {
        for (lock, log_n) in [(SlotLock::Passphrase as fn(_) -> _, 17), (SlotLock::Recovery, 12)] {
            let slot = seal_slot(&lock(Passphrase::new("some".into())), b"key").expect("sealed");
            assert_eq!(scrypt_work(&slot), Some(log_n));
        }
    }

    #[test]
    fn a_wrong_passphrase_opens_nothing_and_garbage_is_told() {
        let lock = SlotLock::Recovery(Passphrase::new("right".into()));
        let slot = seal_slot(&lock, b"key").expect("sealed");
        assert!(open_slot(&Passphrase::new("wrong".into()), &slot).expect("readable").is_none());
        assert_eq!(open_slot(&Passphrase::new("right".into()), b"not age").err(), Some(CryptoError::Malformed));
    }
}
