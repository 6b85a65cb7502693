//! Another name for a database in the dump of one of MariaDB or MySQL, which names it in one statement only.
//!
//! Where the character set of a database was changed after a routine or trigger was made, the dump changes it back and forth
//! around that, by the name of the database. Under another name that would change the original, or fail.

use std::io::{self, Write};

use crate::engine::mysql::sql::identifier;

/// Passes a dump on and gives those statements another name.
pub(super) struct Renamed<W: Write> {
    inner: W,
    /// How such a line begins, and how it is to begin.
    from: Vec<u8>,
    to: Vec<u8>,
    /// The beginning of a line that may be one.
    held: Vec<u8>,
    /// The line that is passing is another.
    is_decided: bool,
}

impl<W: Write> Renamed<W> {
    /// Gives what says `from` the name `to`.
    pub(super) fn new(inner: W, from: &str, to: &str) -> Self {
        let line = |name: &str| format!("ALTER DATABASE {} CHARACTER SET ", identifier(name)).into_bytes();
        Self { inner, from: line(from), to: line(to), held: Vec::new(), is_decided: false }
    }

    fn pass_held(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }
}

impl<W: Write> Write for Renamed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.is_decided {
                let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                self.inner.write_all(&rest[..line])?;
                self.is_decided = rest[line - 1] != b'\n';
                rest = &rest[line..];
                continue;
            }
            let (first, after) = (rest[0], &rest[1..]);
            self.held.push(first);
            rest = after;
            if self.held == self.from {
                self.held.clone_from(&self.to);
                self.pass_held()?;
                self.is_decided = true;
            } else if !self.from.starts_with(&self.held) {
                self.pass_held()?;
                self.is_decided = first != b'\n';
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_held()?;
        self.is_decided = true;
        self.inner.flush()
    }
}

impl<W: Write> Drop for Renamed<W> {
    fn drop(&mut self) {
        // Mostly there is nothing: a dump ends with a whole line. Whoever reads it says what is missing.
        let _ = self.pass_held();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_statement_about_the_database_has_another_name() {
        let dump = "ALTER DATABASE `my``shop` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ;\n\n\
            INSERT INTO `t` VALUES ('ALTER DATABASE `my``shop` CHARACTER SET x');\n\
            ALTER DATABASE `my``shop2` CHARACTER SET utf8mb4;\nALTER DATABASE `my\n\
            ALTER DATABASE `my``shop` CHARACTER SET cp1251;\nALTER DATABASE";
        let expected = "ALTER DATABASE `new` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ;\n\n\
            INSERT INTO `t` VALUES ('ALTER DATABASE `my``shop` CHARACTER SET x');\n\
            ALTER DATABASE `my``shop2` CHARACTER SET utf8mb4;\nALTER DATABASE `my\n\
            ALTER DATABASE `new` CHARACTER SET cp1251;\nALTER DATABASE";
        for piece in 1..dump.len() {
            let mut out = Vec::new();
            let mut renamed = Renamed::new(&mut out, "my`shop", "new");
            dump.as_bytes().chunks(piece).for_each(|part| renamed.write_all(part).expect("written"));
            drop(renamed);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{piece}");
        }
    }
}
