//! Test vectors of the format, `tests/data/vectors/*.json`: whoever writes another reader or writer can check against them.
//!
//! Each file has vectors of `in` and either `out` or the class of `error`; bytes are hexadecimal. A vector that is stored is
//! never edited: a changed outcome is a changed format. `COFFRE_WRITE_VECTORS=1 cargo test vectors` makes files that are
//! missing. `tests/tools/check-vectors` checks the same files with the independent reader in Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use age::secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::chunker::Chunker;
use crate::compress::{Compressor, decompress};
use crate::crypto::author::{SignedSubject, Signer};
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::derive::{DedupSecret, ReaderKey, WriterKey, derive_into};
use crate::crypto::fingerprint::Fingerprint;
use crate::crypto::identity::{IdentityFile, Recipient};
use crate::crypto::pack::PackOpener;
use crate::crypto::seal::{Purpose, open_envelope, padme, seal_envelope};
use crate::crypto::secret::{Passphrase, Secret};
use crate::crypto::session::{
    DomainSecretKey, SESSION_HEADER_LEN, SessionHeader, SessionSecret, new_domain_key, new_session,
};
use crate::crypto::sign::{Signed, VerifyingKey};
use crate::crypto::slot::{Opener, SlotLock, normalise_recovery, seal_slot};
use crate::crypto::{CryptoError, random};
use crate::format::FormatError;
use crate::format::cleanup::{decode_cleanup, encode_cleanup};
use crate::format::config::{ChunkerProfile, Config, RequiredFeatures};
use crate::format::evidence::{decode_run, encode_run};
use crate::format::index::{IndexSegment, PackEntry};
use crate::format::keyring::{DomainRecord, Erased, Keyring, SlotName, SlotRecord};
use crate::format::lease::Lease;
use crate::format::object::{Authors, CLEANUP, INDEX, LEASE, SNAPSHOT, SealedAt};
use crate::format::pack::{Codec, PackDirectory, PackKind, TRAILER_LEN, Tail, Trailer, padded_pack_len};
use crate::format::recipe::Recipe;
use crate::format::retention::{encode_retention, open_retention, seal_retention};
use crate::format::slot::{Role, RootKey, Slot};
use crate::format::snapshot::{decode_snapshot, encode_snapshot};
use crate::format::tree::{LeafBuilder, ListChild, Node, TreeChild, encode_children, encode_chunks, encode_lists};
use crate::format::verified::{encode_verified, open_verified, seal_verified};
use crate::format::writer::{WriterName, WriterRecord};
use crate::model::anomaly::AnomalyKind;
use crate::model::author::Author;
use crate::model::cleanup::{CleanupList, RemovedSnapshot};
use crate::model::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Hole, Metadata, StreamDetail};
use crate::model::forgetting::{RetentionId, RetentionRecord};
use crate::model::hold::{Forgotten, Hold};
use crate::model::id::{
    ChunkId, ChunkKey, DomainEpoch, DomainId, PackId, RepositoryId, SessionId, SlotId, WriterId, hex, parse_hex,
};
use crate::model::outcome::Outcome as Ending;
use crate::model::path::EntryPath;
use crate::model::run::{RunId, RunKind, RunRecord};
use crate::model::snapshot::{Anomaly, MissingStream, Position, Snapshot, SnapshotCounts, SnapshotId, TreeRoot};
use crate::model::time::Timestamp;
use crate::model::verified::{Verified, VerifiedId};
use crate::repository::frame::Frame;
use crate::repository::packer::PackBuilder;

/// What a vector leads to: a value, or the class of an error.
type Outcome = Result<Value, &'static str>;

struct Topic {
    name: &'static str,
    section: u8,
    about: &'static str,
    make: fn() -> Vec<Value>,
    check: fn(&Value) -> Outcome,
}

const TOPICS: [Topic; 23] = [
    Topic {
        name: "derivation",
        section: 3,
        about: "HKDF with this format's labels",
        make: derivations,
        check: derivation,
    },
    Topic { name: "padding", section: 4, about: "PADMÉ, and the size of a pack", make: paddings, check: padding },
    Topic { name: "envelope", section: 4, about: "one value under a key of its own", make: envelopes, check: envelope },
    Topic {
        name: "author",
        section: 4,
        about: "objects whose values begin with an author block",
        make: authoreds,
        check: authored,
    },
    Topic { name: "slot", section: 5, about: "key slots, opened by a passphrase", make: slots, check: slot },
    Topic {
        name: "recipient",
        section: 5,
        about: "key slots, opened by a private key of age",
        make: recipients,
        check: recipient,
    },
    Topic { name: "recovery", section: 5, about: "recovery identities as typed", make: recoveries, check: recovery },
    Topic {
        name: "fingerprint",
        section: 5,
        about: "fingerprints of repositories",
        make: fingerprints,
        check: fingerprint,
    },
    Topic { name: "config", section: 6, about: "signed configurations", make: configs, check: config },
    Topic { name: "keyring", section: 6, about: "signed keyrings and their domains", make: keyrings, check: keyring },
    Topic { name: "session", section: 7, about: "session headers (HPKE with X-Wing)", make: sessions, check: session },
    Topic { name: "cutting", section: 8, about: "where content is cut, and chunk ids", make: cuttings, check: cutting },
    Topic { name: "recipe", section: 8, about: "recipes, and what they make of chunks", make: recipes, check: recipe },
    Topic { name: "pack", section: 9, about: "whole packs", make: packs, check: pack },
    Topic { name: "segment", section: 10, about: "values of index segments", make: segments, check: segment },
    Topic { name: "node", section: 11, about: "nodes of trees and chunk lists", make: nodes, check: node },
    Topic { name: "manifest", section: 12, about: "values of snapshots", make: manifests, check: manifest },
    Topic {
        name: "manifest-incomplete",
        section: 12,
        about: "values of snapshots in which streams are missing",
        make: incomplete_manifests,
        check: incomplete_manifest,
    },
    Topic { name: "lease", section: 13, about: "values of leases", make: leases, check: lease },
    Topic { name: "cleanup", section: 13, about: "values of lists of cleaning up", make: cleanups, check: cleanup },
    Topic { name: "retention", section: 13, about: "records of retention", make: retentions, check: retention },
    Topic { name: "verified", section: 13, about: "records of verifications", make: verifieds, check: verified },
    Topic { name: "evidence", section: 13, about: "values of records of runs", make: runs, check: run },
];

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors")
}

#[test]
fn every_vector_leads_to_what_it_says() {
    let mut stored = 0;
    for topic in TOPICS {
        let path = directory().join(format!("{}.json", topic.name));
        if !path.exists() && std::env::var_os("COFFRE_WRITE_VECTORS").is_some() {
            write(&topic, &path);
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file: Value = serde_json::from_str(&text).expect("JSON");
        let vectors = file["vectors"].as_array().expect("an array");
        assert!(vectors.iter().any(|vector| vector.get("out").is_some()), "{}", topic.name);
        for vector in vectors {
            let expected = match vector.get("error") {
                Some(class) => Err(class.as_str().expect("text").to_owned()),
                None => Ok(vector["out"].clone()),
            };
            let found = (topic.check)(&vector["in"]).map_err(str::to_owned);
            assert_eq!(found, expected, "{}: {}", topic.name, vector["about"]);
        }
        stored += 1;
    }
    let files = std::fs::read_dir(directory()).expect("there").count();
    assert_eq!(stored, files, "every file of vectors is used");
}

fn write(topic: &Topic, path: &std::path::Path) {
    let vectors: Vec<Value> = (topic.make)()
        .into_iter()
        .map(|mut vector| {
            match (topic.check)(&vector["in"]) {
                Ok(out) => vector["out"] = out,
                Err(class) => vector["error"] = class.into(),
            }
            vector
        })
        .collect();
    let section = format!("docs/format.md, section {}", topic.section);
    let file = json!({ "about": topic.about, "specified": section, "vectors": vectors });
    std::fs::create_dir_all(directory()).expect("made");
    std::fs::write(path, serde_json::to_string_pretty(&file).expect("JSON") + "\n").expect("written");
}

// Reading and writing JSON.

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal digits");
    text.as_bytes()
        .chunks(2)
        .map(|pair| parse_hex::<1>(std::str::from_utf8(pair).expect("ASCII")).expect("hex")[0])
        .collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("as many bytes")
}

fn secret(value: &Value) -> Secret {
    Secret::take(&mut array(value))
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn vector(about: &str, input: Value) -> Value {
    json!({ "about": about, "in": input })
}

/// A vector like `whole`, with one field of its input changed.
fn changed(whole: &Value, about: &str, field: &str, value: impl Into<Value>) -> Value {
    let mut changed = whole.clone();
    changed["about"] = about.into();
    changed["in"][field] = value.into();
    changed
}

/// A vector whose bytes in `field` have one bit changed.
fn flipped(whole: &Value, about: &str, field: &str, at: usize) -> Value {
    let mut object = bytes(&whole["in"][field]);
    object[at] ^= 1;
    changed(whole, about, field, hex(&object))
}

fn format_class(error: FormatError) -> &'static str {
    match error {
        FormatError::Truncated(_) => "truncated",
        FormatError::WrongMark(_) => "mark",
        FormatError::Invalid { .. } => "invalid",
        FormatError::UnknownAuthor { .. } => "unknown author",
        FormatError::Newer { .. } => "newer",
    }
}

fn crypto_class(error: CryptoError) -> &'static str {
    match error {
        CryptoError::Malformed => "malformed",
        CryptoError::OtherKey => "other key",
        CryptoError::Forged => "forged",
        CryptoError::BadSignature => "bad signature",
        CryptoError::BadKey => "bad key",
    }
}

const REPOSITORY: RepositoryId = RepositoryId([0x11; 16]);
const DOMAIN: DomainId = DomainId([0x22; 16]);
const AT: DomainEpoch = DomainEpoch { domain: DOMAIN, epoch: 1 };

fn reader_key() -> ReaderKey {
    ReaderKey(Secret::take(&mut [0x33; 32]))
}

fn writer_key() -> WriterKey {
    WriterKey(Secret::take(&mut [0x88; 32]))
}

// The topics.

fn derivations() -> Vec<Value> {
    let one = |label: &str, salt: &[u8], length: usize| {
        vector(label, json!({ "key": hex(&[0x33; 32]), "salt": hex(salt), "label": label, "length": length }))
    };
    let mut all: Vec<Value> = ["reader wrap", "signing", "writer wrap", "writer signing", "verdicts"]
        .iter()
        .map(|label| one(label, &REPOSITORY.0, 32))
        .collect();
    all.extend(["chunk id", "index", "session psk"].iter().map(|label| one(label, &DOMAIN.0, 32)));
    all.push(one("gear table", &DOMAIN.0, 2048));
    all.extend(["pack", "envelope I", "envelope S"].iter().map(|label| one(label, &[0x44; 16], 64)));
    all
}

fn derivation(input: &Value) -> Outcome {
    let mut out = vec![0; number(&input["length"]) as usize];
    derive_into(&secret(&input["key"]), &bytes(&input["salt"]), input["label"].as_str().expect("text"), &mut out);
    Ok(hex(&out).into())
}

fn paddings() -> Vec<Value> {
    let lengths = [0u64, 1, 2, 9, 100, 1000, 10_000, 1_284, 99_999, 2_097_151, 2_097_152, 2_097_153, 33_554_400];
    lengths.iter().map(|length| vector("", json!({ "length": length }))).collect()
}

fn padding(input: &Value) -> Outcome {
    let length = number(&input["length"]);
    Ok(json!({ "padme": padme(length), "pack": padded_pack_len(length) }))
}

fn purpose(letter: &Value) -> Purpose {
    match letter.as_str().expect("a letter") {
        "I" => Purpose::Index,
        "L" => Purpose::Lease,
        "S" => Purpose::Snapshot,
        "X" => Purpose::DomainKey,
        "W" => Purpose::DomainDedup,
        "N" => Purpose::Name,
        "D" => Purpose::Cleanup,
        "R" => Purpose::Retention,
        _ => Purpose::Evidence,
    }
}

fn envelopes() -> Vec<Value> {
    let make = |purpose_: Purpose, value: &[u8]| {
        let root = Secret::take(&mut [0x55; 32]);
        let sealed = seal_envelope(&root, REPOSITORY, purpose_, &[0x66; 16], value);
        let letter = char::from(purpose_ as u8).to_string();
        vector(
            "a value",
            json!({ "root": hex(&[0x55; 32]), "repository": hex(&REPOSITORY.0), "purpose": letter,
                    "object": hex(&[0x66; 16]), "sealed": hex(&sealed) }),
        )
    };
    let whole = make(Purpose::Lease, b"value");
    let mut all = vec![
        make(Purpose::Index, b""),
        make(Purpose::Snapshot, &[7; 100]),
        changed(&whole, "another root", "root", hex(&[0x56; 32])),
        changed(&whole, "another purpose", "purpose", "I"),
        changed(&whole, "another object", "object", hex(&[0x67; 16])),
        changed(&whole, "another repository", "repository", hex(&[0x12; 16])),
        flipped(&whole, "a changed salt", "sealed", 0),
        flipped(&whole, "a changed commitment", "sealed", 16),
        flipped(&whole, "changed ciphertext", "sealed", 48),
        changed(&whole, "cut short", "sealed", hex(&bytes(&whole["in"]["sealed"])[..40])),
    ];
    all.insert(0, whole);
    all
}

fn envelope(input: &Value) -> Outcome {
    open_envelope(
        &secret(&input["root"]),
        RepositoryId(array(&input["repository"])),
        purpose(&input["purpose"]),
        &array(&input["object"]),
        &bytes(&input["sealed"]),
    )
    .map(|value| hex(&value).into())
    .map_err(crypto_class)
}

/// The authors that an input lists, each with its key.
struct Listed(BTreeMap<String, VerifyingKey>);

impl Authors for Listed {
    fn key_of(&self, author: Author) -> Option<VerifyingKey> {
        self.0.get(&hex(&author.to_bytes())).copied()
    }
}

fn authoreds() -> Vec<Value> {
    let (root, object) = (Secret::take(&mut [0x55; 32]), [0x66; 16]);
    let (reader, id) = (Signer::reader(&reader_key(), REPOSITORY), WriterId([9; 8]));
    let writer = Signer::writer(id, &writer_key(), REPOSITORY);
    let authors = json!({ hex(&[0; 8]): hex(&reader.verifying_key().0), hex(&id.0): hex(&writer.verifying_key().0) });
    let place = SealedAt { repository: REPOSITORY, object: &object, root: &root };
    let make = |about: &str, form: &str, signer: &Signer| {
        let value = b"a value";
        let sealed = match form {
            "S" => SNAPSHOT.seal(&SessionHeader::from_bytes(&[0xb1; SESSION_HEADER_LEN]), &place, signer, value),
            "I" => INDEX.seal(AT, &place, signer, value),
            "D" => CLEANUP.seal(AT, &place, signer, value),
            _ => LEASE.seal(AT, &place, signer, value),
        };
        vector(
            about,
            json!({ "form": form, "sealed": hex(&sealed), "root": hex(&[0x55; 32]), "repository": hex(&REPOSITORY.0),
                    "object": hex(&object), "authors": authors.clone() }),
        )
    };
    let stranger = Signer::writer(WriterId([8; 8]), &writer_key(), REPOSITORY);
    let impostor = Signer::writer(id, &WriterKey(Secret::take(&mut [0x89; 32])), REPOSITORY);
    let whole = make("a lease by a writer", "L", &writer);
    vec![
        make("an index segment by a reader", "I", &reader),
        make("a snapshot by a writer", "S", &writer),
        make("a list by a reader", "D", &reader),
        make("by a writer whom nobody knows", "L", &stranger),
        make("in another's name", "L", &impostor),
        flipped(&whole, "moved to another epoch", "sealed", 24),
        changed(&whole, "under another name", "object", hex(&[0x67; 16])),
        changed(&whole, "without an author block", "sealed", {
            let envelope = seal_envelope(&root, REPOSITORY, Purpose::Lease, &object, b"a value");
            hex(&[b"coffreL\x01".as_slice(), &AT.domain.0, &AT.epoch.to_le_bytes(), &envelope].concat())
        }),
        changed(&whole, "signed in an unknown way", "sealed", {
            let before = [b"coffreL\x01".as_slice(), &AT.domain.0, &AT.epoch.to_le_bytes()].concat();
            let subject =
                SignedSubject { repository: REPOSITORY, purpose: Purpose::Lease, object: &object, before: &before };
            let mut block = writer.block(&subject, b"a value");
            block[WriterId::LEN] = 2;
            let value = [&block[..], b"a value"].concat();
            let envelope = seal_envelope(&root, REPOSITORY, Purpose::Lease, &object, &value);
            hex(&[&before[..], &envelope].concat())
        }),
        whole,
    ]
}

fn authored(input: &Value) -> Outcome {
    let (sealed, root, object) = (bytes(&input["sealed"]), secret(&input["root"]), array(&input["object"]));
    let keys = input["authors"].as_object().expect("a map").iter();
    let authors = Listed(keys.map(|(id, key)| (id.clone(), VerifyingKey(array(key)))).collect());
    let place = SealedAt { repository: RepositoryId(array(&input["repository"])), object: &object, root: &root };
    let opened = match input["form"].as_str().expect("a letter") {
        "S" => SNAPSHOT.open(&sealed, &place, &authors),
        "I" => INDEX.open(&sealed, &place, &authors),
        "D" => CLEANUP.open(&sealed, &place, &authors),
        _ => LEASE.open(&sealed, &place, &authors),
    };
    let opened = opened.map_err(format_class)?;
    Ok(json!({ "author": hex(&opened.author.to_bytes()), "value": hex(opened.value()) }))
}

fn slots() -> Vec<Value> {
    let make = |about: &str, root: RootKey, lock: &SlotLock, passphrase: &str| {
        let verifying_key = reader_key().verifying_key(REPOSITORY);
        let hosts = if matches!(root, RootKey::Writer(_)) { vec!["db1".into(), "db2".into()] } else { vec![] };
        let slot = Slot { repository: REPOSITORY, root, verifying_key, label: "test".into(), hosts };
        let file = seal_slot(lock, &slot.encode()).expect("sealed");
        vector(about, json!({ "file": hex(&file), "passphrase": passphrase }))
    };
    let identity = crate::crypto::slot::new_recovery_identity().expose().to_owned();
    let recovery = SlotLock::Recovery(Passphrase::new(identity.clone()));
    let typed = identity.to_lowercase().replace('-', " ");
    let whole = make(
        "a passphrase, as UTF-8",
        RootKey::Reader(reader_key()),
        &SlotLock::Recovery(Passphrase::new("pässphrase".into())),
        "pässphrase",
    );
    vec![
        changed(&whole, "another passphrase", "passphrase", "passphrase"),
        flipped(&whole, "a changed header", "file", 30),
        changed(&whole, "not an age file", "file", hex(b"age-encryption.org/v2\n")),
        make("the key of a writer, for two hosts", RootKey::Writer(writer_key()), &recovery, &identity),
        make("a recovery identity typed from paper", RootKey::Reader(reader_key()), &recovery, &typed),
        whole,
    ]
}

fn slot(input: &Value) -> Outcome {
    let passphrase = Passphrase::new(input["passphrase"].as_str().expect("text").to_owned());
    slot_opened_by(&Opener::Passphrase(passphrase), input)
}

fn recipients() -> Vec<Value> {
    let identity = || {
        let identity = age::x25519::Identity::generate();
        let public = Recipient::parse(&identity.to_public().to_string()).expect("a public key");
        (SlotLock::Recipient(public), identity.to_string().expose_secret().to_owned())
    };
    let ((lock, own), (_, other)) = (identity(), identity());
    let slot = Slot::of_reader(REPOSITORY, &reader_key(), "test");
    let file = seal_slot(&lock, &slot.encode()).expect("sealed");
    let whole = vector("a private key of age", json!({ "file": hex(&file), "identity": own }));
    vec![
        changed(&whole, "another private key", "identity", other),
        flipped(&whole, "a changed header", "file", 40),
        flipped(&whole, "a changed payload", "file", file.len() - 1),
        whole,
    ]
}

fn recipient(input: &Value) -> Outcome {
    let text = input["identity"].as_str().expect("text");
    let Ok(IdentityFile::Open(identities)) = IdentityFile::read(text.as_bytes()) else { return Err("no key") };
    slot_opened_by(&Opener::Identities(identities), input)
}

fn slot_opened_by(opener: &Opener, input: &Value) -> Outcome {
    let content = opener.open(&bytes(&input["file"])).map_err(crypto_class)?.ok_or("other key")?;
    let slot = Slot::decode(&content).map_err(format_class)?;
    let (role, key) = match &slot.root {
        RootKey::Reader(key) => ("reader", &key.0),
        RootKey::Writer(key) => ("writer", &key.0),
    };
    Ok(json!({ "role": role, "key": hex(key.expose()), "repository": hex(&slot.repository.0),
               "verifying_key": hex(&slot.verifying_key.0), "label": slot.label, "hosts": slot.hosts }))
}

fn fingerprints() -> Vec<Value> {
    let own = reader_key().verifying_key(REPOSITORY);
    let keys = [(REPOSITORY.0, own.0), ([0; 16], [0; 32]), ([0xff; 16], own.0), (REPOSITORY.0, [0xff; 32])];
    let make = |(repository, key): ([u8; 16], [u8; 32])| {
        vector("", json!({ "repository": hex(&repository), "verifying_key": hex(&key) }))
    };
    keys.map(make).to_vec()
}

fn fingerprint(input: &Value) -> Outcome {
    let key = VerifyingKey(array(&input["verifying_key"]));
    Ok(Fingerprint::of(RepositoryId(array(&input["repository"])), &key).to_string().into())
}

fn recoveries() -> Vec<Value> {
    let identity = crate::crypto::slot::new_recovery_identity();
    let identity = identity.expose();
    let mistyped = {
        let last = if identity.ends_with('7') { "8" } else { "7" };
        format!("{}{last}", &identity[..identity.len() - 1])
    };
    let typed = |about: &str, text: String| vector(about, json!({ "typed": text }));
    vec![
        typed("as printed", identity.to_owned()),
        typed(
            "small letters, spaces, look-alikes",
            format!(" {} ", identity.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l")),
        ),
        typed("without hyphens behind the prefix", format!("COFFRE-RECOVERY{}", identity[15..].replace('-', ""))),
        typed("mistyped", mistyped),
        typed("cut short", identity[..identity.len() - 5].to_owned()),
    ]
}

fn recovery(input: &Value) -> Outcome {
    normalise_recovery(input["typed"].as_str().expect("text"))
        .map(|identity| identity.as_str().into())
        .ok_or("mistyped")
}

fn profile(numbers: [u32; 4]) -> ChunkerProfile {
    let [min, avg, max, normalization] = numbers;
    ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min, avg, max, normalization: normalization as u8 }
}

fn configs() -> Vec<Value> {
    let make = |about: &str, version: u64, read: Vec<String>| {
        let config = Config {
            repository: REPOSITORY,
            counter: 3,
            version,
            created: Timestamp::from_seconds(1_790_000_000),
            required: RequiredFeatures { read, ..RequiredFeatures::default() },
            files: profile([65_536, 262_144, 1_048_576, 2]),
            streams: profile([2_048, 8_192, 32_768, 2]),
            pack_target_bytes: 32 << 20,
        };
        let object = config.encode(|payload| reader_key().sign(Signed::Config, REPOSITORY, payload));
        let verifying_key = reader_key().verifying_key(REPOSITORY);
        vector(
            about,
            json!({ "object": hex(&object), "repository": hex(&REPOSITORY.0), "verifying_key": hex(&verifying_key.0) }),
        )
    };
    let whole = make("a configuration", 1, vec![]);
    vec![
        flipped(&whole, "a changed payload", "object", 90),
        flipped(&whole, "a changed signature", "object", 20),
        flipped(&whole, "another mark", "object", 6),
        changed(&whole, "signed for another repository", "repository", hex(&[0x12; 16])),
        make("a newer version", 2, vec![]),
        make("a feature that reading requires", 1, vec!["something".into()]),
        whole,
    ]
}

fn config(input: &Value) -> Outcome {
    let (repository, key) = (RepositoryId(array(&input["repository"])), VerifyingKey(array(&input["verifying_key"])));
    let config = Config::decode(&bytes(&input["object"]), repository, &key).map_err(format_class)?;
    config.check_features(&config.required.read).map_err(|_| "feature")?;
    let profile = |p: ChunkerProfile| json!([p.algorithm, p.min, p.avg, p.max, p.normalization]);
    Ok(json!({ "counter": config.counter, "version": config.version, "created": config.created.seconds,
               "files": profile(config.files), "streams": profile(config.streams),
               "pack_target_bytes": config.pack_target_bytes }))
}

fn keyrings() -> Vec<Value> {
    let (secret_key, public_key) = new_domain_key();
    let dedup = DedupSecret { secret: Secret::take(&mut [0x77; 32]), at: AT };
    let record = DomainRecord::seal(REPOSITORY, &reader_key(), "main", &dedup, &secret_key, public_key);
    let named = |id: u8, role, object: &[u8], label: &str| {
        let name = SlotName { label: label.into(), made: Timestamp::from_seconds(1_790_000_000) };
        SlotRecord::new(REPOSITORY, &reader_key(), (SlotId([id; 8]), role), object, &name)
    };
    let slots = vec![
        named(1, Role::Reader, b"the bytes of a slot", "Alice"),
        named(2, Role::Writer, b"the bytes of another", "database hosts"),
    ];
    let writer = |id: u8, name: &str, hosts: &[&str], group| {
        let name = WriterName { name: name.into(), hosts: hosts.iter().map(|host| (*host).to_owned()).collect() };
        WriterRecord::new(REPOSITORY, &reader_key(), WriterId([id; 8]), &writer_key(), &name, group)
    };
    let mut writes = writer(1, "database hosts", &["db1", "db2"], Some(7));
    writes.grant(REPOSITORY, &reader_key(), "main", &dedup).expect("sealed for this reader");
    let mut revoked = writer(2, "thrown out", &[], None);
    (revoked.is_revoked, revoked.counting) = (true, vec![[0x5a; 32]]);
    let twin = writer(1, "thrown out", &[], None);
    let nobody = writer(0, "thrown out", &[], None);
    let erased = vec![Erased { at: DomainEpoch { epoch: 4, ..AT }, when: Timestamp::from_seconds(1_790_000_000) }];
    let make = |about: &str, writers: Vec<WriterRecord>| {
        let (domains, erased, slots) = (vec![record.clone()], erased.clone(), slots.clone());
        let object =
            Keyring { repository: REPOSITORY, counter: 2, domains, writers, erased, slots }.encode(&reader_key());
        let input = json!({ "object": hex(&object), "repository": hex(&REPOSITORY.0), "reader_key": hex(&[0x33; 32]),
                            "writer_key": hex(&[0x88; 32]) });
        vector(about, input)
    };
    let whole = make("one domain, two writers, an erased epoch and two slots", vec![writes.clone(), revoked]);
    let end = bytes(&whole["in"]["object"]).len() - 1;
    vec![
        make("a writer without id", vec![nobody]),
        make("two writers of one id", vec![writes, twin]),
        flipped(&whole, "a changed envelope", "object", end),
        flipped(&whole, "a changed signature", "object", 8),
        changed(&whole, "another reader key", "reader_key", hex(&[0x34; 32])),
        whole,
    ]
}

fn keyring(input: &Value) -> Outcome {
    let reader = ReaderKey(secret(&input["reader_key"]));
    let repository = RepositoryId(array(&input["repository"]));
    let keyring = Keyring::decode(&bytes(&input["object"]), repository, &reader.verifying_key(repository));
    let keyring = keyring.map_err(format_class)?;
    let domain = |record: &DomainRecord| -> Outcome {
        let (name, dedup) = record.open_dedup(repository, &reader).map_err(format_class)?;
        let seed = record.open_secret(repository, &reader).map_err(format_class)?;
        Ok(json!({ "id": hex(&record.at.domain.0), "epoch": record.at.epoch, "name": name,
                   "dedup_secret": hex(dedup.secret.expose()), "seed": hex(seed.0.expose()),
                   "public_key": hex(record.public_key.as_bytes()) }))
    };
    let domains = keyring.domains.iter().map(domain).collect::<Result<Vec<_>, _>>()?;
    let own = WriterKey(secret(&input["writer_key"]));
    let writer = |record: &WriterRecord| -> Outcome {
        let WriterName { name, hosts } = record.open_name(repository, &reader).map_err(format_class)?;
        let granted = record.open_dedups(repository, &own).map_err(format_class)?;
        let granted = granted.iter().map(|(name, dedup)| {
            json!({ "domain": hex(&dedup.at.domain.0), "epoch": dedup.at.epoch, "name": name,
                    "dedup_secret": hex(dedup.secret.expose()) })
        });
        Ok(json!({ "id": record.id.to_string(), "verifying_key": hex(&record.verifying_key.0), "name": name,
                   "hosts": hosts, "granted": granted.collect::<Vec<_>>(), "revoked": record.is_revoked,
                   "group": record.group, "counting": record.counting.iter().map(|list| hex(list)).collect::<Vec<_>>() }))
    };
    let writers = keyring.writers.iter().map(writer).collect::<Result<Vec<_>, _>>()?;
    let erased = |it: &Erased| json!([hex(&it.at.domain.0), it.at.epoch, it.when.seconds]);
    let erased: Vec<Value> = keyring.erased.iter().map(erased).collect();
    let slot = |slot: &SlotRecord| -> Outcome {
        let SlotName { label, made } = slot.open_name(repository, &reader).map_err(format_class)?;
        Ok(json!({ "id": slot.id.to_string(), "role": slot.role, "hash": hex(slot.hash()), "label": label,
                   "made": made.seconds }))
    };
    let slots = keyring.slots.iter().map(slot).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "counter": keyring.counter, "domains": domains, "writers": writers, "erased": erased, "slots": slots }))
}

fn sessions() -> Vec<Value> {
    let (seed, public) = new_domain_key();
    let dedup = DedupSecret { secret: Secret::take(&mut [0x77; 32]), at: AT };
    let (_, header) = new_session(REPOSITORY, &dedup, &public).expect("a good key");
    let input = json!({ "header": hex(&header.to_bytes()), "repository": hex(&REPOSITORY.0),
                        "seed": hex(seed.0.expose()), "dedup_secret": hex(&[0x77; 32]) });
    let whole = vector("a session", input);
    vec![
        flipped(&whole, "another session id", "header", 0),
        flipped(&whole, "another domain", "header", 16),
        flipped(&whole, "a changed encapsulation", "header", 100),
        flipped(&whole, "a changed secret", "header", 1160),
        changed(&whole, "another repository", "repository", hex(&[0x12; 16])),
        changed(&whole, "sealed by somebody with another dedup secret", "dedup_secret", hex(&[0x78; 32])),
        whole,
    ]
}

fn session(input: &Value) -> Outcome {
    let header = SessionHeader::from_bytes(&array::<SESSION_HEADER_LEN>(&input["header"]));
    let dedup = DedupSecret { secret: secret(&input["dedup_secret"]), at: header.at };
    let key = DomainSecretKey(secret(&input["seed"]));
    let secret = header.open(RepositoryId(array(&input["repository"])), &key, &dedup);
    secret.map(|secret| hex(secret.0.expose()).into()).map_err(crypto_class)
}

fn cuttings() -> Vec<Value> {
    let make = |numbers: [u32; 4], length: usize| {
        vector(
            "cut with a profile of minimum, average, maximum and normalisation; the content is BLAKE3's extended output of nothing",
            json!({ "dedup_secret": hex(&[0x77; 32]), "domain": hex(&DOMAIN.0), "profile": numbers, "length": length }),
        )
    };
    vec![
        make([2_048, 8_192, 32_768, 2], 200_000),
        make([65_536, 262_144, 1_048_576, 2], 3_000_000),
        make([1_024, 4_096, 16_384, 1], 100_000),
        make([64, 256, 1_024, 3], 5_000),
        make([256, 1_024, 4_096, 0], 10),
    ]
}

fn cutting(input: &Value) -> Outcome {
    let at = DomainEpoch { domain: DomainId(array(&input["domain"])), epoch: 1 };
    let dedup = DedupSecret { secret: secret(&input["dedup_secret"]), at };
    let numbers: Vec<u32> = input["profile"].as_array().expect("four").iter().map(|n| number(n) as u32).collect();
    let chunker = Chunker::new(profile(numbers.try_into().expect("four")), &dedup.gear_table());
    let mut content = vec![0; number(&input["length"]) as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let (hasher, mut rest, mut chunks) = (ChunkHasher::new(&dedup), &content[..], Vec::new());
    while let Some(length) = chunker.cut(rest, true) {
        chunks.push(json!({ "length": length, "id": hex(&hasher.id(&rest[..length]).0) }));
        rest = &rest[length..];
    }
    Ok(chunks.into())
}

fn recipes() -> Vec<Value> {
    let key = |byte: u8| ChunkKey([byte; 16]);
    let chunk = |byte: u8, plain: &[u8]| json!([hex(&key(byte).0), hex(plain)]);
    let chunks = json!([chunk(1, b"the rows of yesterday, one behind the other"), chunk(2, b"a new row;")]);
    let make = |about: &str, recipe: &[u8]| vector(about, json!({ "recipe": hex(recipe), "chunks": chunks }));
    let parts = [(key(1), 4, 5), (key(2), 0, 10), (key(1), 9, 13), (key(1), 3, 19), (key(2), 2, 8), (key(2), 0, 2)];
    let encoded = Recipe::new(1, &parts).expect("a recipe").encode();
    // All numbers of this one are below 128, so each is a byte: two before the table, one behind it.
    let (table, items) = (3, 3 + 2 * 16);
    let with = |at: usize, byte: u8| {
        let mut changed = encoded.clone();
        changed[at] = byte;
        changed
    };
    let count = usize::from(encoded[items]);
    let (which, steps, lengths) = (items + 1, items + 1 + count, items + 1 + 2 * count);
    vec![
        make("parts of two chunks, forwards and backwards", &encoded),
        make("the deepest", &Recipe::new(4, &parts).expect("a recipe").encode()),
        make("a whole chunk", &Recipe::new(1, &[(key(2), 0, 10)]).expect("a recipe").encode()),
        make("a part that reaches beyond its chunk", &Recipe::new(1, &[(key(2), 3, 8)]).expect("decodes").encode()),
        make("a window of no bytes", &with(0, 0)),
        make("another length than its parts have", &with(0, encoded[0] + 1)),
        make("depth 0", &with(1, 0)),
        make("depth 5", &with(1, 5)),
        make("no chunks", &with(2, 0)),
        make("a chunk named twice", &[&encoded[..table], &[7; 32], &encoded[items..]].concat()),
        make("more items than there are", &with(items, 100)),
        make("chunks out of order", &with(which, 1)),
        make("a chunk that is not in the table", &with(which + 1, 2)),
        make("a part before its chunk", &with(steps, 9)),
        make("a part of no bytes", &with(lengths, 0)),
        make("cut short", &encoded[..encoded.len() - 1]),
        make("a byte too many", &[&encoded[..], &[0]].concat()),
        make(
            "a window of 8 MiB and a byte",
            &[&[0x81, 0x80, 0x80, 0x04, 1, 1][..], &[1; 16], &[1, 0, 0, 0x81, 0x80, 0x80, 0x04]].concat(),
        ),
        make(
            "an offset of 64 bits",
            &[&[1, 1, 1][..], &[1; 16], &[1, 0, 0xfe, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1]].concat(),
        ),
    ]
}

fn recipe(input: &Value) -> Outcome {
    let recipe = Recipe::decode(&bytes(&input["recipe"])).map_err(format_class)?;
    let chunks: BTreeMap<ChunkKey, Vec<u8>> = input["chunks"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|chunk| (ChunkKey(array(&chunk[0])), bytes(&chunk[1])))
        .collect();
    let (mut window, mut items) = (Vec::new(), Vec::new());
    for item in recipe.items() {
        let chunk = &chunks[&recipe.chunks()[usize::from(item.chunk)]];
        window.extend_from_slice(chunk.get(item.offset as usize..item.end() as usize).ok_or("part")?);
        items.push(json!([item.chunk, item.offset, item.length]));
    }
    let names: Vec<String> = recipe.chunks().iter().map(|key| hex(&key.0)).collect();
    Ok(json!({ "length": recipe.length(), "depth": recipe.depth(), "chunks": names, "items": items,
               "window": hex(&window) }))
}

fn packs() -> Vec<Value> {
    let (_, public) = new_domain_key();
    let (session, header) = new_session(REPOSITORY, &DedupSecret::random(AT), &public).expect("a good key");
    let mut builder = PackBuilder::new(&session, Arc::new(header), REPOSITORY, PackKind::Data, 4096);
    let text = b"the same words again and again, ".repeat(20);
    let mut compressor = Compressor::new(3);
    for chunks in [&[(1, &text[..400]), (2, &text[400..])][..], &[(3, b"stored as it is")]] {
        let mut frame = Frame::default();
        chunks.iter().for_each(|(id, plaintext)| frame.push(&ChunkId([*id; 32]), plaintext));
        builder.push_frame(frame.encode(&mut compressor));
    }
    let image = builder.finish();
    let whole = vector(
        "two frames",
        json!({ "object": hex(image.bytes()), "pack": hex(&image.entry().id.0), "repository": hex(&REPOSITORY.0),
                "session_secret": hex(session.0.expose()) }),
    );
    let len = image.bytes().len();
    let directory: usize = image.entry().directory.frames_len() as usize;
    vec![
        flipped(&whole, "a changed frame", "object", 3),
        flipped(&whole, "a changed directory", "object", directory),
        flipped(&whole, "a changed tail", "object", len - TRAILER_LEN),
        flipped(&whole, "a changed commitment", "object", len - TRAILER_LEN + 40),
        flipped(&whole, "another mark", "object", len - 2),
        changed(&whole, "under another name", "pack", hex(&[0x99; 16])),
        changed(&whole, "another repository", "repository", hex(&[0x12; 16])),
        changed(&whole, "another session", "session_secret", hex(&[0x99; 32])),
        changed(&whole, "its first byte is missing", "object", hex(&image.bytes()[1..])),
        whole,
    ]
}

fn pack(input: &Value) -> Outcome {
    let object = bytes(&input["object"]);
    let trailer = Trailer::decode(&object[object.len() - TRAILER_LEN..]).map_err(format_class)?;
    let session = SessionSecret(secret(&input["session_secret"]));
    let (repository, id) = (RepositoryId(array(&input["repository"])), PackId(array(&input["pack"])));
    let opener = PackOpener::new(&session, repository, id, &trailer.commitment).map_err(crypto_class)?;
    let mut tail = trailer.sealed_tail;
    let tail = Tail::decode(opener.open_tail(&mut tail).map_err(crypto_class)?).map_err(format_class)?;
    if tail.object_len as usize != object.len() {
        return Err("length");
    }
    let start = tail.directory_offset as usize;
    let mut sealed = object[start..start + tail.directory_len as usize].to_vec();
    let directory = opener.open_directory(&mut sealed).map_err(crypto_class)?;
    let directory = PackDirectory::decode(directory).map_err(format_class)?;
    let (mut offset, mut frames) = (0, Vec::new());
    for (number, record) in (0u32..).zip(&directory.frames) {
        let mut sealed = object[offset..offset + record.sealed_len as usize].to_vec();
        offset += record.sealed_len as usize;
        let encoded = opener.open_frame(number, &mut sealed).map_err(crypto_class)?;
        let plain = decompress(record.codec, encoded, record.plain_len).map_err(|_| "undecodable")?;
        let chunks: Vec<Value> =
            record.chunks.iter().map(|(key, length)| json!({ "key": hex(&key.0), "length": length })).collect();
        frames.push(json!({ "codec": record.codec as u8, "plaintext": hex(&plain), "chunks": chunks }));
    }
    Ok(json!({ "kind": tail.kind as u8, "frames": frames }))
}

fn segments() -> Vec<Value> {
    let header = |byte: u8| Arc::new(SessionHeader::from_bytes(&[byte; SESSION_HEADER_LEN]));
    let pack = |byte: u8, header: &Arc<SessionHeader>, lengths: &[u32]| PackEntry {
        id: PackId([byte; 16]),
        kind: if byte == 1 { PackKind::Data } else { PackKind::Tree },
        size: 5_000,
        digest: [byte ^ 0xff; 32],
        locked_until: if byte == 2 { 20_727 } else { 0 },
        commitment: [byte; 32],
        header: header.clone(),
        directory: PackDirectory {
            frames: vec![crate::format::pack::FrameRecord {
                sealed_len: 16 + lengths.iter().sum::<u32>(),
                plain_len: lengths.iter().sum(),
                codec: Codec::Stored,
                chunks: lengths.iter().map(|length| (ChunkKey([*length as u8; 16]), *length)).collect(),
            }],
        },
    };
    let (one, two) = (header(0xa1), header(0xa2));
    let segment =
        IndexSegment::of(Author::Reader, vec![pack(1, &one, &[300, 5]), pack(2, &two, &[7]), pack(3, &one, &[9; 3])]);
    let whole = vector("three packs of two sessions", json!({ "value": hex(&segment.encode()) }));
    let value = segment.encode();
    let twice = IndexSegment::of(Author::Reader, vec![pack(1, &one, &[300]), pack(1, &one, &[7])]);
    let empty = IndexSegment::of(Author::Reader, vec![pack(1, &one, &[300, 0])]);
    let repeated = IndexSegment::repeating(Author::Writer(WriterId([0xb1; 8])), segment.packs().to_vec());
    let nobodys = [&value[..], &[0; 8]].concat();
    vec![
        vector("a reader repeats what a writer said", json!({ "value": hex(&repeated.encode()) })),
        changed(&whole, "a reader repeats what a reader said", "value", hex(&nobodys)),
        changed(&whole, "cut short", "value", hex(&value[..value.len() - 1])),
        changed(&whole, "a byte too many", "value", hex(&[&value[..], &[0]].concat())),
        changed(&whole, "a pack named twice", "value", hex(&twice.encode())),
        changed(&whole, "a chunk of length zero", "value", hex(&empty.encode())),
        vector("no packs", json!({ "value": hex(&IndexSegment::of(Author::Reader, vec![]).encode()) })),
        whole,
    ]
}

fn segment(input: &Value) -> Outcome {
    let segment = IndexSegment::decode(Author::Reader, &bytes(&input["value"])).map_err(format_class)?;
    let frame = |frame: &crate::format::pack::FrameRecord| {
        json!({ "sealed": frame.sealed_len, "plain": frame.plain_len, "codec": frame.codec as u8,
                "chunks": frame.chunks.iter().map(|(key, length)| json!([hex(&key.0), length])).collect::<Vec<_>>() })
    };
    let pack = |pack: &PackEntry| {
        let mut told = json!({ "id": hex(&pack.id.0), "kind": pack.kind as u8, "size": pack.size, "digest": hex(&pack.digest),
                "locked_until": pack.locked_until, "commitment": hex(&pack.commitment),
                "session": hex(&pack.header.session.0), "frames": pack.directory.frames.iter().map(frame).collect::<Vec<_>>() });
        if let Author::Writer(writer) = segment.author() {
            told["said_by"] = hex(&writer.0).into();
        }
        told
    };
    Ok(segment.packs().iter().map(pack).collect::<Vec<_>>().into())
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let metadata = Metadata {
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        user: Some(b"shop".to_vec()),
        group: None,
        mtime: Timestamp { seconds: -2, nanos: 5 },
        ctime: Timestamp { seconds: 1_790_000_000, nanos: 0 },
        inode: 77,
        device: 2049,
        links: 2,
        xattrs: [(b"user.note".to_vec(), vec![0, 255])].into(),
        looks_random: path == b"large",
    };
    Entry { path: EntryPath::new(path).expect("safe"), kind, metadata }
}

fn nodes() -> Vec<Value> {
    let chunk = |byte: u8, length: u32| ChunkRef { id: ChunkId([byte; 32]), length };
    let file = |size, chunks, holes| EntryKind::File(FileContent { size, chunks, holes });
    let detail = StreamDetail {
        command: vec![b"pg_dump".to_vec(), b"shop".to_vec()],
        duration_ms: 1500,
        facts: BTreeMap::from([("engine".to_owned(), "postgresql".to_owned())]).into(),
    };
    let content = |size, list| FileContent { size, chunks: list, holes: vec![] };
    let indirect = ChunkList::Indirect { root: ChunkId([8; 32]), depth: 2, chunks: 5000 };
    let entries = [
        entry(b"a", EntryKind::Directory),
        entry(b"a/b", file(10, ChunkList::Inline(vec![chunk(1, 10)]), vec![])),
        entry(
            b"a/\xff\n",
            file(40, ChunkList::Inline(vec![chunk(2, 8), chunk(3, 4)]), vec![Hole { offset: 10, length: 28 }]),
        ),
        entry(b"a-b", file(0, ChunkList::Inline(vec![]), vec![])),
        entry(b"dev", EntryKind::BlockDevice(2065)),
        entry(b"fifo", EntryKind::Fifo),
        entry(b"large", file(40_000_000, indirect, vec![])),
        entry(b"link", EntryKind::Symlink(b"../elsewhere".to_vec())),
        entry(b"null", EntryKind::CharDevice(259)),
        entry(b"shop.sql", EntryKind::Stream(content(12, ChunkList::Inline(vec![chunk(4, 12)])), detail)),
        entry(b"socket", EntryKind::Socket),
    ];
    let mut leaf = LeafBuilder::default();
    entries.iter().for_each(|entry| leaf.push(entry));
    let (leaf_bytes, _) = leaf.finish();
    let child = |path: &[u8], byte: u8| TreeChild {
        first: EntryPath::new(path).expect("safe"),
        id: ChunkId([byte; 32]),
        entries: 300,
        bytes: 1 << 33,
    };
    let list = |byte: u8| ListChild { id: ChunkId([byte; 32]), chunks: 700, bytes: 6_000_000 };
    let two = |first: &[u8], second: &[u8]| {
        // One node of each entry, taken apart and put together without the builder's order.
        let item = |path: &[u8]| {
            let mut leaf = LeafBuilder::default();
            leaf.push(&entry(b"x", EntryKind::Fifo));
            let record = leaf.finish().0[5..].to_vec();
            [&[0, path.len() as u8], path, &record].concat()
        };
        [&[1, 2], &item(first)[..], &item(second)].concat()
    };
    let node = |about: &str, node: &[u8]| vector(about, json!({ "node": hex(node) }));
    vec![
        node("entries of every kind", &leaf_bytes),
        node("no entries", &[1, 0]),
        node("children", &encode_children(&[child(b"a", 1), child(b"a/b/c", 2), child(b"a-b", 3)])),
        node("chunks", &encode_chunks(&[chunk(1, 100), chunk(2, 70_000)])),
        node("lists", &encode_lists(&[list(1), list(2)])),
        node("two entries in order", &two(b"a", b"b")),
        node("out of order", &two(b"b", b"a")),
        node("a path twice", &two(b"a", b"a")),
        node("bytewise order would be a-b before a/b", &two(b"a-b", b"a/b")),
        node("a path that leads out", &two(b"..", b"a")),
        node("an absolute path", &two(b"/a", b"b")),
        node("an empty component", &two(b"a//b", b"b")),
        node("an unknown kind of node", &[9, 0]),
        node("cut short", &leaf_bytes[..leaf_bytes.len() - 1]),
        node("bytes left over", &[&leaf_bytes[..], &[0]].concat()),
        node("more items than bytes", &[3, 0xff, 0xff, 0x7f]),
    ]
}

fn node(input: &Value) -> Outcome {
    let node = Node::decode(&bytes(&input["node"])).map_err(format_class)?;
    Ok(match node {
        Node::Entries(entries) => json!({ "entries": entries.iter().map(describe).collect::<Vec<_>>() }),
        Node::Children(children) => {
            let child = |c: &TreeChild| json!({ "first": hex(c.first.as_bytes()), "id": hex(&c.id.0), "entries": c.entries, "bytes": c.bytes });
            json!({ "children": children.iter().map(child).collect::<Vec<_>>() })
        }
        Node::Chunks(chunks) => json!({ "chunks": chunks.iter().map(described_chunk).collect::<Vec<_>>() }),
        Node::Lists(lists) => {
            let list = |l: &ListChild| json!({ "id": hex(&l.id.0), "chunks": l.chunks, "bytes": l.bytes });
            json!({ "lists": lists.iter().map(list).collect::<Vec<_>>() })
        }
    })
}

fn described_chunk(chunk: &ChunkRef) -> Value {
    json!([hex(&chunk.id.0), chunk.length])
}

fn describe(entry: &Entry) -> Value {
    let m = &entry.metadata;
    let time = |t: Timestamp| json!([t.seconds, t.nanos]);
    let name = |name: &Option<Vec<u8>>| name.as_ref().map(|name| hex(name));
    let (kind, more) = match &entry.kind {
        EntryKind::File(_) => (0, json!(null)),
        EntryKind::Directory => (1, json!(null)),
        EntryKind::Symlink(target) => (2, json!(hex(target))),
        EntryKind::Fifo => (3, json!(null)),
        EntryKind::Socket => (4, json!(null)),
        EntryKind::CharDevice(number) => (5, json!(number)),
        EntryKind::BlockDevice(number) => (6, json!(number)),
        EntryKind::Stream(_, detail) => (
            7,
            json!({ "command": detail.command.iter().map(|word| hex(word)).collect::<Vec<_>>(),
                    "duration_ms": detail.duration_ms, "facts": detail.facts.texts() }),
        ),
    };
    let content = entry.content().map(|content| {
        let chunks = match &content.chunks {
            ChunkList::Inline(chunks) => json!(chunks.iter().map(described_chunk).collect::<Vec<_>>()),
            ChunkList::Indirect { root, depth, chunks } => {
                json!({ "root": hex(&root.0), "depth": depth, "chunks": chunks })
            }
        };
        let holes: Vec<_> = content.holes.iter().map(|hole| json!([hole.offset, hole.length])).collect();
        json!({ "size": content.size, "chunks": chunks, "holes": holes })
    });
    let xattrs: Vec<_> = m.xattrs.iter().map(|(name, value)| json!([hex(name), hex(value)])).collect();
    json!({ "path": hex(entry.path.as_bytes()), "kind": kind, "mode": m.mode, "uid": m.uid, "gid": m.gid,
            "user": name(&m.user), "group": name(&m.group), "mtime": time(m.mtime), "ctime": time(m.ctime),
            "inode": m.inode, "device": m.device, "links": m.links, "looks_random": m.looks_random, "xattrs": xattrs, "content": content, "more": more })
}

fn example_snapshot(header: &SessionHeader) -> Snapshot {
    Snapshot {
        id: SnapshotId::new(Timestamp::from_seconds(1_790_000_000), [5; 8]),
        session: header.session,
        author: Author::Reader,
        foreign: None,
        forgotten: None,
        held: None,
        at: header.at,
        started: Timestamp { seconds: 1_790_000_000, nanos: 17 },
        finished: Timestamp { seconds: 1_790_000_060, nanos: 0 },
        host: "db1".into(),
        user: "backup".into(),
        job: "nightly".into(),
        tags: vec!["a".into(), "b".into()],
        sources: vec![b"/srv".to_vec(), b"shop.sql".to_vec()],
        program: "coffre 0.1.0".into(),
        parent: Some(SnapshotId::new(Timestamp::from_seconds(1_780_000_000), [4; 8])),
        root: TreeRoot { id: ChunkId([6; 32]), depth: 2 },
        counts: SnapshotCounts {
            files: 1,
            directories: 2,
            streams: 3,
            others: 4,
            bytes: 5,
            new_bytes: 6,
            stored_bytes: 7,
            unreadable: 8,
        },
        missing: vec![],
        anomalies: vec![],
        position: Position { number: 12, before: Some([8; 32]) },
        honoured: Some(3),
        other_epochs: vec![1, 2],
        digest: None,
    }
}

fn make_manifest(about: &str, snapshot: &Snapshot, session: SessionId) -> Value {
    vector(
        about,
        json!({ "name": snapshot.id.object_name(), "session": hex(&session.0), "value": hex(&encode_snapshot(snapshot)) }),
    )
}

fn incomplete_manifests() -> Vec<Value> {
    let header = SessionHeader::from_bytes(&[0xb1; SESSION_HEADER_LEN]);
    let missing = |name: &str| MissingStream { name: name.into(), why: "pg_dump failed with status 1".into() };
    let one = Snapshot { missing: vec![missing("postgres/shop.dump")], ..example_snapshot(&header) };
    let two = Snapshot { missing: vec![missing("a"), missing("b")], ..example_snapshot(&header) };
    vec![
        make_manifest("one stream missing", &one, header.session),
        make_manifest("two streams missing", &two, header.session),
    ]
}

fn incomplete_manifest(input: &Value) -> Outcome {
    let mut out = manifest(input)?;
    let header = SessionHeader::from_bytes(&[0xb1; SESSION_HEADER_LEN]);
    let id = example_snapshot(&header).id;
    let snapshot = decode_snapshot(id, &header, Author::Reader, &bytes(&input["value"])).map_err(format_class)?;
    out["missing"] = snapshot.missing.iter().map(|it| json!([it.name, it.why])).collect();
    Ok(out)
}

fn manifests() -> Vec<Value> {
    let header = SessionHeader::from_bytes(&[0xb1; SESSION_HEADER_LEN]);
    let snapshot = example_snapshot(&header);
    let make = make_manifest;
    let later = Snapshot { started: Timestamp::from_seconds(snapshot.started.seconds + 1), ..snapshot.clone() };
    let deep = |depth| Snapshot { root: TreeRoot { depth, ..snapshot.root }, ..snapshot.clone() };
    let (honoured, other_epochs) = (None, Vec::new());
    let alone = Snapshot { parent: None, tags: vec![], honoured, other_epochs, ..snapshot.clone() };
    let odd = |kind, since| Anomaly { kind, subject: "/srv".into(), why: "901 of 1000 files".into(), since };
    let anomalies = vec![odd(AnomalyKind::Random, None), odd(AnomalyKind::Other("renamed".into()), snapshot.parent)];
    let flagged = Snapshot { anomalies, ..snapshot.clone() };
    let at = |number, before| Snapshot { position: Position { number, before }, ..snapshot.clone() };
    vec![
        make("all fields", &snapshot, header.session),
        make("flagged", &flagged, header.session),
        make("without parent, labels, a list honoured and other epochs", &alone, header.session),
        make("the first of its series", &at(0, None), header.session),
        make("a first one that has one before it", &at(0, Some([8; 32])), header.session),
        make("a later one that has none before it", &at(12, None), header.session),
        make("of another session than its header", &snapshot, SessionId([0; 16])),
        make("of another second than its name", &later, header.session),
        make("a tree without levels", &deep(0), header.session),
        make("a tree of sixteen levels", &deep(16), header.session),
        make("a tree of seventeen levels", &deep(17), header.session),
        changed(&make("", &snapshot, header.session), "not CBOR", "value", "ff"),
        changed(
            &make("", &snapshot, header.session),
            "without a tree",
            "value",
            hex(&[0xa2, 0, 1, 12, 0x50].iter().copied().chain([0xb1; 16]).collect::<Vec<u8>>()),
        ),
        changed(&make("", &snapshot, header.session), "a newer version", "value", "a10002"),
    ]
}

fn manifest(input: &Value) -> Outcome {
    let mut header = [0xb1; SESSION_HEADER_LEN];
    header[..16].copy_from_slice(&bytes(&input["session"]));
    let id = SnapshotId::from_object_name(input["name"].as_str().expect("text")).expect("a name");
    let snapshot = decode_snapshot(id, &SessionHeader::from_bytes(&header), Author::Reader, &bytes(&input["value"]))
        .map_err(format_class)?;
    let time = |t: Timestamp| json!([t.seconds, t.nanos]);
    let c = snapshot.counts;
    Ok(json!({ "started": time(snapshot.started), "finished": time(snapshot.finished), "host": snapshot.host,
               "user": snapshot.user, "job": snapshot.job, "tags": snapshot.tags,
               "sources": snapshot.sources.iter().map(|s| hex(s)).collect::<Vec<_>>(), "program": snapshot.program,
               "parent": snapshot.parent.map(|id| id.object_name()),
               "tree": [hex(&snapshot.root.id.0), snapshot.root.depth.to_string()],
               "counts": [c.files, c.directories, c.streams, c.others, c.bytes, c.new_bytes, c.stored_bytes, c.unreadable],
               "number": snapshot.position.number, "before": snapshot.position.before.map(|digest| hex(&digest)),
               "anomalies": snapshot.anomalies.iter().map(|it| json!([it.kind.name(), it.subject, it.why,
                   it.since.map(|since| since.object_name())])).collect::<Vec<_>>(),
               "honoured": snapshot.honoured, "other_epochs": snapshot.other_epochs }))
}

fn leases() -> Vec<Value> {
    let lease = Lease {
        host: "db1".into(),
        operation: "backup".into(),
        started: Timestamp::from_seconds(1),
        renewed: Timestamp::from_seconds(2),
        expires: Timestamp::from_seconds(3),
        index_segments: 4,
    };
    let make = |about: &str, value: Vec<u8>| vector(about, json!({ "value": hex(&value) }));
    vec![make("a lease", lease.encode()), make("an empty lease", vec![0xa0]), make("not a map", vec![0x01])]
}

fn lease(input: &Value) -> Outcome {
    let lease = Lease::decode(&bytes(&input["value"])).map_err(format_class)?;
    Ok(json!({ "host": lease.host, "operation": lease.operation, "started": lease.started.seconds,
               "renewed": lease.renewed.seconds, "expires": lease.expires.seconds, "index_segments": lease.index_segments }))
}

fn cleanups() -> Vec<Value> {
    let list = CleanupList {
        made: Timestamp::from_seconds(9),
        packs: vec![PackId([1; 16]), PackId(random())],
        given_up: vec![SessionId(random())],
        accounted: vec![(SnapshotId::new(Timestamp::from_seconds(-8), random()), random())],
        gone: vec!["index/000102030405060708090a0b0c0d0e0f".into()],
        is_deleting: true,
        before: Some(random()),
        first: Some(6),
        counting: vec![(SnapshotId::new(Timestamp::from_seconds(8), random()), random())],
        is_of_damage: false,
        removed: [None, Some(random())]
            .map(|before| {
                let id = SnapshotId::new(Timestamp::from_seconds(5), random());
                RemovedSnapshot { id, digest: random(), before }
            })
            .into(),
        is_complete: true,
    };
    let damaged =
        CleanupList { packs: list.packs.clone(), made: list.made, is_of_damage: true, ..CleanupList::default() };
    let doomed = CleanupList { packs: list.packs.clone(), made: list.made, ..CleanupList::default() };
    let make = |about: &str, value: Vec<u8>| vector(about, json!({ "value": hex(&value) }));
    vec![
        make("two doomed packs", encode_cleanup(&doomed)),
        make("all fields", encode_cleanup(&list)),
        make("two damaged packs", encode_cleanup(&damaged)),
        make("an empty list", vec![0xa0]),
        make("not a map", vec![0x01]),
        make("a pack id that is cut off", vec![0xa1, 0x01, 0x41, 0xff]),
        make("a digest that is cut off", vec![0xa1, 0x06, 0x41, 0xff]),
        make("a removed snapshot that is cut off", vec![0xa1, 0x0a, 0x41, 0xff]),
    ]
}

fn cleanup(input: &Value) -> Outcome {
    let list = decode_cleanup(&bytes(&input["value"])).map_err(format_class)?;
    let ids = |ids: &mut dyn Iterator<Item = [u8; 16]>| ids.map(|id| hex(&id)).collect::<Vec<_>>();
    let accounted = |(id, digest): &(SnapshotId, [u8; 32])| json!([hex(&id.to_bytes()), hex(digest)]);
    let removed =
        |it: &RemovedSnapshot| json!([hex(&it.id.to_bytes()), hex(&it.digest), it.before.map(|digest| hex(&digest))]);
    Ok(json!({ "made": list.made.seconds, "packs": ids(&mut list.packs.iter().map(|pack| pack.0)),
               "given_up": ids(&mut list.given_up.iter().map(|session| session.0)),
               "accounted": list.accounted.iter().map(accounted).collect::<Vec<_>>(), "gone": list.gone,
               "deleting": list.is_deleting, "before": list.before.map(|digest| hex(&digest)), "first": list.first,
               "counting": list.counting.iter().map(accounted).collect::<Vec<_>>(),
               "of_damage": list.is_of_damage,
               "removed": list.removed.iter().map(removed).collect::<Vec<_>>(), "complete": list.is_complete }))
}

fn retentions() -> Vec<Value> {
    let at = Timestamp::from_seconds;
    let id = |byte| SnapshotId::new(at(1_794_000_000), [byte; 8]);
    let forgotten = [None, Some([0xb0; 32])].map(|before| {
        let removed = RemovedSnapshot { id: id(1), digest: [0xd1; 32], before };
        (removed, Forgotten { when: at(1_795_000_000), reason: "no rule keeps it".into() })
    });
    let hold = |until| Hold { when: at(1_794_900_000), reason: "audit".into(), until };
    let record = RetentionRecord {
        made: at(1_795_000_000),
        host: "backup1".into(),
        program: "coffre 0.1.0".into(),
        before: vec![[0xbe; 32], [0xbf; 32]],
        is_complete: true,
        forgotten: forgotten.into(),
        brought_back: vec![id(2)],
        held: vec![(id(3), hold(None)), (id(4), hold(Some(at(1_800_000_000))))],
        released: vec![id(5), id(6)],
        given_up: vec![RetentionId::new(at(1_790_000_000), [7; 8])],
    };
    let name = RetentionId::new(at(1_795_000_001), [9; 8]);
    let make = |about: &str, record: &RetentionRecord| {
        let object = seal_retention(&reader_key(), REPOSITORY, name, record);
        let input = json!({ "object": hex(&object), "name": name.object_name(), "repository": hex(&REPOSITORY.0),
                            "reader_key": hex(&[0x33; 32]), "value": hex(&encode_retention(record)) });
        (vector(about, input), object.len())
    };
    let (whole, len) = make("all fields", &record);
    vec![
        changed(&whole, "under another name", "name", RetentionId::new(at(1_795_000_002), [9; 8]).object_name()),
        changed(&whole, "another reader key", "reader_key", hex(&[0x34; 32])),
        flipped(&whole, "a changed byte", "object", len - 1),
        flipped(&whole, "another mark", "object", 7),
        make("the first, which says nothing", &RetentionRecord { made: at(1), ..RetentionRecord::default() }).0,
        whole,
    ]
}

fn retention(input: &Value) -> Outcome {
    let (reader, repository) = (ReaderKey(secret(&input["reader_key"])), RepositoryId(array(&input["repository"])));
    let id = RetentionId::from_object_name(input["name"].as_str().expect("text")).expect("a name");
    let record = open_retention(&reader, repository, id, &bytes(&input["object"])).map_err(format_class)?;
    assert_eq!(hex(&encode_retention(&record)), input["value"], "a record is encoded in one way");
    let names = |ids: &[SnapshotId]| ids.iter().map(SnapshotId::object_name).collect::<Vec<_>>();
    let forgotten = |(it, why): &(RemovedSnapshot, Forgotten)| {
        json!({ "name": it.id.object_name(), "digest": hex(&it.digest), "before": it.before.map(|digest| hex(&digest)),
                "when": why.when.seconds, "reason": why.reason })
    };
    let held = |(id, it): &(SnapshotId, Hold)| {
        json!({ "name": id.object_name(), "when": it.when.seconds, "reason": it.reason,
                "until": it.until.map(|until| until.seconds) })
    };
    Ok(json!({ "made": record.made.seconds, "host": record.host, "program": record.program,
               "before": record.before.iter().map(|digest| hex(digest)).collect::<Vec<_>>(),
               "complete": record.is_complete, "forgotten": record.forgotten.iter().map(forgotten).collect::<Vec<_>>(),
               "brought_back": names(&record.brought_back), "held": record.held.iter().map(held).collect::<Vec<_>>(),
               "released": names(&record.released),
               "given_up": record.given_up.iter().map(RetentionId::object_name).collect::<Vec<_>>() }))
}

fn verifieds() -> Vec<Value> {
    let at = Timestamp::from_seconds;
    let record = Verified {
        finished: at(1_795_000_000),
        host: "backup1".into(),
        program: "coffre 0.1.0".into(),
        cursor: Some(PackId([3; 16])),
        is_complete: true,
        read: vec![
            (at(1_794_000_000), vec![PackId([1; 16]), PackId([2; 16])]),
            (at(1_795_000_000), vec![PackId([3; 16])]),
        ],
    };
    let name = VerifiedId::new(at(1_795_000_000), [9; 8]);
    let object = seal_verified(&reader_key(), REPOSITORY, name, &record);
    let input = json!({ "object": hex(&object), "name": name.object_name(), "repository": hex(&REPOSITORY.0),
                        "reader_key": hex(&[0x33; 32]), "value": hex(&encode_verified(&record)) });
    let whole = vector("a complete record of three packs", input);
    vec![
        changed(&whole, "under another name", "name", VerifiedId::new(at(1_795_000_001), [9; 8]).object_name()),
        changed(&whole, "another reader key", "reader_key", hex(&[0x34; 32])),
        flipped(&whole, "a changed byte", "object", object.len() - 1),
        flipped(&whole, "another mark", "object", 7),
        whole,
    ]
}

fn verified(input: &Value) -> Outcome {
    let (reader, repository) = (ReaderKey(secret(&input["reader_key"])), RepositoryId(array(&input["repository"])));
    let id = VerifiedId::from_object_name(input["name"].as_str().expect("text")).expect("a name");
    let record = open_verified(&reader, repository, id, &bytes(&input["object"])).map_err(format_class)?;
    assert_eq!(hex(&encode_verified(&record)), input["value"], "a record is encoded in one way");
    let read = |(when, packs): &(Timestamp, Vec<PackId>)| {
        json!([when.seconds, packs.iter().map(|pack| hex(&pack.0)).collect::<Vec<_>>()])
    };
    Ok(json!({ "finished": record.finished.seconds, "host": record.host, "program": record.program,
               "cursor": record.cursor.map(|pack| hex(&pack.0)), "complete": record.is_complete,
               "read": record.read.iter().map(read).collect::<Vec<_>>() }))
}

fn runs() -> Vec<Value> {
    let at = Timestamp::from_seconds;
    let name = RunId::new(at(1_795_000_060), [9; 8]);
    let times = (Timestamp { nanos: 17, ..at(1_795_000_000) }, at(1_795_000_060));
    let verified = RunRecord {
        program: "coffre 0.1.0".into(),
        exit_code: 4,
        counts: [("bytes-read".into(), 300), ("findings".into(), 1)].into(),
        before: Some((RunId::new(at(1_794_000_000), [8; 8]), [7; 32])),
        ..RunRecord::new(RunKind::Verify, times, "keeper".into(), Ending::Damaged)
    };
    let failed = RunRecord {
        job: "nightly".into(),
        exit_code: 5,
        why: "pg_dump ended with status 1".into(),
        ..RunRecord::new(RunKind::Backup, times, "db1".into(), Ending::FailedDump)
    };
    let snapshot = Some(SnapshotId::new(at(1_790_000_000), [5; 8]));
    let unchanged = RunRecord { snapshot, ..RunRecord::new(RunKind::Backup, times, "db1".into(), Ending::Clean) };
    let drill = RunRecord::new(RunKind::Other("drill".into()), times, "keeper".into(), Ending::Clean);
    let make = |about: &str, value: Vec<u8>| vector(about, json!({ "name": name.object_name(), "value": hex(&value) }));
    let whole = make("a verification that found damage", encode_run(&verified));
    vec![
        make("a backup that failed", encode_run(&failed)),
        make("a backup that found nothing changed", encode_run(&unchanged)),
        make("what a later program does", encode_run(&drill)),
        changed(&whole, "of another second than its name", "name", RunId::new(times.0, [9; 8]).object_name()),
        make("that does not say what ran", vec![0xa1, 2, 0x82, 0x1a, 0x6a, 0xfd, 0x86, 0xfc, 0]),
        make("a name that is cut off", vec![0xa2, 0, 0x61, b'x', 0x0b, 0x41, 0xff]),
        make("not a map", vec![0x01]),
        whole,
    ]
}

fn run(input: &Value) -> Outcome {
    let id = RunId::from_object_name(input["name"].as_str().expect("text")).expect("a name");
    let record = decode_run(id, &bytes(&input["value"])).map_err(format_class)?;
    assert_eq!(hex(&encode_run(&record)), input["value"], "a record is encoded in one way");
    let before = record.before.map(|(id, digest)| json!([hex(&id.to_bytes()), hex(&digest)]));
    let time = |t: Timestamp| json!([t.seconds, t.nanos]);
    Ok(json!({ "kind": record.kind.name(), "started": time(record.started), "finished": time(record.finished),
               "host": record.host, "job": record.job, "program": record.program, "exit_code": record.exit_code,
               "outcome": record.outcome, "why": record.why, "counts": record.counts, "before": before,
               "snapshot": record.snapshot.map(|id| hex(&id.to_bytes())) }))
}
