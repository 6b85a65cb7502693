//! Heads: what the first bytes of a content tell of how it changes, in rows, in pages or not at all in part.

use crate::windows::pieces::PieceRule;

/// Bytes that are looked at.
pub const HEAD_BYTES: usize = 2 << 10;
/// Pages of which nothing says how long they are: those of file systems.
pub const PAGE_USUAL: u32 = 4 << 10;

/// A mark, and where it stands.
type HeadMark = (usize, &'static [u8]);

/// What disk images and volumes begin with: a boot sector, a partition table, a file system, an encrypted or logical volume, or the
/// head of an image format of its own.
const DISKS: [HeadMark; 10] = [
    (510, b"\x55\xaa"),
    (512, b"EFI PART"),
    (512, b"LABELONE"),
    (1080, b"\x53\xef"),
    (0, b"XFSB"),
    (0, b"LUKS\xba\xbe"),
    (0, b"QFI\xfb"),
    (0, b"KDMV"),
    (0, b"vhdxfile"),
    (0, b"conectix"),
];

/// What archives and dumps begin with in which an entry that grows shifts all that follows: tar, ar, cpio, `pg_dump`'s custom format, MongoDB's
/// archives and collections, Redis.
const SHIFTING: [HeadMark; 7] = [
    (257, b"ustar"),
    (0, b"!<arch>\n"),
    (0, b"\xc7\x71"),
    (0, b"PGDMP"),
    (0, b"\x6d\xe2\x99\x81"),
    (4, b"\x07_id\0"),
    (0, b"REDIS"),
];

/// What compressed data begins with: gzip, zstd, xz, bzip2, LZ4, ZIP, 7z.
const COMPRESSED: [HeadMark; 7] = [
    (0, b"\x1f\x8b"),
    (0, b"\x28\xb5\x2f\xfd"),
    (0, b"\xfd7zXZ\0"),
    (0, b"BZh"),
    (0, b"\x04\x22\x4d\x18"),
    (0, b"PK\x03\x04"),
    (0, b"7z\xbc\xaf\x27\x1c"),
];

/// Tells whether one of `marks` is in `head`.
fn has_any(head: &[u8], marks: &[HeadMark]) -> bool {
    marks.iter().any(|(at, mark)| head.get(*at..at + mark.len()) == Some(*mark))
}

/// Returns the rule for a content that begins with `head`, its first [`HEAD_BYTES`] or all where it is shorter; `None` for data of which
/// the head does not tell: pages, if anything, but that is to be tried.
pub fn rule_of(head: &[u8]) -> Option<PieceRule> {
    if head.len() >= 18 && has_any(head, &[(0, b"SQLite format 3\0")]) {
        let page = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65536,
            page => u32::from(page),
        };
        let is_valid = page >= 512 && page.is_power_of_two();
        return Some(PieceRule::Pages(if is_valid { page } else { PAGE_USUAL }));
    }
    if has_any(head, &SHIFTING) || is_compressed(head) || is_text(head) {
        Some(PieceRule::Rows)
    } else if has_any(head, &DISKS) {
        Some(PieceRule::Pages(PAGE_USUAL))
    } else {
        None
    }
}

/// Tells whether a content is compressed: where something changes in it, all that follows does.
pub fn is_compressed(head: &[u8]) -> bool {
    has_any(head, &COMPRESSED)
}

/// Tells whether there is nothing in it but text, in whatever encoding that has ASCII in it.
fn is_text(head: &[u8]) -> bool {
    head.iter().all(|byte| matches!(byte, 0x08..=0x0d | 0x1b | 0x20..=0x7e | 0x80..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_rows_and_pages_and_say_where_they_do_not_know() {
        let sqlite = |page: [u8; 2]| rule_of(&[b"SQLite format 3\0", &page[..], &[1, 1, 0, 64, 32, 32]].concat());
        assert_eq!(sqlite([16, 0]), Some(PieceRule::Pages(4096)));
        assert_eq!(sqlite([0, 1]), Some(PieceRule::Pages(65536)));
        assert_eq!(sqlite([0, 3]), Some(PieceRule::Pages(4096)));
        let with = |at: usize, mark: &[u8]| {
            let mut head = vec![0; HEAD_BYTES];
            head[at..at + mark.len()].copy_from_slice(mark);
            rule_of(&head)
        };
        assert_eq!(with(0, b""), None);
        assert_eq!(with(510, b"\x55\xaa"), Some(PieceRule::Pages(4096)));
        for (at, mark) in SHIFTING.iter().chain(&COMPRESSED) {
            assert_eq!(with(*at, mark), Some(PieceRule::Rows), "{mark:?}");
        }
        for text in ["", "one row", "CREATE TABLE \u{e9}t\u{e9} (\r\n\tid int);\n"] {
            assert_eq!(rule_of(text.as_bytes()), Some(PieceRule::Rows), "{text}");
        }
        assert_eq!(rule_of(b"SQLite format 3\0"), None);
        assert_eq!(rule_of(&crate::windows::pieces::tests::noise(1, HEAD_BYTES)), None);
    }
}
