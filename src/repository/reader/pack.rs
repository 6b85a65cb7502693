//! A pack read as if there were no index: trailer, session, commitment, tail, directory, and every frame.

use crate::compress::decompress;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::pack::PackOpener;
use crate::format::pack::{PackDirectory, TRAILER_LEN, Tail, Trailer};
use crate::repository::index::table::PackInfo;
use crate::repository::reader::Reader;

/// A whole pack that opens from its own trailer.
pub struct OpenPack<'a> {
    bytes: &'a [u8],
    opener: PackOpener,
    directory: PackDirectory,
    hasher: ChunkHasher,
}

impl std::fmt::Debug for OpenPack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenPack({} frames)", self.directory.frames.len())
    }
}

impl Reader {
    /// Opens a pack that was fetched whole from its own trailer, and compares it with what the index knows of it.
    ///
    /// # Errors
    /// What is wrong, as a clause about the pack.
    pub fn open_pack<'a>(&self, info: &PackInfo, bytes: &'a [u8]) -> Result<OpenPack<'a>, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        if bytes.len() != info.size as usize {
            return Err(format!("has {} bytes instead of {}", bytes.len(), info.size));
        }
        let trailer = bytes.len().checked_sub(TRAILER_LEN).ok_or("is too short to be a pack")?;
        let trailer = Trailer::decode(&bytes[trailer..]).map_err(|error| format!("its trailer: {error}"))?;
        if trailer.header != *info.header || trailer.commitment != info.commitment {
            return Err("its trailer is not the one that the index knows".into());
        }
        let repository = self.repository();
        let secret = repository.keys().session_secret(&trailer.header).map_err(|error| text(&error))?;
        let opener = PackOpener::new(&secret, repository.id(), info.id, &trailer.commitment)
            .map_err(|error| format!("its trailer: {error}"))?;
        let mut tail = trailer.sealed_tail;
        let tail = opener.open_tail(&mut tail).map_err(|error| format!("its trailer: {error}"))?;
        let tail = Tail::decode(tail).map_err(|error| text(&error))?;
        if tail.object_len != info.size || tail.frames != info.frames || tail.kind != info.kind {
            return Err("its trailer contradicts the index".into());
        }
        let start = tail.directory_offset as usize;
        let mut directory = bytes[start..start + tail.directory_len as usize].to_vec();
        let directory = opener.open_directory(&mut directory).map_err(|error| format!("its directory: {error}"))?;
        let directory = PackDirectory::decode(directory).map_err(|error| text(&error))?;
        if directory.frames_len() != u64::from(tail.directory_offset) || directory.frames.len() != tail.frames as usize
        {
            return Err("its directory contradicts its trailer".into());
        }
        let hasher = self.hasher(info).map_err(|error| text(&error))?;
        Ok(OpenPack { bytes, opener, directory, hasher })
    }
}

impl OpenPack<'_> {
    /// Returns the pack's own directory.
    pub fn directory(&self) -> &PackDirectory {
        &self.directory
    }

    /// Checks every chunk of every frame; returns the frames that cannot be used, with what is wrong.
    pub fn damaged_frames(&self) -> Vec<(u32, String)> {
        let mut bad = Vec::new();
        let mut offset = 0;
        for (number, frame) in (0u32..).zip(&self.directory.frames) {
            let end = offset + frame.sealed_len as usize;
            let mut sealed = self.bytes[offset..end].to_vec();
            offset = end;
            let plain =
                self.opener.open_frame(number, &mut sealed).map_err(|error| error.to_string()).and_then(|encoded| {
                    decompress(frame.codec, encoded, frame.plain_len).map_err(|error| error.to_string())
                });
            let problem = match plain {
                Err(error) => Some(format!("frame {number}: {error}")),
                Ok(plain) => {
                    let mut at = 0;
                    frame.chunks.iter().find_map(|(key, length)| {
                        let chunk = &plain[at..at + *length as usize];
                        at += *length as usize;
                        (self.hasher.id(chunk).key() != *key)
                            .then(|| format!("frame {number}: a chunk is not the one it is named after"))
                    })
                }
            };
            if let Some(problem) = problem {
                bad.push((number, problem));
            }
        }
        bad
    }
}
