//! What a file lacks: which bytes, and why. A cause is told once, however many chunks and files it hits.

use crate::progress::chain;
use crate::repository::reader::ReadError;

/// Causes named for one file; beyond them their number.
const CAUSES_NAMED: usize = 3;

/// Why bytes cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    /// In full, with the chunk or frame.
    full: String,
    /// What other chunks may have in common with it.
    cause: String,
}

impl Why {
    /// The chunk or its list cannot be read.
    pub(super) fn of(error: &ReadError) -> Self {
        let full = chain(error);
        let cause = match (error, std::error::Error::source(error)) {
            (ReadError::Damaged { pack, .. } | ReadError::Undecodable { pack, .. }, Some(source)) => {
                format!("pack {pack} is damaged: {source}")
            }
            (ReadError::Part { source, .. }, _) => Why::of(source).cause,
            (ReadError::WrongChunk { pack, .. }, _) => format!("pack {pack} does not hold what the index places in it"),
            (ReadError::Unknown { .. }, _) => "chunks that it needs are not in the index".to_owned(),
            _ => full.clone(),
        };
        Self { full, cause }
    }
}

/// What a file lacks.
#[derive(Debug, Default)]
pub(super) struct LostPieces(Vec<Range>);

#[derive(Debug)]
struct Range {
    offset: u64,
    length: u64,
    why: Why,
}

impl LostPieces {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds bytes that are lost.
    pub(super) fn add(&mut self, offset: u64, length: u64, why: &Why) {
        match self.0.last_mut().filter(|last| last.why == *why && last.offset + last.length == offset) {
            Some(last) => last.length += length,
            None => self.0.push(Range { offset, length, why: why.clone() }),
        }
    }

    /// Names every range, and behind those that share a cause the cause.
    pub(super) fn in_full(&self) -> String {
        let mut ranges: Vec<&Range> = self.0.iter().collect();
        ranges.sort_by(|one, other| (&one.why.full, one.offset).cmp(&(&other.why.full, other.offset)));
        let of_one = |ranges: &[&Range]| {
            let named: Vec<String> =
                ranges.iter().map(|range| format!("{} bytes at {}", range.length, range.offset)).collect();
            format!("{} ({})", named.join(", "), ranges[0].why.full)
        };
        let told = ranges.chunk_by(|one, next| one.why.full == next.why.full).map(of_one);
        told.collect::<Vec<_>>().join(", ")
    }

    /// Names the causes alone.
    pub(super) fn causes(&self) -> String {
        let mut causes: Vec<&str> = self.0.iter().map(|range| range.why.cause.as_str()).collect();
        causes.sort_unstable();
        causes.dedup();
        let more = causes.len().saturating_sub(CAUSES_NAMED);
        causes.truncate(CAUSES_NAMED);
        match more {
            0 => causes.join("; "),
            more => format!("{}; and {more} more", causes.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(full: &str, cause: &str) -> Why {
        Why { full: full.to_owned(), cause: cause.to_owned() }
    }

    #[test]
    fn a_cause_is_told_once_for_all_that_it_hits() {
        let mut lost = LostPieces::default();
        lost.add(10, 5, &why("frame 1: gone", "gone"));
        lost.add(15, 5, &why("frame 1: gone", "gone"));
        lost.add(40, 2, &why("frame 2: gone", "gone"));
        lost.add(0, 1, &why("frame 1: gone", "gone"));
        assert_eq!(lost.in_full(), "1 bytes at 0, 10 bytes at 10 (frame 1: gone), 2 bytes at 40 (frame 2: gone)");
        assert_eq!(lost.causes(), "gone");
    }

    #[test]
    fn of_many_causes_the_rest_is_counted() {
        let mut lost = LostPieces::default();
        for at in 0..5 {
            lost.add(at * 10, 1, &why(&format!("cause {at}"), &format!("cause {at}")));
        }
        assert_eq!(lost.causes(), "cause 0; cause 1; cause 2; and 2 more");
    }
}
