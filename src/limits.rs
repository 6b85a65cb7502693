//! The limits of the specification, section 17 of `docs/format.md`, held against the constants that readers and writers keep to.

use crate::crypto::identity::STANZAS_MAX;
use crate::crypto::seal::TAG_LEN;
use crate::crypto::slot::{MAX_LOG_N, MAX_SLOT_LEN};
use crate::format::FORMAT_VERSION;
use crate::format::config::{CHUNK_MAX, PACK_TARGETS};
use crate::format::index::SEGMENT_CHUNKS_MAX;
use crate::format::pack::{DIRECTORY_BYTES_MAX, FRAME_PLAIN_MAX, PACK_CHUNKS_WRITTEN};
use crate::format::recipe::{
    CHUNKS_NEEDED_MAX, PARTS_NEEDED_MAX, PLAIN_NEEDED_MAX, RECIPE_DEPTH_MAX, RECIPE_DEPTH_WRITTEN, RECIPE_MAX,
    TABLE_MAX, WINDOW_MAX,
};
use crate::format::tree::{DEPTH_MAX, NODE_BYTES_MAX, NODE_ITEMS_MAX, NODE_PARTS_MAX, NODE_PATHS_MAX};
use crate::model::key::ObjectKind;
use crate::model::path::EntryPath;
use crate::repository::slots::WORK_MAX;

/// Returns the numbers in a cell, in order: `16 MiB`, `393 216`, `2^23`, `2¹⁹`.
fn numbers(cell: &str) -> Vec<u64> {
    let plain = cell.replace("2¹⁹", "2^19");
    let mut found: Vec<(u64, bool)> = Vec::new();
    for word in plain.split([' ', ';', ',', ':']) {
        match (word, word.split_once('^')) {
            ("KiB" | "MiB", _) => {
                let last = found.last_mut().expect("a number before its unit");
                last.0 <<= if word == "KiB" { 10 } else { 20 };
                last.1 = false;
            }
            (_, Some(("2", power))) => {
                if let Ok(power) = power.parse::<u32>() {
                    found.push((1 << power, false));
                }
            }
            _ => match (word.parse::<u64>(), found.last_mut()) {
                (Ok(number), Some((last, true))) if word.len() == 3 => *last = *last * 1000 + number,
                (Ok(number), _) => found.push((number, true)),
                (Err(_), Some(last)) => last.1 = false,
                (Err(_), None) => {}
            },
        }
    }
    found.into_iter().map(|(number, _)| number).collect()
}

#[test]
fn the_limits_are_those_of_the_specification() {
    let text = include_str!("../docs/format.md");
    let (_, section) = text.split_once("## 17 Limits\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("the next one");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1).map(|line| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        (cells.next().expect("what"), numbers(cells.next().expect("a limit")))
    });

    let of = |kind: ObjectKind| kind.bytes_max();
    let all = |kinds: &[ObjectKind]| {
        assert!(kinds.iter().all(|kind| of(*kind) == of(kinds[0])), "{kinds:?}");
        vec![of(kinds[0])]
    };
    assert_eq!(MAX_SLOT_LEN, of(ObjectKind::Key));
    let expected: Vec<(&str, Vec<u64>)> = vec![
        ("key slot, lease, record of a run", all(&[ObjectKind::Key, ObjectKind::Session, ObjectKind::Evidence])),
        ("snapshot", all(&[ObjectKind::Snapshot])),
        (
            "configuration, keyring, record of retention, index segment",
            all(&[ObjectKind::Config, ObjectKind::Keyring, ObjectKind::Retention, ObjectKind::Index]),
        ),
        ("list of cleaning up, record of a verification", all(&[ObjectKind::Cleanup, ObjectKind::Verified])),
        ("chunks that an index segment tells of", vec![SEGMENT_CHUNKS_MAX as u64]),
        ("chunks in a pack, as writers make it", vec![PACK_CHUNKS_WRITTEN as u64]),
        ("pack", all(&[ObjectKind::Pack])),
        ("sealed directory of a pack", vec![u64::from(DIRECTORY_BYTES_MAX)]),
        ("scrypt work factor", vec![u64::from(MAX_LOG_N), WORK_MAX]),
        ("stanzas of a slot for public keys", vec![STANZAS_MAX as u64, WORK_MAX, 5]),
        ("format version", vec![FORMAT_VERSION]),
        ("pack target", vec![u64::from(*PACK_TARGETS.start()), u64::from(*PACK_TARGETS.end())]),
        ("plaintext of a frame", vec![u64::from(FRAME_PLAIN_MAX)]),
        ("sealed frame", vec![TAG_LEN as u64]),
        ("chunk", vec![u64::from(CHUNK_MAX)]),
        ("window made by a recipe", vec![u64::from(WINDOW_MAX)]),
        (
            "recipe",
            vec![RECIPE_MAX as u64, TABLE_MAX as u64, u64::from(RECIPE_DEPTH_MAX), u64::from(RECIPE_DEPTH_WRITTEN)],
        ),
        (
            "needed for a window, all depths",
            vec![CHUNKS_NEEDED_MAX as u64, PARTS_NEEDED_MAX as u64, PARTS_NEEDED_MAX as u64, PLAIN_NEEDED_MAX],
        ),
        ("node", vec![NODE_BYTES_MAX as u64, NODE_ITEMS_MAX as u64]),
        ("paths of a node, decoded", vec![NODE_PATHS_MAX as u64]),
        ("what the entries of a node hold", vec![NODE_PARTS_MAX as u64, 16, 18]),
        ("path", vec![EntryPath::MAX_LEN as u64]),
        ("depth of a tree or list", vec![u64::from(DEPTH_MAX)]),
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}
