//! Deciding whether a file must be written: what is there is compared with the snapshot, chunk by chunk.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::model::entry::{ChunkRef, Entry, FileContent, Hole};
use crate::repository::reader::Reader;
use crate::target::files::{FileTarget, TargetError};

/// What to do about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Its content is right.
    Keep,
    /// It must be written.
    Write,
}

/// Compares what is in the target with the entry.
pub(super) async fn decide(
    reader: &Arc<Reader>,
    target: Option<&Arc<FileTarget>>,
    entry: &Entry,
    relative: &[u8],
    trust_times: bool,
) -> Result<Decision, TargetError> {
    let (Some(target), Some(content)) = (target, entry.content()) else { return Ok(Decision::Write) };
    let Some(stat) = target.existing(relative)? else { return Ok(Decision::Write) };
    // A file with several names is written anew, so that what its other names hold is not changed with it.
    let many_names = stat.links > 1 && entry.metadata.links <= 1;
    if stat.file_type() != FileType::RegularFile || stat.size != content.size || many_names {
        return Ok(Decision::Write);
    }
    if trust_times && stat.mtime == entry.metadata.mtime {
        return Ok(Decision::Keep);
    }
    let Ok(file) = target.open_existing(relative) else { return Ok(Decision::Write) };
    let file = Arc::new(file);
    let mut walk = reader.chunks(&content.chunks, content.stored_length());
    let mut places = Places::new(content);
    let mut batch = Vec::new();
    let mut bytes = 0;
    loop {
        let next = walk.next().await;
        match &next {
            Some(Ok(chunk)) => {
                bytes += chunk.length;
                batch.push((*chunk, places.take(chunk.length)));
            }
            // What cannot be compared is written, and found to be damaged there.
            Some(Err(_)) => return Ok(Decision::Write),
            None => {}
        }
        if next.is_none() || bytes >= COMPARE_BYTES {
            let (reader, file, full) = (reader.clone(), file.clone(), std::mem::take(&mut batch));
            let equal = tokio::task::spawn_blocking(move || equal(&reader, &file, &full)).await;
            if !equal.expect("comparing does not panic") {
                return Ok(Decision::Write);
            }
            bytes = 0;
        }
        if next.is_none() {
            break;
        }
    }
    let (file, holes) = (file, content.holes.clone());
    let zero = tokio::task::spawn_blocking(move || holes_are_zero(&file, &holes)).await;
    Ok(if zero.expect("comparing does not panic") { Decision::Keep } else { Decision::Write })
}

/// Bytes compared at once on the blocking pool.
const COMPARE_BYTES: u32 = 8 << 20;

fn equal(reader: &Reader, file: &std::fs::File, chunks: &[(ChunkRef, Vec<Piece>)]) -> bool {
    let mut buffer = Vec::new();
    chunks.iter().all(|(chunk, pieces)| {
        buffer.resize(chunk.length as usize, 0);
        let mut at = 0;
        for piece in pieces {
            if file.read_exact_at(&mut buffer[at..at + piece.length as usize], piece.file_offset).is_err() {
                return false;
            }
            at += piece.length as usize;
        }
        let Some(location) = reader.index().locate(&chunk.id) else { return false };
        let info = reader.index().pack(location.pack);
        info.and_then(|info| reader.hasher(&info).ok()).is_some_and(|hasher| hasher.id(&buffer) == chunk.id)
    })
}

fn holes_are_zero(file: &std::fs::File, holes: &[Hole]) -> bool {
    let mut buffer = vec![0; 1 << 16];
    holes.iter().all(|hole| {
        let (mut at, end) = (hole.offset, hole.offset + hole.length);
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            if file.read_exact_at(&mut buffer[..room], at).is_err() || buffer[..room].iter().any(|&byte| byte != 0) {
                return false;
            }
            at += room as u64;
        }
        true
    })
}

/// Where a part of a chunk stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Offset of the part in the chunk.
    pub(super) chunk_offset: u32,
    /// Offset in the file.
    pub(super) file_offset: u64,
    /// Length in bytes.
    pub(super) length: u32,
}

/// Gives the places of a content's chunks, one after the other, stepping over its holes.
#[derive(Debug)]
pub(super) struct Places {
    holes: std::vec::IntoIter<Hole>,
    next_hole: Option<Hole>,
    offset: u64,
}

impl Places {
    pub(super) fn new(content: &FileContent) -> Self {
        let mut holes = content.holes.clone().into_iter();
        let next_hole = holes.next();
        Self { holes, next_hole, offset: 0 }
    }

    /// Returns the places of the next `length` stored bytes.
    pub(super) fn take(&mut self, length: u32) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(1);
        let mut chunk_offset = 0;
        while chunk_offset < length {
            while let Some(hole) = self.next_hole.filter(|hole| hole.offset <= self.offset) {
                self.offset = hole.offset + hole.length;
                self.next_hole = self.holes.next();
            }
            let rest = u64::from(length - chunk_offset);
            let room = self.next_hole.map_or(rest, |hole| (hole.offset - self.offset).min(rest)) as u32;
            pieces.push(Piece { chunk_offset, file_offset: self.offset, length: room });
            chunk_offset += room;
            self.offset += u64::from(room);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_step_over_holes() {
        let holes =
            vec![Hole { offset: 0, length: 10 }, Hole { offset: 15, length: 5 }, Hole { offset: 30, length: 9 }];
        let mut places = Places::new(&FileContent { size: 39, holes, ..FileContent::default() });
        let piece = |chunk_offset, file_offset, length| Piece { chunk_offset, file_offset, length };
        assert_eq!(places.take(8), [piece(0, 10, 5), piece(5, 20, 3)]);
        assert_eq!(places.take(7), [piece(0, 23, 7)]);
    }
}
