//! Small files of the cache, each with a checksum: one that was changed counts as not there.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::repository::cache::temporary::Temporary;

const SUM_LEN: usize = 16;

/// Returns the content of a record, or `None` when there is none or it is not as it was written.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path).ok()?;
    let (sum, content) = bytes.split_first_chunk::<SUM_LEN>()?;
    if *sum != checksum(content) {
        return None;
    }
    bytes.drain(..SUM_LEN);
    Some(bytes)
}

/// Writes a record so that readers see the old or the new content, never half of one.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = Temporary::create(path)?;
    let mut file = temporary.file();
    io::Write::write_all(&mut file, &checksum(content))?;
    io::Write::write_all(&mut file, content)?;
    temporary.persist(path).map(drop)
}

/// Returns the one line of a text that is kept twice, so that no single flipped bit loses it.
pub(crate) fn read_text(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let (one, two) = bytes.split_at(bytes.len() / 2);
    [one, two].into_iter().find_map(|line| {
        let (sum, text) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
        (sum == text_sum(text)).then(|| text.to_owned())
    })
}

/// Writes a line of text for [`read_text`].
pub(crate) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    text_file(path, text)?.persist(path).map(drop)
}

/// Writes like [`write_text`]; durable on return.
pub(crate) fn write_text_durably(path: &Path, text: &str) -> io::Result<()> {
    let temporary = text_file(path, text)?;
    temporary.file().sync_all()?;
    temporary.persist(path)?;
    File::open(path.parent().expect("it is in a directory"))?.sync_all()
}

fn text_file(path: &Path, text: &str) -> io::Result<Temporary> {
    let temporary = Temporary::create(path)?;
    let line = format!("{} {text}\n", text_sum(text));
    io::Write::write_all(&mut temporary.file(), line.repeat(2).as_bytes())?;
    Ok(temporary)
}

fn text_sum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..2 * SUM_LEN].to_owned()
}

/// Returns the checksum of some bytes of a cache file.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; SUM_LEN] {
    blake3::hash(bytes).as_bytes()[..SUM_LEN].try_into().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_any_bit_flipped_or_byte_missing_is_none() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("some.record");
        write(&path, b"content").expect("written");
        assert_eq!(read(&path).as_deref(), Some(&b"content"[..]));
        let whole = std::fs::read(&path).expect("there");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).expect("writable");
            assert_eq!(read(&path), None, "bit {bit}");
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("writable");
            assert_eq!(read(&path), None, "{length} bytes");
        }
    }

    #[test]
    fn a_text_survives_any_flipped_bit_and_is_none_when_more_is_wrong() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("some.counter");
        write_text(&path, "40").expect("written");
        write_text_durably(&path, "41").expect("written");
        let whole = std::fs::read(&path).expect("there");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).expect("writable");
            assert_eq!(read_text(&path).as_deref(), Some("41"), "bit {bit}");
        }
        for bytes in [&b""[..], b"41", b"41\n41\n", &vec![0; whole.len()], &whole[..10]] {
            std::fs::write(&path, bytes).expect("writable");
            assert_eq!(read_text(&path), None, "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_directory_in_a_records_place_gives_way() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("some.record");
        std::fs::create_dir(&path).expect("made");
        assert_eq!(read(&path), None);
        write(&path, b"content").expect("written");
        assert_eq!(read(&path).as_deref(), Some(&b"content"[..]));
    }
}
