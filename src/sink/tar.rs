//! Writing entries as a tar archive: ustar headers, and pax records for what they cannot hold.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use crate::model::entry::{Entry, EntryKind, LinkKey, Metadata};

/// The longest name and link name that a ustar header holds.
const NAME_MAX: usize = 100;
/// The largest size that a ustar header holds in octal digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// The largest number of a user or group that a ustar header holds.
const ID_MAX: u32 = 0o7_777_777;

/// What an entry is to an archive.
struct Form {
    kind: EntryType,
    size: u64,
    /// What a link leads to.
    link: Vec<u8>,
    device: Option<u64>,
}

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
        let mut name = if path.is_empty() { b"./".to_vec() } else { path.to_vec() };
        if entry.is_directory() && name.last() != Some(&b'/') {
            name.push(b'/');
        }
        let Some(form) = self.form(entry, &name) else {
            return Ok(Put::Unsupported("a tar archive cannot hold sockets"));
        };
        let header = header(&name, &form, &entry.metadata)?;
        let records = records(name, &form, &entry.metadata);
        if !records.is_empty() {
            self.put_records(&records)?;
        }
        let mut counted = content.take(form.size);
        self.builder.append(&header, &mut counted)?;
        if counted.limit() != 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content is shorter than the entry says"));
        }
        Ok(Put::Written)
    }

    /// Returns what an entry is to an archive, or nothing where archives have no such thing. A file that has come under another name
    /// is a link to that.
    fn form(&mut self, entry: &Entry, name: &[u8]) -> Option<Form> {
        let of = |kind| Form { kind, size: 0, link: Vec::new(), device: None };
        Some(match &entry.kind {
            EntryKind::File(_) | EntryKind::Stream(..) => {
                let key = entry.link_key();
                match key.and_then(|key| self.first_names.get(&key)) {
                    Some(first) => Form { link: first.clone(), ..of(EntryType::Link) },
                    None => {
                        if let Some(key) = key {
                            self.first_names.insert(key, name.to_vec());
                        }
                        Form { size: entry.size(), ..of(EntryType::Regular) }
                    }
                }
            }
            EntryKind::Directory => of(EntryType::Directory),
            EntryKind::Symlink(to) => Form { link: to.clone(), ..of(EntryType::Symlink) },
            EntryKind::Fifo => of(EntryType::Fifo),
            EntryKind::CharDevice(number) => Form { device: Some(*number), ..of(EntryType::Char) },
            EntryKind::BlockDevice(number) => Form { device: Some(*number), ..of(EntryType::Block) },
            EntryKind::Socket => return None,
        })
    }

    /// Writes the records that belong to the next entry. Keys are bytes: names of attributes need not be UTF-8.
    fn put_records(&mut self, records: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.builder.append(&header, body.as_slice())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(self) -> io::Result<()> {
        self.builder.into_inner()?.flush()
    }
}

/// Returns the header of an entry, with as much of it as a header holds.
fn header(name: &[u8], form: &Form, m: &Metadata) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    let fields = header.as_ustar_mut().expect("made as ustar above");
    fields.name[..name.len().min(NAME_MAX)].copy_from_slice(&name[..name.len().min(NAME_MAX)]);
    fields.linkname[..form.link.len().min(NAME_MAX)].copy_from_slice(&form.link[..form.link.len().min(NAME_MAX)]);
    for (field, text) in [(&mut fields.uname, &m.user), (&mut fields.gname, &m.group)] {
        if let Some(text) = text.as_ref().filter(|text| text.len() < field.len()) {
            field[..text.len()].copy_from_slice(text);
        }
    }
    header.set_entry_type(form.kind);
    header.set_mode(m.mode & 0o7777);
    header.set_uid(u64::from(m.uid.min(ID_MAX)));
    header.set_gid(u64::from(m.gid.min(ID_MAX)));
    header.set_mtime(u64::try_from(m.mtime.seconds).unwrap_or(0).min(OCTAL_MAX));
    header.set_size(form.size);
    if let Some(number) = form.device {
        header.set_device_major(rustix::fs::major(number))?;
        header.set_device_minor(rustix::fs::minor(number))?;
    }
    header.set_cksum();
    Ok(header)
}

/// Returns the pax records for what a header does not hold.
fn records(name: Vec<u8>, form: &Form, m: &Metadata) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    if name.len() > NAME_MAX {
        records.push((b"path".to_vec(), name));
    }
    if form.link.len() > NAME_MAX {
        records.push((b"linkpath".to_vec(), form.link.clone()));
    }
    for (key, id) in [("uid", m.uid), ("gid", m.gid)] {
        if id > ID_MAX {
            records.push((key.as_bytes().to_vec(), id.to_string().into_bytes()));
        }
    }
    if form.size > OCTAL_MAX {
        records.push((b"size".to_vec(), form.size.to_string().into_bytes()));
    }
    if m.mtime.nanos != 0 || m.mtime.seconds < 0 {
        records.push((b"mtime".to_vec(), decimal_time(m.mtime.seconds, m.mtime.nanos)));
    }
    for (key, value) in &m.xattrs {
        records.push((attribute_key(key), value.clone()));
    }
    records
}

/// The key of an extended attribute. In its name `=`, which would end the key, is written `%3D`, and `%` `%25`, as GNU tar does.
fn attribute_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            byte => key.push(byte),
        }
    }
    key
}

/// Writes `LENGTH KEY=VALUE` and a newline; the length counts all of it, its own digits too.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
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

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(pax_record(b"path", b"x"), b"9 path=x\n");
        assert_eq!(pax_record(b"a", b"bb"), b"7 a=bb\n");
        assert_eq!(pax_record(&[b'k'; 93], b"v"), [b"99 ".as_slice(), &[b'k'; 93], b"=v\n"].concat().as_slice());
        assert_eq!(pax_record(&[b'k'; 94], b"v"), [b"101 ".as_slice(), &[b'k'; 94], b"=v\n"].concat().as_slice());
    }

    #[test]
    fn names_of_attributes_are_kept_whatever_is_in_them() {
        assert_eq!(attribute_key(b"user.a=b%\xff"), b"SCHILY.xattr.user.a%3Db%25\xff");
    }
}
