//! What whoever can put objects plants, without any key.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use coffre::crypto::seal::TAG_LEN;
use coffre::format::pack::TRAILER_LEN;
use coffre::model::key::{ObjectKey, ObjectKind};
use futures::FutureExt;

use crate::hostile::forge::Forge;
use crate::hostile::{Plant, Row, Who};

/// Objects of one kind that are planted at once.
const MANY: u32 = 3000;
/// A name that an object of each kind may have, and that counts before those that are there.
const NAMES: [(ObjectKind, &str); 11] = [
    (ObjectKind::Config, "config/00000009-0000000000000000"),
    (ObjectKind::Key, "keys/0000000000000000.age"),
    (ObjectKind::Keyring, "keyring/00000009-0000000000000000"),
    (ObjectKind::Session, "sessions/00000000000000000000000000000000"),
    (ObjectKind::Pack, "packs/00/00000000000000000000000000000000"),
    (ObjectKind::Index, "index/00000000000000000000000000000000"),
    (ObjectKind::Snapshot, "snapshots/20200101T000000Z-0000000000000000"),
    (ObjectKind::Cleanup, "cleanup/00000009-0000000000000000"),
    (ObjectKind::Retention, "retention/22000101T000000Z-0000000000000000"),
    (ObjectKind::Verified, "verified/22000101T000000Z-0000000000000000"),
    (ObjectKind::Evidence, "evidence/22000101T000000Z-0000000000000000"),
];

/// Plants an object of so many bytes, zeros behind the first ones; on disk it takes none.
fn object(name: &'static str, begins: &'static [u8], length: u64) -> Plant {
    Box::new(move |forge: Arc<Forge>| {
        async move {
            let path = forge.directory.join(name);
            fs::create_dir_all(path.parent().expect("below the repository")).expect("made");
            fs::write(&path, begins).expect("written");
            File::options().write(true).open(&path).expect("there").set_len(length).expect("sparse");
            None
        }
        .boxed()
    })
}

/// Plants something that is no file, where one of the repository should be.
fn no_file(name: &'static str, make: fn(&Path)) -> Plant {
    Box::new(move |forge: Arc<Forge>| {
        async move {
            let path = forge.directory.join(name);
            fs::create_dir_all(path.parent().expect("below the repository")).expect("made");
            make(&path);
            None
        }
        .boxed()
    })
}

/// What looks like a key slot for a public key of RSA, with so many stanzas for it.
fn for_a_key(stanzas: usize) -> String {
    let stanzas = "-> ssh-rsa AAAAAA\nAAAA\n".repeat(stanzas);
    format!("age-encryption.org/v1\n{stanzas}--- AAAA\n")
}

/// Plants thousands of objects of one kind.
fn many(name: &'static str, content: String) -> Plant {
    Box::new(move |forge: Arc<Forge>| {
        let content = content.clone();
        async move {
            let (front, back) = name.split_at(name.find("00000000").expect("zeros"));
            for number in 0..MANY {
                let path = forge.directory.join(format!("{front}{number:08x}{}", &back[8..]));
                fs::create_dir_all(path.parent().expect("below the repository")).expect("made");
                fs::write(path, &content).expect("written");
            }
            None
        }
        .boxed()
    })
}

/// Changes the last byte of every pack's padding, which nothing but a pack's digest tells of.
fn padding() -> Plant {
    Box::new(|forge: Arc<Forge>| {
        async move {
            let mut changed = 0;
            for pack in forge.told().await {
                let mut directory = Vec::new();
                pack.directory.encode_into(&mut directory);
                let path = forge.directory.join(ObjectKey::pack(pack.id).as_str());
                let mut object = fs::read(&path).expect("there");
                let tail = object.len() - TRAILER_LEN;
                if pack.directory.frames_len() as usize + directory.len() + TAG_LEN < tail {
                    object[tail - 1] ^= 1;
                    changed += 1;
                }
                fs::write(&path, object).expect("written");
            }
            assert!(changed > 0, "no pack is padded");
            None
        }
        .boxed()
    })
}

/// What verifying says of an object that is none of this repository's: only what counts as a part of it is damage.
fn judged(row: Row, kind: ObjectKind) -> Row {
    match kind {
        ObjectKind::Index => row.found("0000000000").told_by_all(),
        ObjectKind::Config | ObjectKind::Keyring => row.found("0000000000"),
        ObjectKind::Snapshot | ObjectKind::Cleanup | ObjectKind::Retention => row.found("0000000000"),
        _ => row,
    }
}

pub(super) fn rows() -> Vec<Row> {
    let changed = Row::new(Who::Provider, "other padding in every pack", padding()).found("padding was changed");
    let slots = |stanzas: usize| {
        let what = format!("thousands of key slots for public keys, with {stanzas} stanzas each");
        Row::new(Who::Provider, what, many("keys/0000000000000000.age", for_a_key(stanzas)))
    };
    let mut rows = vec![changed, slots(1), slots(16), slots(2000)];
    for (kind, name) in NAMES {
        let most = ObjectKey::from_listed(name).bytes_max();
        let cases: [(&str, &[u8], u64); 4] = [
            ("of six GiB", b"", 6 << 30),
            ("a byte longer than any can be", b"", most + 1),
            ("of 64 bytes of rubbish", b"coffre", 64),
            ("without a byte", b"", 0),
        ];
        for (about, begins, length) in cases {
            let row = Row::new(Who::Provider, format!("{name} {about}"), object(name, begins, length));
            rows.push(judged(row, kind));
        }
        let row = |about, make| Row::new(Who::Provider, format!("{name} that is {about}"), no_file(name, make));
        rows.push(row("a pipe", |path| {
            let made = std::process::Command::new("mkfifo").arg(path).status().expect("runs");
            assert!(made.success());
        }));
        rows.push(row("a link to a device", |path| symlink("/dev/zero", path).expect("linked")));
        rows.push(row("a directory", |path| fs::create_dir(path).expect("made")));
        if !matches!(kind, ObjectKind::Config | ObjectKind::Keyring) {
            let what = format!("thousands like {name}");
            let row = Row::new(Who::Provider, what, many(name, format!("coffre rubbish of kind {kind:?}")));
            rows.push(judged(row, kind));
        }
    }
    rows
}
