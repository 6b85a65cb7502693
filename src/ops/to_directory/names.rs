//! Names of the files that dumps become: plain ASCII, short enough for any file system, and each given once.
//!
//! Names of databases are chosen by whoever made them, and a stream is called after its database. So nothing of a name is taken as it is
//! that a shell, a terminal or a file system could take for something else.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::model::path::EntryPath;

/// What stands in a name as it is.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'+').remove(b'@').remove(b'%');
/// The most bytes of one name; file systems take 255, and what is being written has a few more.
const NAME_BYTES: usize = 180;
/// The most bytes of the path of a stream, and of what is above its file; one that is deeper stands nearer to the top.
const PATH_BYTES: usize = 1024;
const DIRECTORY_BYTES: usize = 1024;
/// The most bytes of the ending that a name keeps when it is cut.
const ENDING_BYTES: usize = 8;

/// Gives names, each once.
#[derive(Debug)]
pub struct FileNames {
    /// Paths that were given, in lower case: some file systems take both for one.
    taken: BTreeSet<String>,
    /// What each directory of the snapshot is called.
    directories: BTreeMap<Vec<u8>, String>,
}

impl FileNames {
    /// Begins with a name that no dump gets.
    pub fn without(name: &str) -> Self {
        Self { taken: [name.to_lowercase()].into(), directories: BTreeMap::new() }
    }

    /// Returns the path of the file for a stream, below the directory, its parts joined by `/`.
    pub fn file(&mut self, stream: &EntryPath) -> String {
        let parts: Vec<&[u8]> = stream.components().collect();
        let (name, above) = parts.split_last().expect("a path has a name");
        let top = &above[..above.len().min(1)];
        let directory = if stream.as_bytes().len() > PATH_BYTES { String::new() } else { self.directory(above) };
        let directory = match directory.len() {
            1..=DIRECTORY_BYTES => directory,
            _ => self.directory(top),
        };
        self.give(&directory, name)
    }

    /// Returns what a directory of the snapshot is called, with a slash behind it unless it is the top.
    fn directory(&mut self, parts: &[&[u8]]) -> String {
        let Some((name, above)) = parts.split_last() else { return String::new() };
        let path = parts.join(&b'/');
        if let Some(known) = self.directories.get(&path) {
            return known.clone();
        }
        let above = self.directory(above);
        let given = format!("{}/", self.give(&above, name));
        self.directories.insert(path, given.clone());
        given
    }

    /// Gives a name in a directory, another one where it is taken.
    fn give(&mut self, directory: &str, name: &[u8]) -> String {
        let name = safe(name);
        let (stem, ending) = match name.rfind('.') {
            Some(at) if at > 0 && name.len() - at <= ENDING_BYTES => name.split_at(at),
            _ => (name.as_str(), ""),
        };
        (1_u64..)
            .map(|turn| {
                let number = if turn == 1 { String::new() } else { format!("~{turn}") };
                let most = NAME_BYTES - ending.len() - number.len();
                format!("{directory}{}{number}{ending}", cut(stem, most))
            })
            .find(|path| self.taken.insert(path.to_lowercase()))
            .expect("numbers go on")
    }
}

/// Writes a name so that it is plain ASCII and neither hidden nor an option.
fn safe(name: &[u8]) -> String {
    let encoded = percent_encode(name, ENCODED).to_string();
    match encoded.as_bytes() {
        [first @ (b'.' | b'-'), ..] => format!("%{first:02X}{}", &encoded[1..]),
        _ => encoded,
    }
}

/// Cuts a name, and nothing in the middle of what stands for one byte.
fn cut(name: &str, most: usize) -> &str {
    if name.len() <= most {
        return name;
    }
    let kept = &name[..most];
    let at = kept.rfind('%').filter(|at| kept.len() - at < 3);
    &kept[..at.unwrap_or(kept.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(paths: &[&[u8]]) -> Vec<String> {
        let mut names = FileNames::without("README.txt");
        paths.iter().map(|path| names.file(&EntryPath::new(*path).expect("safe"))).collect()
    }

    #[test]
    fn usual_names_stay_and_odd_ones_are_written_out() {
        let paths: [&[u8]; 7] = [
            b"postgres/shop.dump",
            b"postgres/shop.tables/public.\"odd table\".dump",
            b"sqlite/srv/app data/.app.db",
            b"mysql/-rf $(id).sql",
            b"mysql/a%2Fb\n.sql",
            b"postgres/caf\xe9.dump",
            b"README.txt",
        ];
        let expected = [
            "postgres/shop.dump",
            "postgres/shop.tables/public.%22odd%20table%22.dump",
            "sqlite/srv/app%20data/%2Eapp.db",
            "mysql/%2Drf%20%24%28id%29.sql",
            "mysql/a%2Fb%0A.sql",
            "postgres/caf%E9.dump",
            "README~2.txt",
        ];
        assert_eq!(named(&paths), expected);
    }

    #[test]
    fn no_two_streams_get_one_name() {
        let long = format!("mysql/{}.sql", "ü".repeat(64));
        let other = format!("mysql/{}x.sql", "ü".repeat(63));
        let paths =
            [long.as_bytes(), other.as_bytes(), b"mysql/\n.sql", b"mysql/%0A.sql", b"mysql/%0a.sql", b"a", b"a/b"];
        let given = named(&paths);
        let lower: BTreeSet<String> = given.iter().map(|path| path.to_lowercase()).collect();
        assert_eq!(lower.len(), paths.len(), "{given:?}");
        assert!(given[0].ends_with("%BC.sql") && given[1].ends_with("%BC~2.sql"), "{given:?}");
        assert!(given.iter().flat_map(|path| path.split('/')).all(|name| name.len() <= NAME_BYTES), "{given:?}");
        assert_eq!(given[5..], ["a", "a~2/b"]);
    }

    #[test]
    fn what_is_too_deep_stands_nearer_to_the_top() {
        let deep = format!("sqlite/{}app.db", "directory/".repeat(200));
        let given = named(&[deep.as_bytes(), b"sqlite/app.db"]);
        assert_eq!(given, ["sqlite/app.db", "sqlite/app~2.db"]);
    }
}
