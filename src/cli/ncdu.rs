//! A snapshot as `ncdu` reads it with `-f`: its JSON export, version 1.2, written as the entries come.
//!
//! A directory is an array whose first element is the directory itself. Names are bytes, as they are; only what JSON
//! reserves is escaped.

use crate::model::entry::{Entry, EntryKind};
use crate::model::path::EntryPath;
use crate::model::time::Timestamp;

/// An export that is being written.
#[derive(Debug)]
pub struct Export {
    /// What the listing begins at; empty for the whole snapshot.
    root: Vec<u8>,
    made: Timestamp,
    /// The directories that are open, by path, and the device of each.
    open: Vec<(Vec<u8>, u64)>,
}

/// What `ncdu` counts disk space in.
const BLOCK: u64 = 512;

impl Export {
    /// Begins the export of a snapshot that was `made` then, or of the path `within` it.
    pub fn new(within: Option<&EntryPath>, made: Timestamp) -> Self {
        let root = within.map(|path| path.as_bytes().to_vec()).unwrap_or_default();
        Self { root, made, open: Vec::new() }
    }

    /// Returns what an entry adds. Entries come in the order of their paths.
    pub fn entry(&mut self, entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        let path = entry.path.as_bytes();
        if self.open.is_empty() {
            if path == self.root && entry.is_directory() {
                self.begin(entry.metadata.device, &mut out);
                fields(entry, true, &mut out);
                out.push(b'}');
                return out;
            }
            if path == self.root {
                // One that is no directory is shown in the one that it is in.
                self.root = entry.path.parent().map(|above| above.as_bytes().to_vec()).unwrap_or_default();
            }
            self.begin(entry.metadata.device, &mut out);
            out.push(b'}');
        }
        while self.open.len() > 1 && self.open.last().is_some_and(|(open, _)| below(open, path).is_none()) {
            self.open.pop();
            out.push(b']');
        }
        // Directories that have no entry themselves, as above streams.
        while let Some((open, device)) = self.open.last().cloned()
            && let Some((name, _)) = below(&open, path).and_then(split)
        {
            let above = &path[..path.len() - below(&open, path).map_or(0, <[u8]>::len) + name.len()];
            out.extend_from_slice(b",\n[");
            object(name, &mut out);
            out.push(b'}');
            self.open.push((above.to_vec(), device));
        }
        let device = self.open.last().map_or(0, |(_, device)| *device);
        out.extend_from_slice(if entry.is_directory() { b",\n[" } else { b",\n" });
        object(entry.path.name(), &mut out);
        fields(entry, entry.metadata.device != device, &mut out);
        out.push(b'}');
        if entry.is_directory() {
            self.open.push((path.to_vec(), entry.metadata.device));
        }
        out
    }

    /// Returns what stands at the end.
    pub fn end(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.open.is_empty() {
            self.begin(0, &mut out);
            out.push(b'}');
        }
        out.extend(std::iter::repeat_n(b']', self.open.len() + 1));
        out.push(b'\n');
        out
    }

    /// Writes the head, and the beginning of the object of the directory that holds everything.
    fn begin(&mut self, device: u64, out: &mut Vec<u8>) {
        let (version, seconds) = (env!("CARGO_PKG_VERSION"), self.made.seconds.max(0));
        let head = format!(r#"[1,2,{{"progname":"coffre","progver":"{version}","timestamp":{seconds}}},"#);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(b"\n[");
        object(&[b"/", &*self.root].concat(), out);
        self.open.push((self.root.clone(), device));
    }
}

/// Returns what of `path` stands below the directory `above`.
fn below<'a>(above: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    match above {
        b"" => Some(path),
        above => path.strip_prefix(above)?.strip_prefix(b"/"),
    }
}

/// Splits the first component from a path that has several.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().position(|&byte| byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

/// Begins an object with its name.
fn object(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":\"");
    for &byte in name {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 | 0x7f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Writes what is known of an entry besides its name.
fn fields(entry: &Entry, with_device: bool, out: &mut Vec<u8>) {
    let m = &entry.metadata;
    let mut field = |name: &str, value: u64| out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    if let Some(content) = entry.content() {
        // What has holes takes less.
        field("asize", content.size);
        field("dsize", content.stored_length().div_ceil(BLOCK).saturating_mul(BLOCK));
    }
    if with_device {
        field("dev", m.device);
    }
    field("ino", m.inode);
    // It reads these as signed numbers of 32 bits.
    let small = |value: u32| i32::try_from(value).is_ok();
    [("uid", m.uid), ("gid", m.gid)]
        .iter()
        .filter(|(_, id)| small(*id))
        .for_each(|(name, id)| field(name, (*id).into()));
    field("mode", (kind_bits(&entry.kind) | m.mode).into());
    field("mtime", u64::try_from(m.mtime.seconds).unwrap_or(0));
    if m.links > 1 && !entry.is_directory() {
        field("nlink", m.links.min(i32::MAX as u64));
        out.extend_from_slice(b",\"hlnkc\":true");
    }
    if entry.content().is_none() && !entry.is_directory() {
        out.extend_from_slice(b",\"notreg\":true");
    }
}

/// Returns the type of a file as `stat` tells it.
fn kind_bits(kind: &EntryKind) -> u32 {
    match kind {
        EntryKind::Fifo => 0o010_000,
        EntryKind::CharDevice(_) => 0o020_000,
        EntryKind::Directory => 0o040_000,
        EntryKind::BlockDevice(_) => 0o060_000,
        EntryKind::File(_) | EntryKind::Stream(..) => 0o100_000,
        EntryKind::Symlink(_) => 0o120_000,
        EntryKind::Socket => 0o140_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{FileContent, Hole, Metadata};

    fn entry(path: &str, kind: EntryKind, device: u64) -> Entry {
        let metadata = Metadata { device, inode: 7, mode: 0o644, uid: u32::MAX, ..Metadata::default() };
        Entry { path: EntryPath::new(path).expect("safe"), kind, metadata }
    }

    fn export(within: Option<&str>, entries: &[Entry]) -> serde_json::Value {
        let within = within.map(|path| EntryPath::new(path).expect("safe"));
        let mut export = Export::new(within.as_ref(), Timestamp::from_seconds(9));
        let mut out: Vec<u8> = entries.iter().flat_map(|entry| export.entry(entry)).collect();
        out.extend(export.end());
        let all: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((&all[0], &all[1], &all[2]["timestamp"]), (&1.into(), &2.into(), &9.into()));
        all[3].clone()
    }

    /// The tree as text: names, and what is in a directory in brackets.
    fn shape(item: &serde_json::Value) -> String {
        match item.as_array() {
            Some(items) => {
                let below: Vec<String> = items[1..].iter().map(shape).collect();
                format!("{}[{}]", items[0]["name"].as_str().expect("a name"), below.join(" "))
            }
            None => item["name"].as_str().expect("a name").to_owned(),
        }
    }

    #[test]
    fn directories_are_closed_and_those_without_an_entry_are_opened() {
        let file = || EntryKind::File(FileContent::default());
        let entries = [
            entry("a", EntryKind::Directory, 1),
            entry("a/b", EntryKind::Directory, 1),
            entry("a/b/c", file(), 1),
            entry("a.b", file(), 1),
            entry("postgres/shop.tables/x", file(), 0),
            entry("postgres/z", file(), 0),
        ];
        assert_eq!(shape(&export(None, &entries)), "/[a[b[c]] a.b postgres[shop.tables[x] z]]");
        assert_eq!(shape(&export(Some("a"), &entries[..3])), "/a[b[c]]");
        assert_eq!(shape(&export(Some("a/b/c"), &entries[2..3])), "/a/b[c]");
        assert_eq!(shape(&export(None, &[])), "/[]");
    }

    #[test]
    fn sizes_devices_and_odd_names_are_told() {
        let hole = Hole { offset: 0, length: 5000 };
        let sparse = EntryKind::File(FileContent { size: 6001, holes: vec![hole], ..FileContent::default() });
        let all = export(None, &[entry("x", EntryKind::Directory, 4), entry("x/\"\n\\", sparse, 5)]);
        let file = &all[1][1];
        assert_eq!(file["name"], "\"\n\\");
        assert_eq!((&file["asize"], &file["dsize"], &file["dev"]), (&6001.into(), &1024.into(), &5.into()));
        assert_eq!((&file["mode"], file.get("uid")), (&0o100_644.into(), None));
    }
}
