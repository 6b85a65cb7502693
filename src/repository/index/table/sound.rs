//! Whether a table is as it was written: its header and its head are looked at when it is opened, everything else page by page when it
//! is first read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::repository::index::table::Table;
use crate::repository::index::table::layout::{
    BUFFER_LEN, CHECKSUM_AT, CHECKSUM_LEN, HEADER_LEN, Layout, SUM_LEN, SUMMED_LEN, sum,
};

/// What is known by now of a table that an earlier run wrote.
#[derive(Debug)]
pub(super) struct Looked {
    /// A bit for each sum: what it is of was looked at, and is right.
    right: Box<[AtomicU64]>,
    /// Something is not as it was written.
    wrong: AtomicBool,
}

impl Looked {
    /// Looks at the sums of a file and at its head; `None` where these are not as they were written.
    ///
    /// Reads in proportion to the packs and frames, not to the chunks.
    pub(super) fn at_head(file: &File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        let Ok(len) = usize::try_from(metadata.len()) else { return Ok(None) };
        if !metadata.is_file() || len < HEADER_LEN {
            return Ok(None);
        }
        let mut header = [0; HEADER_LEN];
        file.read_exact_at(&mut header, 0)?;
        let Some(layout) = Layout::decode(&header, len) else { return Ok(None) };
        let mut sums = vec![0; len - layout.sums_at()];
        file.read_exact_at(&mut sums, layout.sums_at() as u64)?;
        let (checksum, rest) = header[CHECKSUM_AT..].split_at(CHECKSUM_LEN);
        if layout.checksum(&sums).as_bytes()[..] != *checksum || rest.iter().any(|&byte| byte != 0) {
            return Ok(None);
        }
        let right = (0..layout.summed().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let looked = Self { right, wrong: AtomicBool::new(false) };
        for (number, sum) in summed_up(file, &layout, layout.filter_at().div_ceil(SUMMED_LEN))? {
            if sum[..] != sums[number * SUM_LEN..][..SUM_LEN] {
                return Ok(None);
            }
            looked.note_right(number);
        }
        Ok(Some(looked))
    }

    fn is_right(&self, number: usize) -> bool {
        self.right[number / 64].load(Ordering::Relaxed) & 1 << (number % 64) != 0
    }

    fn note_right(&self, number: usize) {
        self.right[number / 64].fetch_or(1 << (number % 64), Ordering::Relaxed);
    }
}

/// Returns the first `count` sums of what a file has, each with its number.
pub(super) fn summed_up(file: &File, layout: &Layout, count: usize) -> io::Result<Vec<(usize, [u8; SUM_LEN])>> {
    let mut buffer = vec![0; BUFFER_LEN];
    let mut sums = Vec::with_capacity(count);
    for first in (0..count).step_by(BUFFER_LEN / SUMMED_LEN) {
        let at = first * SUMMED_LEN;
        let piece = &mut buffer[..BUFFER_LEN.min((count * SUMMED_LEN).min(layout.sums_at()) - at)];
        file.read_exact_at(piece, at as u64)?;
        for number in first..count.min(first + BUFFER_LEN / SUMMED_LEN) {
            let bytes = layout.summed_bytes(number);
            sums.push((number, sum(&piece[bytes.start - at..bytes.end - at])));
        }
    }
    Ok(sums)
}

impl Table {
    /// Returns bytes of the table, or `None` where they stand among what is not as it was written.
    pub(super) fn bytes(&self, at: usize, len: usize) -> Option<&[u8]> {
        let is_right = (at / SUMMED_LEN..=(at + len - 1) / SUMMED_LEN).all(|number| self.is_right(number));
        is_right.then(|| &self.map[at..at + len])
    }

    /// Tells whether all of it is as it was written. Reads what nobody has read so far.
    pub fn is_sound(&self) -> bool {
        let is_known_wrong = self.looked.as_ref().is_some_and(|looked| looked.wrong.load(Ordering::Relaxed));
        !is_known_wrong && (0..self.layout.summed()).all(|number| self.is_right(number))
    }

    fn is_right(&self, number: usize) -> bool {
        let Some(looked) = &self.looked else { return true };
        if looked.is_right(number) {
            return true;
        }
        let is_right = sum(&self.map[self.layout.summed_bytes(number)])[..]
            == self.map[self.layout.sums_at() + number * SUM_LEN..][..SUM_LEN];
        if is_right {
            looked.note_right(number);
        } else if !looked.wrong.swap(true, Ordering::Relaxed) {
            // The next run makes it anew, whatever becomes of this one.
            self.path.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
        is_right
    }
}
