//! Deciding what to do about a file: what is there is compared with the snapshot, chunk by chunk.
//!
//! Reading is done in batches, and ending is asked for before each. Holes are looked for where the file system says that
//! there may be data, so that an empty terabyte costs nothing.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FileType, SeekFrom, seek};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::model::entry::{ChunkRef, Entry, FileContent, Hole};
use crate::ops::Cancel;
use crate::ops::restore::places::{Piece, PiecePlaces};
use crate::ops::restore::{Overwrite, RestoreError};
use crate::repository::reader::Reader;
use crate::sink::error::{Obstacle, TargetError};
use crate::sink::partial::IfTaken;
use crate::sink::target::FileTarget;

/// What to do about a file.
#[derive(Debug)]
pub(super) enum Decision {
    /// Its content is right. If it has several names, which inode it is.
    Keep(Option<(u64, u64)>),
    /// It must be written.
    Write,
    /// It is there, and is not to be touched.
    Leave,
    /// It cannot be put.
    Refuse(TargetError),
}

/// What a comparison needs to know besides the entry.
pub(super) struct ContentComparison<'a> {
    pub(super) reader: &'a Arc<Reader>,
    pub(super) target: Option<&'a Arc<FileTarget>>,
    pub(super) trust_times: bool,
    pub(super) overwrite: Overwrite,
    pub(super) cancel: &'a Cancel,
}

/// Bytes compared at once on the blocking pool.
const COMPARE_BYTES: u32 = 4 << 20;
/// Bytes of zeros looked for at once.
const ZEROS_BYTES: u64 = 64 << 20;

impl ContentComparison<'_> {
    /// Compares what is in the target with the entry.
    pub(super) async fn decide(
        &self,
        entry: &Entry,
        relative: &[u8],
        if_taken: IfTaken,
    ) -> Result<Decision, RestoreError> {
        let (Some(target), Some(content)) = (self.target, entry.content()) else { return Ok(Decision::Write) };
        let stat = match target.existing(relative) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(Decision::Write),
            Err(error) => return Ok(Decision::Refuse(error)),
        };
        if if_taken == IfTaken::Refuse {
            return Ok(Decision::Refuse(TargetError::because(relative, "restore it", Obstacle::Taken)));
        }
        if !self.overwrite.touches(&stat.mtime, &entry.metadata.mtime) {
            return Ok(Decision::Leave);
        }
        if stat.file_type() == FileType::Directory && target.is_filled(relative) {
            return Ok(Decision::Refuse(TargetError::because(relative, "restore it", Obstacle::Filled)));
        }
        // A file with several names is written anew, so that what its other names hold is not changed with it.
        let many_names = stat.links > 1 && entry.metadata.links <= 1;
        let is_comparable = stat.file_type() == FileType::RegularFile && stat.size == content.size && !many_names;
        if !is_comparable || self.overwrite == Overwrite::Always {
            return Ok(Decision::Write);
        }
        let inode = (stat.links > 1).then_some((stat.device, stat.inode));
        if self.trust_times && stat.mtime == entry.metadata.mtime {
            return Ok(Decision::Keep(inode));
        }
        let Ok(file) = target.open_existing(relative) else { return Ok(Decision::Write) };
        Ok(if self.is_equal(Arc::new(file), content).await? { Decision::Keep(inode) } else { Decision::Write })
    }

    async fn is_equal(&self, file: Arc<std::fs::File>, content: &FileContent) -> Result<bool, RestoreError> {
        let mut walk = self.reader.chunks(&content.chunks, content.stored_length());
        let mut places = PiecePlaces::new(content);
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let next = self.cancel.or(walk.next()).await.ok_or(RestoreError::Cancelled)?;
            match &next {
                Some(Ok(chunk)) => {
                    bytes += chunk.length;
                    batch.push((*chunk, places.take(chunk.length)));
                }
                Some(Err(lost)) if !lost.error.is_damage() => return Err(RestoreError::Read(lost.error.clone())),
                // What cannot be compared is written, and found to be damaged there.
                Some(Err(_)) => return Ok(false),
                None => {}
            }
            if next.is_none() || bytes >= COMPARE_BYTES {
                let (reader, file, full) = (self.reader.clone(), file.clone(), std::mem::take(&mut batch));
                if !blocking(move || equal(&reader, &file, &full)).await {
                    return Ok(false);
                }
                bytes = 0;
            }
            if next.is_none() {
                break;
            }
        }
        for hole in &content.holes {
            let end = hole.offset + hole.length;
            for start in (hole.offset..end).step_by(ZEROS_BYTES as usize) {
                if self.cancel.is_cancelled() {
                    return Err(RestoreError::Cancelled);
                }
                let (file, part) = (file.clone(), Hole { offset: start, length: ZEROS_BYTES.min(end - start) });
                // A part without data is told at once: the next data stands behind it.
                match data_from(&file, part.offset) {
                    Some(data) if data >= end => break,
                    Some(data) if data >= part.offset + part.length => continue,
                    _ => {}
                }
                if !blocking(move || is_zero(&file, part)).await {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn equal(reader: &Reader, file: &std::fs::File, chunks: &[(ChunkRef, Vec<Piece>)]) -> bool {
    let (mut buffer, mut records) = (Vec::new(), (None, Vec::new()));
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
        let is_it = |info| reader.hasher(info).is_ok_and(|hasher| hasher.id(&buffer) == chunk.id);
        // What one run stored lies in one pack, mostly.
        if records.0 != Some(location.pack) {
            records = (Some(location.pack), reader.index().pack(location.pack));
        }
        records.1.iter().any(is_it)
    })
}

/// Returns where data begins at or after `offset`, the end of all offsets when none does; `None` where it is not told.
fn data_from(file: &std::fs::File, offset: u64) -> Option<u64> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Some(data),
        Err(Errno::NXIO) => Some(u64::MAX),
        Err(_) => None,
    }
}

/// Tells whether a part of a file is zeros, reading only where there may be data.
fn is_zero(file: &std::fs::File, part: Hole) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let (mut at, end) = (part.offset, part.offset + part.length);
    while at < end {
        at = data_from(file, at).unwrap_or(at);
        let room = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return true;
        }
        if file.read_exact_at(&mut buffer[..room], at).is_err() || buffer[..room].iter().any(|&byte| byte != 0) {
            return false;
        }
        at += room as u64;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_told_from_data_without_reading_it() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(scratch.path().join("f"))
            .expect("made");
        file.set_len(1 << 40).expect("set");
        file.write_all_at(b"x", 1 << 39).expect("written");
        let part = |offset, length| Hole { offset, length };
        assert!(is_zero(&file, part(0, 1 << 39)));
        assert!(!is_zero(&file, part(0, (1 << 39) + 1)));
        assert!(is_zero(&file, part((1 << 39) + 1, (1 << 39) - 1)));
        file.write_all_at(&[0; 4096], 1 << 20).expect("written");
        assert!(is_zero(&file, part(0, 1 << 39)), "zeros that are there are zeros as well");
    }
}
