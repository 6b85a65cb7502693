//! Writing entries as a tar archive: ustar headers, and pax records for what they cannot hold.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use crate::model::entry::{Entry, EntryKind, LinkKey};

/// The longest name and link name that a ustar header holds.
const NAME_MAX: usize = 100;
/// The largest size that a ustar header holds in octal digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the archive.
    Written,
    /// Archives cannot hold this kind of entry; why.
    Unsupported(&'static str),
}

/// A tar archive being written.
pub struct TarTarget<W: Write> {
    builder: Builder<W>,
    /// For files with several names, the first one written.
    first_names: HashMap<LinkKey, Vec<u8>>,
}

impl<W: Write> TarTarget<W> {
    /// Begins an archive.
    pub fn new(output: W) -> Self {
        Self { builder: Builder::new(output), first_names: HashMap::new() }
    }

    /// Adds an entry under `path` (`.` for the top), reading a file's content from `content` to its end.
    ///
    /// # Errors
    /// When the output cannot be written, or `content` fails or is not as long as the entry says.
    pub fn put(&mut self, entry: &Entry, path: &[u8], content: &mut impl Read) -> io::Result<Put> {
        let m = &entry.metadata;
        let mut name = if path.is_empty() { b"./".to_vec() } else { path.to_vec() };
        let mut header = Header::new_ustar();
        let mut size = 0;
        let mut link = Vec::new();
        let mut device = None;
        let kind = match &entry.kind {
            EntryKind::File(_) | EntryKind::Stream(..) => {
                let key = entry.link_key();
                match key.and_then(|key| self.first_names.get(&key)) {
                    Some(first) => {
                        link = first.clone();
                        EntryType::Link
                    }
                    None => {
                        if let Some(key) = key {
                            self.first_names.insert(key, name.clone());
                        }
                        size = entry.size();
                        EntryType::Regular
                    }
                }
            }
            EntryKind::Directory => {
                if name.last() != Some(&b'/') {
                    name.push(b'/');
                }
                EntryType::Directory
            }
            EntryKind::Symlink(to) => {
                link = to.clone();
                EntryType::Symlink
            }
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::CharDevice(number) => {
                device = Some(*number);
                EntryType::Char
            }
            EntryKind::BlockDevice(number) => {
                device = Some(*number);
                EntryType::Block
            }
            EntryKind::Socket => return Ok(Put::Unsupported("a tar archive cannot hold sockets")),
        };

        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let fields = header.as_ustar_mut().expect("made as ustar above");
        fields.name[..name.len().min(NAME_MAX)].copy_from_slice(&name[..name.len().min(NAME_MAX)]);
        fields.linkname[..link.len().min(NAME_MAX)].copy_from_slice(&link[..link.len().min(NAME_MAX)]);
        if name.len() > NAME_MAX {
            records.push(("path".into(), name));
        }
        if link.len() > NAME_MAX {
            records.push(("linkpath".into(), link));
        }
        for (field, text) in [(&mut fields.uname, &m.user), (&mut fields.gname, &m.group)] {
            if let Some(text) = text.as_ref().filter(|text| text.len() < field.len()) {
                field[..text.len()].copy_from_slice(text);
            }
        }
        for (key, id) in [("uid", m.uid), ("gid", m.gid)] {
            if id > 0o7_777_777 {
                records.push((key.into(), id.to_string().into_bytes()));
            }
        }
        if size > OCTAL_MAX {
            records.push(("size".into(), size.to_string().into_bytes()));
        }
        if m.mtime.nanos != 0 || m.mtime.seconds < 0 {
            records.push(("mtime".into(), decimal_time(m.mtime.seconds, m.mtime.nanos)));
        }
        for (key, value) in &m.xattrs {
            if let Ok(key) = std::str::from_utf8(key) {
                records.push((format!("SCHILY.xattr.{key}"), value.clone()));
            }
        }
        header.set_entry_type(kind);
        header.set_mode(m.mode & 0o7777);
        header.set_uid(u64::from(m.uid.min(0o7_777_777)));
        header.set_gid(u64::from(m.gid.min(0o7_777_777)));
        header.set_mtime(u64::try_from(m.mtime.seconds).unwrap_or(0).min(OCTAL_MAX));
        header.set_size(size);
        if let Some(number) = device {
            header.set_device_major(rustix::fs::major(number))?;
            header.set_device_minor(rustix::fs::minor(number))?;
        }
        header.set_cksum();
        if !records.is_empty() {
            self.builder.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        }
        let mut counted = content.take(size);
        self.builder.append(&header, &mut counted)?;
        if counted.limit() != 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content is shorter than the entry says"));
        }
        Ok(Put::Written)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }
}

/// Writes seconds and nanoseconds as one decimal number; before 1970 the nanoseconds still count forward.
fn decimal_time(seconds: i64, nanos: u32) -> Vec<u8> {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_are_one_negative_number() {
        assert_eq!(decimal_time(-1, 750_000_000), b"-0.250000000");
        assert_eq!(decimal_time(12, 5), b"12.000000005");
    }
}
