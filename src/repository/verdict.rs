//! What was found out about the author of a snapshot, so that each signature is checked once by each client.
//!
//! A verdict in the cache is believed only when it bears a code that nobody without the reader key can make, over the object and the
//! key by which it was checked. So the cache makes nothing believed that the store could not: what has no good code is checked.

use crate::crypto::author::{AuthorBlock, SignedSubject};
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::object::Authors;
use crate::model::author::Author;
use crate::model::snapshot::SnapshotId;
use crate::repository::keys::Keys;

/// Length of a verdict as it is kept.
pub(super) const VERDICT_LEN: usize = blake3::OUT_LEN;

/// Makes and judges the verdict on one object.
pub(super) struct Verdict<'a> {
    keys: &'a Keys,
    hash: blake3::Hash,
    remembered: Option<[u8; VERDICT_LEN]>,
}

impl<'a> Verdict<'a> {
    /// Takes the object of a snapshot.
    pub(super) fn of(keys: &'a Keys, id: SnapshotId, object: &[u8]) -> Self {
        let hash = blake3::Hasher::new().update(&id.to_bytes()).update(object).finalize();
        Self { keys, hash, remembered: None }
    }

    /// Takes what was remembered of it.
    pub(super) fn remembered(self, verdict: [u8; VERDICT_LEN]) -> Self {
        Self { remembered: Some(verdict), ..self }
    }

    /// Returns what is to be remembered once `author` was checked; nothing that will be believed where it cannot be made.
    pub(super) fn on(&self, author: Author) -> [u8; VERDICT_LEN] {
        self.code(author).map_or([0; VERDICT_LEN], |code| *code.as_bytes())
    }

    fn code(&self, author: Author) -> Option<blake3::Hash> {
        let (key, checked_by) = (self.keys.verdict_key()?, self.key_of(author)?);
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        Some(hasher.update(&author.to_bytes()).update(&checked_by.0).update(self.hash.as_bytes()).finalize())
    }
}

impl Authors for Verdict<'_> {
    fn key_of(&self, author: Author) -> Option<VerifyingKey> {
        self.keys.key_of(author)
    }

    fn check(
        &self,
        what: &'static str,
        block: &AuthorBlock,
        subject: &SignedSubject<'_>,
        value: &[u8],
    ) -> Result<Author, FormatError> {
        // Hashes are compared in constant time.
        let is_known = self.code(block.claimed()).zip(self.remembered).is_some_and(|(code, kept)| code == kept);
        if is_known { Ok(block.claimed()) } else { self.keys.check(what, block, subject, value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::author::Signer;
    use crate::crypto::derive::ReaderKey;
    use crate::crypto::seal::Purpose;
    use crate::format::keyring::Keyring;
    use crate::format::slot::{RootKey, Slot};
    use crate::model::id::RepositoryId;
    use crate::model::time::Timestamp;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

    fn keys(reader: &ReaderKey) -> Keys {
        let (root, verifying_key) = (RootKey::Reader(reader.clone()), reader.verifying_key(REPOSITORY));
        let slot = Slot { repository: REPOSITORY, root, verifying_key, label: String::new(), hosts: Vec::new() };
        let (domains, writers, erased, slots) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Keys::open(slot, Keyring { repository: REPOSITORY, counter: 1, domains, writers, erased, slots })
            .expect("empty")
    }

    #[test]
    fn a_verdict_is_believed_of_one_object_and_from_nobody_without_the_key() {
        let (ours, others) = (ReaderKey::random(), ReaderKey::random());
        let (keys, strange) = (keys(&ours), keys(&others));
        let id = |second| SnapshotId::new(Timestamp::from_seconds(second), [1; 8]);
        let subject =
            SignedSubject { repository: REPOSITORY, purpose: Purpose::Snapshot, object: &[2; 16], before: b"" };
        // It is signed by somebody else, so that whoever looks at the signature refuses it.
        let opened = [&Signer::reader(&others, REPOSITORY).block(&subject, b"value")[..], b"value"].concat();
        let (block, value) = AuthorBlock::split(&opened).expect("long enough");
        let check = |id, object: &[u8], verdict| {
            let judged = Verdict::of(&keys, id, object).remembered(verdict);
            judged.check("a snapshot", &block, &subject, value).is_ok()
        };
        let good = Verdict::of(&keys, id(1), b"object").on(Author::Reader);
        assert!(check(id(1), b"object", good), "it was checked before");
        assert!(!check(id(1), b"another", good) && !check(id(2), b"object", good));
        assert!(!check(id(1), b"object", Verdict::of(&strange, id(1), b"object").on(Author::Reader)));
        assert!(!check(id(1), b"object", [0; VERDICT_LEN]));
        (0..VERDICT_LEN).for_each(|at| {
            let mut changed = good;
            changed[at] ^= 1;
            assert!(!check(id(1), b"object", changed), "byte {at}");
        });
    }
}
