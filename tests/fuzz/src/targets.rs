//! Decoders, and what each does with any bytes: for libFuzzer, and for the short run in `tests/it/decoders.rs`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::LazyLock;

use coffre::chunker::Chunker;
use coffre::cli;
use coffre::compress::decompress;
use coffre::crypto::author::AuthorBlock;
use coffre::crypto::derive::{ReaderKey, WriterKey};
use coffre::crypto::fingerprint::Fingerprint;
use coffre::crypto::identity::{IdentityFile, Recipient};
use coffre::crypto::seal::{Purpose, seal_envelope};
use coffre::crypto::secret::{Passphrase, Secret};
use coffre::crypto::sign::VerifyingKey;
use coffre::crypto::slot::{Opener, check_recovery_identity, open_slot, opens_with};
use coffre::format::cleanup::decode_cleanup;
use coffre::format::config::{ChunkerProfile, Config};
use coffre::format::index::IndexSegment;
use coffre::format::keyring::Keyring;
use coffre::format::lease::Lease;
use coffre::format::object::{Authors, CLEANUP, INDEX, LEASE, SNAPSHOT, SealedAt};
use coffre::format::pack::{Codec, PackDirectory, Tail, Trailer};
use coffre::format::recipe::{Recipe, WINDOW_MAX};
use coffre::format::retention::{decode_retention, open_retention};
use coffre::format::slot::Slot;
use coffre::format::snapshot::decode_snapshot;
use coffre::format::tree::Node;
use coffre::format::verified::{decode_verified, open_verified};
use coffre::format::writer::{WriterName, WriterRecord};
use coffre::model::author::Author;
use coffre::model::forgetting::RetentionId;
use coffre::model::id::{RepositoryId, WriterId};
use coffre::model::key::ObjectKey;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::SnapshotId;
use coffre::model::time::Timestamp;
use coffre::model::units::ByteSize;
use coffre::model::verified::VerifiedId;
use coffre::repository::index::table::Table;
use coffre::store::location::Location;

#[path = "resolution.rs"]
mod resolution;

/// One decoder.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of libFuzzer's program.
    pub name: &'static str,
    /// Memory that it may take whatever is in the input, besides what goes by the input's length.
    #[allow(dead_code, reason = "libFuzzer's program compares it")]
    pub memory: usize,
    /// Decodes any bytes.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, memory: 1 << 20, run }
}

const fn larger(name: &'static str, memory: usize, run: fn(&[u8])) -> Target {
    Target { name, memory, run }
}

const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

pub const TARGETS: [Target; 25] = [
    target("config", |bytes| seen(Config::decode_unverified(bytes))),
    target("keyring", |bytes| {
        seen(Keyring::decode_payload(bytes, REPOSITORY));
        seen(Keyring::decode(bytes, REPOSITORY, &VerifyingKey([7; 32])));
        // What stands behind mark and signature.
        seen(bytes.get(72..).map(|payload| Keyring::decode_payload(payload, repository_in(payload))));
    }),
    target("names", names),
    target("slot", |bytes| seen(Slot::decode(bytes))),
    // A slot of the highest factor that is tried asks for 256 MiB.
    larger("age_file", 272 << 20, |bytes| seen(open_slot(&Passphrase::new("x".into()), bytes))),
    target("age_file_for_keys", |bytes| {
        seen((opens_with(bytes), IDENTITY.work(bytes), IDENTITY.open(bytes)));
        // What is protected costs what whoever protected it wanted.
        seen(std::str::from_utf8(bytes).ok().map(Recipient::parse));
        seen(IdentityFile::read(bytes));
    }),
    target("lease", |bytes| seen((Lease::decode(bytes), LEASE.split(bytes).is_ok()))),
    target("cleanup", |bytes| seen((decode_cleanup(bytes), CLEANUP.split(bytes).is_ok()))),
    target("retention", |bytes| {
        seen(decode_retention(bytes));
        let id = RetentionId::new(Timestamp::from_seconds(1_800_000_000), [7; 8]);
        seen(open_retention(&KEYS.reader, REPOSITORY, id, bytes));
    }),
    target("verified", |bytes| {
        seen(decode_verified(bytes));
        let id = VerifiedId::new(Timestamp::from_seconds(1_800_000_000), [7; 8]);
        seen(open_verified(&KEYS.reader, REPOSITORY, id, bytes));
    }),
    target("snapshot", |bytes| {
        let id = SnapshotId::new(Timestamp::from_seconds(1_800_000_000), [7; 8]);
        let header = coffre::crypto::session::SessionHeader::from_bytes(&[7; 1204]);
        seen(decode_snapshot(id, &header, Author::Reader, bytes));
        if let Ok((header, rest)) = SNAPSHOT.split(bytes) {
            seen(decode_snapshot(id, &header, Author::Reader, rest));
        }
    }),
    target("authored", authored),
    target("segment", |bytes| {
        seen(INDEX.split(bytes).is_ok());
        if let Ok(segment) = IndexSegment::decode(Author::Reader, bytes) {
            assert!(segment.chunk_count() <= bytes.len() / 16);
            assert!(IndexSegment::decode(Author::Reader, &segment.encode()).as_ref() == Ok(&segment));
        }
    }),
    target("directory", |bytes| {
        if let Ok(directory) = PackDirectory::decode(bytes) {
            assert!(PackDirectory::decode(&directory.encode()).as_ref() == Ok(&directory));
        }
    }),
    target("trailer", |bytes| seen((Tail::decode(bytes), Trailer::decode(bytes)))),
    larger("node", 64 << 20, |bytes| seen(Node::decode(bytes))),
    target("recipe", |bytes| {
        if let Ok(recipe) = Recipe::decode(bytes) {
            let ends = recipe.items().iter().all(|item| item.end() <= WINDOW_MAX);
            assert!(recipe.items().len() <= bytes.len() && recipe.length() <= WINDOW_MAX && ends);
            seen(recipe.items_within(recipe.length() / 3, recipe.length() / 2));
            assert!(Recipe::decode(&recipe.encode()).as_ref() == Ok(&recipe));
        }
    }),
    larger("resolution", usize::MAX >> 1, resolution::run),
    larger("frame", 4 << 20, |bytes| {
        for codec in [Codec::Zstd, Codec::Stored, Codec::ZstdRecipes, Codec::StoredRecipes] {
            for length in [bytes.len() as u32, 1 << 20] {
                if let Ok(plain) = decompress(codec, bytes, length) {
                    assert_eq!(plain.len(), length as usize);
                }
            }
        }
    }),
    target("table", table),
    target("object_name", |bytes| {
        let key = ObjectKey::from_listed(String::from_utf8_lossy(bytes));
        seen((key.kind(), key.pack_id(), key.segment_id(), key.snapshot_id(), key.counter(), key.bytes_max()));
    }),
    target("location", |bytes| seen(String::from_utf8_lossy(bytes).parse::<Location>())),
    target("text", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        seen((text.parse::<ByteSize>(), check_recovery_identity(&text), Timestamp::parse_compact_utc(&text)));
        seen(text.parse::<Fingerprint>());
        seen(EntryPath::new(bytes.to_vec()));
    }),
    target("terminal", terminal),
    target("chunker", |bytes| {
        let profile =
            ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min: 64, avg: 256, max: 1024, normalization: 2 };
        let chunker = Chunker::new(profile, &[0x9e37_79b9_7f4a_7c15; 256]);
        let mut rest = bytes;
        while let Some(length) = chunker.cut(rest, true) {
            assert!(length > 0 && length <= 1024);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }),
];

/// Returns the target of that name.
///
/// # Panics
/// When there is none.
#[allow(dead_code, reason = "libFuzzer's program has one target alone")]
pub fn find(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("a target of that name")
}

/// Keys of somebody who may read, and of somebody who may write.
struct Keys {
    reader: ReaderKey,
    writer: WriterKey,
    root: Secret,
    verifying: VerifyingKey,
}

/// A private key that opens slots.
static IDENTITY: LazyLock<Opener> =
    LazyLock::new(|| match IdentityFile::read(include_bytes!("../../data/identities/ed25519")) {
        Ok(IdentityFile::Open(identities)) => Opener::Identities(identities),
        _ => unreachable!("nothing protects it"),
    });

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let (reader, writer) = (ReaderKey::random(), WriterKey::random());
    let name = WriterName::default();
    let verifying = WriterRecord::new(REPOSITORY, &reader, WriterId([5; 8]), &writer, &name, None).verifying_key;
    Keys { reader, writer, root: Secret::random(), verifying }
});

impl Authors for Keys {
    fn key_of(&self, _: Author) -> Option<VerifyingKey> {
        Some(self.verifying)
    }
}

/// Returns the repository that a payload says it is of, where that stands first, as it does in real ones.
fn repository_in(payload: &[u8]) -> RepositoryId {
    payload.get(3..19).map_or(REPOSITORY, |id| RepositoryId(id.try_into().expect("16 bytes")))
}

/// Opens any bytes as each value that keyrings hold in envelopes.
fn names(bytes: &[u8]) {
    let Keys { reader, writer, .. } = &*KEYS;
    let seal = |wrap: &Secret, purpose, object: [u8; 16]| {
        seal_envelope(wrap, REPOSITORY, purpose, &object, bytes).into_bytes()
    };
    let (wrap, writer_wrap) = (reader.wrapping_key(REPOSITORY), writer.wrapping_key(REPOSITORY));
    let (id, domain) = ([5; 8], [6; 16]);
    let named: [u8; 16] = [id, [0; 8]].concat().try_into().expect("16 bytes");
    let name = seal(&wrap, Purpose::Name, named);
    let encode = |e: &mut minicbor::Encoder<Vec<u8>>| -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.map(4)?.u8(0)?.bytes(&REPOSITORY.0)?.u8(2)?.array(1)?.map(4)?.u8(0)?.bytes(&domain)?;
        e.u8(2)?.bytes(&[1; 1216])?.u8(3)?.bytes(&seal(&wrap, Purpose::DomainKey, domain))?;
        e.u8(4)?.bytes(&seal(&wrap, Purpose::DomainDedup, domain))?;
        e.u8(3)?.array(1)?.map(4)?.u8(0)?.bytes(&id)?.u8(1)?.bytes(&[2; 32])?.u8(2)?.bytes(&name)?;
        e.u8(3)?.array(1)?.array(3)?.bytes(&domain)?.u8(0)?;
        e.bytes(&seal(&writer_wrap, Purpose::DomainDedup, domain))?;
        e.u8(5)?.array(1)?.array(4)?.bytes(&id)?.u8(0)?.bytes(&[3; 32])?.bytes(&name)?;
        Ok(())
    };
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encode(&mut encoder).expect("memory takes it");
    let keyring = Keyring::decode_payload(encoder.writer(), REPOSITORY).expect("a keyring");
    seen(keyring.domains[0].open_dedup(REPOSITORY, reader));
    seen(keyring.domains[0].open_secret(REPOSITORY, reader));
    seen(keyring.writers[0].open_name(REPOSITORY, reader));
    seen(keyring.writers[0].open_dedups(REPOSITORY, writer));
    seen(keyring.slots[0].open_name(REPOSITORY, reader));
}

/// Opens envelopes of any bytes, and any bytes as objects with envelopes.
fn authored(bytes: &[u8]) {
    seen(AuthorBlock::split(bytes));
    let keys = &*KEYS;
    let place = SealedAt { repository: REPOSITORY, object: &[2; 16], root: &keys.root };
    seen((INDEX.open(bytes, &place, keys), CLEANUP.open(bytes, &place, keys), SNAPSHOT.open(bytes, &place, keys)));
    let envelope = seal_envelope(&keys.root, REPOSITORY, Purpose::Lease, &[2; 16], bytes);
    let object = [b"coffreL\x01".as_slice(), &[7; 20], &envelope].concat();
    assert!(LEASE.open(&object, &place, keys).is_err(), "nobody signed it");
}

/// Searches any bytes as a table, without and with the checksum that would keep them from being one.
fn table(bytes: &[u8]) {
    thread_local! {
        static FILE: RefCell<File> = RefCell::new(tempfile::tempfile_in("/dev/shm").expect("made"));
    }
    FILE.with_borrow_mut(|file| {
        file.rewind().expect("a file");
        file.set_len(bytes.len() as u64).expect("room");
        file.write_all(bytes).expect("written");
        let Ok(table) = Table::map(file, None) else { return };
        for row in table.rows().take(100) {
            seen(table.location(&row));
            seen(table.find(&row.key));
            seen(table.find_all(&row.key));
        }
        for pack in table.packs().take(100) {
            seen(table.pack(pack.id).count());
            seen(table.authors(pack.id).count());
        }
        let mut even = false;
        let every_other = |_| {
            even = !even;
            even
        };
        seen((table.content(every_other), table.content(|_| true), table.pack_sizes().count()));
    });
}

/// Shows any text: a terminal gets nothing that it would obey.
fn terminal(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let is_obeyed = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
    let one_line = cli::one_line(&text);
    assert!(!one_line.contains(is_obeyed));
    assert_eq!(cli::one_line(&one_line), one_line, "what is shown is shown the same way again");
    let visible = cli::visible(&text);
    assert!(!visible.replace("\n ", "").contains(is_obeyed));
    let json = cli::object(&text);
    assert!(!json.contains(is_obeyed));
    if !text.chars().any(char::is_control) && matches!(one_line, Cow::Borrowed(_)) {
        assert_eq!(one_line, text);
    }
}

/// Takes what a decoder gave.
fn seen<T>(value: T) {
    std::hint::black_box(&value);
}
