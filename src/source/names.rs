//! Names of the streams of databases: a file for each database, a directory beside it for what has streams of its own.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::model::path::EntryPath;

/// What the name of a main stream has in place of its ending, in that of the directory for single tables.
const PARTS: &str = ".tables";

/// Makes the name of a file from that of a database: what cannot stand in a path is percent-encoded.
pub fn file_name(name: &str) -> String {
    const ENCODED: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'\\');
    match name {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => utf8_percent_encode(name, ENCODED).to_string(),
    }
}

/// Makes the name of a file from that of a database, and another one where that is the name of what belongs to the server.
pub fn file_name_unlike(name: &str, taken: Option<&str>) -> String {
    match name.as_bytes() {
        [first, ..] if taken == Some(name) => format!("%{first:02X}{}", file_name(&name[1..])),
        _ => file_name(name),
    }
}

/// Names the stream of a single table that belongs to the main stream `main`, which is written here without its ending.
pub fn part_name(main: &str, table: &str, ending: &str) -> String {
    format!("{main}{PARTS}/{}.{ending}", file_name(table))
}

/// Returns the directory of the streams of single tables that belong to a main stream.
pub fn parts_of(main: &EntryPath) -> Option<EntryPath> {
    let (directory, file) = match main.as_bytes().iter().rposition(|byte| *byte == b'/') {
        Some(at) => main.as_bytes().split_at(at + 1),
        None => (&[][..], main.as_bytes()),
    };
    let stem = &file[..file.iter().rposition(|byte| *byte == b'.')?];
    EntryPath::new([directory, stem, PARTS.as_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_a_file_name_of_its_own() {
        assert_eq!(file_name("a/b%"), "a%2Fb%25");
        assert_eq!(file_name_unlike("users", Some("users")), "%75sers");
        assert_eq!(file_name_unlike("users", None), "users");
        assert_eq!(file_name_unlike("%75sers", Some("users")), "%2575sers");
    }

    #[test]
    fn parts_are_in_a_directory_beside_the_main_stream() {
        let parts = |main: &str| parts_of(&EntryPath::new(main).expect("safe")).map(|path| path.to_string());
        assert_eq!(parts("postgres/shop.dump").as_deref(), Some("postgres/shop.tables"));
        assert_eq!(parts("postgres/a.b.sql").as_deref(), Some("postgres/a.b.tables"));
        assert_eq!(parts("postgres.old/shop"), None);
    }
}
