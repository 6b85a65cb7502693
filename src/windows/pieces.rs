//! Where pieces end: behind rows, where there are rows.
//!
//! A row ends behind a line feed, and behind `),(` in the one-line inserts of `mysqldump`. One of at least [`ROW_WHOLE`] bytes ends a
//! piece; a shorter one does so with a chance of its length in that, drawn from its bytes, so that pieces of short rows are about as long and
//! depend on nothing but the rows themselves. What has no row end within [`ROW_MAX`] is cut by content as chunks are, only finer.
//! Data in which pages are rewritten in place is cut into these pages ([`heads`](crate::windows::heads)).
//!
//! The rule is the writer's own and no part of the format: another one costs one night in full.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use zeroize::Zeroizing;

use crate::chunker::Chunker;
use crate::format::config::ChunkerProfile;

/// Rows of at least this length are a piece.
const ROW_WHOLE: usize = 64;
/// Without a row's end in so many bytes, content is cut by its bytes.
const ROW_MAX: usize = 4 << 10;
/// The longest piece: the largest page of SQLite.
pub const PIECE_MAX: usize = 64 << 10;
/// How a content is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceRule {
    /// Behind rows, and by content where there are none.
    Rows,
    /// Into pages of so many bytes.
    Pages(u32),
}

impl PieceRule {
    /// Encodes the rule as a number: 0 for rows, else the page's length.
    pub fn encode(self) -> u64 {
        match self {
            Self::Rows => 0,
            Self::Pages(bytes) => u64::from(bytes),
        }
    }

    /// Decodes what [`PieceRule::encode`] gives; `None` for what it never gives.
    pub fn decode(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Rows),
            512..=65536 => Some(Self::Pages(number as u32)),
            _ => None,
        }
    }
}

/// Hashes pieces with SipHash-2-4, whose results nobody can tell from random ones without the key.
#[derive(Clone)]
pub struct PieceHasher {
    /// The key by which it is drawn where pieces and windows end, of the domain: all its hosts draw alike.
    pub ends: Zeroizing<[u8; 16]>,
    /// The key by which pieces are compared, of the host: whoever has it can make two pieces of one hash.
    pub compared: Zeroizing<[u8; 16]>,
}

impl std::fmt::Debug for PieceHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PieceHasher(…)")
    }
}

impl PieceHasher {
    /// Returns the hash by which a piece is compared.
    pub fn hash(&self, piece: &[u8]) -> u64 {
        sip(&self.compared, piece)
    }

    /// Returns the hash by which it is drawn whether something ends behind a row or a piece.
    pub fn draw(&self, bytes: &[u8]) -> u64 {
        sip(&self.ends, bytes)
    }
}

fn sip(key: &[u8; 16], bytes: &[u8]) -> u64 {
    let mut sip = SipHasher24::new_with_key(key);
    sip.write(bytes);
    sip.finish()
}

/// Finds where the pieces of one content end, one behind the other.
#[derive(Debug)]
pub struct PieceCutter {
    rule: PieceRule,
    hasher: PieceHasher,
    gear: Chunker,
    /// Where the row begins that is looked at, from the start of the piece.
    row: usize,
    /// Bytes of that row before the piece.
    row_before: usize,
    /// Bytes from the start of the piece on that are known to have no end of it.
    scanned: usize,
}

impl PieceCutter {
    /// Begins a content. `gear` is the table by which content without rows is cut.
    pub fn new(rule: PieceRule, hasher: PieceHasher, gear: &[u64; 256]) -> Self {
        let profile =
            ChunkerProfile { algorithm: ChunkerProfile::FASTCDC_2020, min: 32, avg: 128, max: 512, normalization: 1 };
        Self { rule, hasher, gear: Chunker::new(profile, gear), row: 0, row_before: 0, scanned: 0 }
    }

    /// Returns the hash by which a piece is compared.
    pub fn hash(&self, piece: &[u8]) -> u64 {
        self.hasher.hash(piece)
    }

    /// Returns the hash by which it is drawn whether a window ends behind a piece.
    pub fn draw(&self, piece: &[u8]) -> u64 {
        self.hasher.draw(piece)
    }

    /// Returns the length of the next piece, with which `data` begins, or `None` when more of it is needed to tell. The one after
    /// begins behind it.
    ///
    /// `at_end` says that nothing follows `data`; then only empty data gives `None`.
    pub fn next(&mut self, data: &[u8], at_end: bool) -> Option<usize> {
        if data.is_empty() {
            return None;
        }
        match self.rule {
            PieceRule::Rows => self.row_end(data, at_end),
            PieceRule::Pages(bytes) if data.len() >= bytes as usize => Some(bytes as usize),
            PieceRule::Pages(_) => at_end.then_some(data.len()),
        }
    }

    fn row_end(&mut self, data: &[u8], at_end: bool) -> Option<usize> {
        let seen = &data[..data.len().min(ROW_MAX)];
        while let Some(end) = next_row_end(seen, self.scanned) {
            let row = &seen[self.row..end];
            let whole = row.len() + self.row_before;
            self.scanned = end;
            if whole >= ROW_WHOLE || self.is_drawn(row, whole) {
                (self.row, self.row_before, self.scanned) = (0, 0, 0);
                return Some(end);
            }
            (self.row, self.row_before) = (end, 0);
        }
        self.scanned = seen.len();
        if seen.len() == ROW_MAX {
            let length = self.gear.cut(seen, true).expect("there is something to cut");
            self.row_before = (self.row_before + length).saturating_sub(self.row).min(ROW_MAX);
            self.row = self.row.saturating_sub(length);
            self.scanned -= length;
            return Some(length);
        }
        if at_end {
            (self.row, self.row_before, self.scanned) = (0, 0, 0);
            return Some(data.len());
        }
        None
    }

    /// Draws whether a short row ends a piece: with a chance of its length in [`ROW_WHOLE`].
    fn is_drawn(&self, row: &[u8], length: usize) -> bool {
        self.hasher.draw(row) < length as u64 * (u64::MAX / ROW_WHOLE as u64)
    }
}

/// Returns where the first row ends that ends behind `from`.
fn next_row_end(data: &[u8], from: usize) -> Option<usize> {
    let ends = memchr::memchr2_iter(b'\n', b'(', &data[from..]).map(|at| from + at + 1);
    ends.into_iter().find(|end| data[end - 1] == b'\n' || data[..*end].ends_with(b"),("))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn hasher() -> PieceHasher {
        PieceHasher { ends: Zeroizing::new(*b"a key of 16 byte"), compared: Zeroizing::new(*b"another, as long") }
    }

    pub(crate) fn cutter(rule: PieceRule) -> PieceCutter {
        PieceCutter::new(rule, hasher(), &gear())
    }

    pub(crate) fn gear() -> [u64; 256] {
        std::array::from_fn(|i| {
            let hash = blake3::hash(&[u8::try_from(i).expect("256 values")]);
            u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"))
        })
    }

    pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    /// Cuts `data` when it comes in portions of `step` bytes.
    fn cut(rule: PieceRule, data: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut cutter, mut pieces, mut start, mut end) = (cutter(rule), Vec::new(), 0, 0);
        loop {
            match cutter.next(&data[start..end], end == data.len()) {
                Some(length) => {
                    pieces.push(data[start..start + length].to_vec());
                    start += length;
                }
                None if end == data.len() => return pieces,
                None => end = (end + step).min(data.len()),
            }
        }
    }

    fn rows(count: usize, bytes: usize) -> Vec<u8> {
        (0..count).flat_map(|i| format!("{i}\t{:0>1$}\n", i * 7, bytes).into_bytes()).collect()
    }

    #[test]
    fn pieces_are_the_content_whatever_it_is_and_however_it_comes() {
        let mut mixed = noise(1, 9000);
        mixed.extend(rows(300, 90));
        mixed.extend(vec![b'x'; 20_000]);
        mixed.extend(vec![b'\n'; 9_000]);
        mixed.extend(b"INSERT INTO t VALUES (1,'a'),(2,'bbbbbbbbbbbbbbbbbbbbbb'),(3,'c');\n".repeat(40));
        for data in [mixed, Vec::new(), vec![0; 100_000], noise(2, 50_000), rows(4000, 3), b"one row".to_vec()] {
            for rule in [PieceRule::Rows, PieceRule::Pages(512), PieceRule::Pages(65536)] {
                let pieces = cut(rule, &data, data.len().max(1));
                assert_eq!(pieces.concat(), data);
                assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_MAX));
                for step in [1, 7, 4096, 5000] {
                    if data.len() < 60_000 || step > 1000 {
                        assert_eq!(cut(rule, &data, step), pieces, "{rule:?} in steps of {step}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_row_is_a_piece_and_short_ones_are_pieces_together() {
        let long = rows(1000, 100);
        assert!(cut(PieceRule::Rows, &long, 5000).iter().all(|piece| piece.ends_with(b"\n") && piece.len() > 100));
        assert_eq!(cut(PieceRule::Rows, &long, 5000).len(), 1000);
        let short = rows(20_000, 4);
        let pieces = cut(PieceRule::Rows, &short, 5000);
        let average = short.len() / pieces.len();
        assert!((48..90).contains(&average), "{average}");
    }

    #[test]
    fn rows_of_one_line_inserts_are_pieces() {
        let row = |i: usize| format!("({i},'{:080}')", i * 31);
        let text = format!("INSERT INTO t VALUES {};\n", (0..500).map(row).collect::<Vec<_>>().join(","));
        let pieces = cut(PieceRule::Rows, text.as_bytes(), 5000);
        assert_eq!(pieces.len(), 500);
        assert!(pieces[..499].iter().all(|piece| piece.ends_with(b"),(")));
    }

    /// What an edit costs: pieces that were not there before.
    fn new_after(before: &[u8], after: &[u8]) -> usize {
        let old: std::collections::HashSet<_> = cut(PieceRule::Rows, before, 5000).into_iter().collect();
        cut(PieceRule::Rows, after, 5000).iter().filter(|piece| !old.contains(*piece)).map(Vec::len).sum()
    }

    #[test]
    fn an_edit_changes_pieces_near_it_alone() {
        for (content, most) in [(rows(3000, 100), 250), (rows(30_000, 4), 1500), (noise(3, 400_000), 10_000)] {
            let mut after = content.clone();
            after.splice(150_000..150_003, *b"changed");
            assert!(new_after(&content, &after) < most, "{}", new_after(&content, &after));
        }
        let (mut before, wide) = (b"{\"a\":1}\n".repeat(50), noise(4, 1 << 20));
        before.extend(wide.iter().map(|byte| b"0123456789abcdef"[usize::from(byte & 15)]));
        before.push(b'\n');
        let mut after = before.clone();
        after.splice(500_000..500_000, *b"inserted");
        assert!(new_after(&before, &after) < 3000, "{}", new_after(&before, &after));
    }

    #[test]
    fn rules_come_back_from_their_numbers() {
        for rule in [PieceRule::Rows, PieceRule::Pages(512), PieceRule::Pages(65536)] {
            assert_eq!(PieceRule::decode(rule.encode()), Some(rule));
        }
        assert_eq!((PieceRule::decode(7), PieceRule::decode(1 << 20)), (None, None));
    }
}
