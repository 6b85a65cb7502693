//! What `psql` is given to read: settings of ours, and statements that it does not understand.
//!
//! Between statements `psql` reads commands of its own, and some of them run programs on this machine. Much of what a server is told comes
//! from a snapshot or from another server, and may be made so that `psql` sees such a command in it. So no statement gets to `psql` as it
//! is: the server is asked for it as a text in hexadecimal digits, and gets back what it answered (`\gexec`). Where a quote or a line
//! ends `psql` decides by the encoding and the way of quoting that the server tells it of, or that a statement before has set. To ASCII
//! without backslashes between our own quotes none of them makes a difference. Dumps of SQL are read by `psql` itself, in a mode in
//! which it takes no commands.

use std::io::Write;

use crate::engine::lines::EditedLines;
use crate::model::id::hex;

/// What every session of ours begins with. Names mean the server's own objects: whoever owns a database could put others of
/// the same names in front of them, to be run with our rights (CVE-2018-1058). Limits that are set for a role or a database
/// are meant for those who use it. Texts come in UTF-8, or as they are from a database without an encoding. Nothing is printed,
/// and no variable of `psql` gets what the server says.
pub const SAFE_SESSION: &str = "SET search_path = pg_catalog, pg_temp;
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SELECT 1 FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')
  HAVING count(set_config(name, '0', false)) < 0;
SET default_transaction_read_only = off;
SELECT 1 WHERE set_config('client_encoding',
  CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, false) IS NULL;
";

/// Begins the mode of `psql` that takes no commands, and is ended by the same key.
const RESTRICT: &str = "\\restrict ";
const UNRESTRICT: &str = "\\unrestrict ";

/// Writes what `psql` reads to run statements one by one, without seeing them. A text of several statements is one transaction.
pub fn script(statements: &[String]) -> String {
    let lines = statements.iter().map(|statement| sent_back(statement));
    std::iter::once(SAFE_SESSION.to_owned()).chain(lines).collect()
}

/// Writes a line by which the server sends a statement back, to be run.
pub fn sent_back(statement: &str) -> String {
    format!("SELECT {} \\gexec\n", unseen(statement))
}

/// Writes a text as an expression of SQL in which `psql` sees digits alone. (In a database without an encoding it stays UTF-8.)
pub fn unseen(text: &str) -> String {
    format!("pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'UTF8')", hex(text.as_bytes()))
}

/// Writes a text as SQL's string literal, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Writes a name as SQL's quoted identifier.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the argument by which `psql` takes no commands from what it reads, under a key that nobody knows who wrote it.
pub fn restricting() -> String {
    let random = || getrandom::u64().expect("the operating system gives random bytes");
    format!("--command={RESTRICT}{:016x}{:016x}", random(), random())
}

/// Leaves out of a dump of SQL the key that `pg_dump` wrote into it for the same purpose: whoever wrote the dump knows that one, and `psql`
/// takes one key at a time.
pub fn without_own_key(input: impl Write + Send + 'static) -> Box<dyn Write + Send> {
    let (mut is_head, mut end) = (true, None);
    Box::new(EditedLines::new(input, move |line: &[u8], out: &mut dyn Write| {
        if is_head && let Some(key) = line.strip_prefix(RESTRICT.as_bytes()) {
            (is_head, end) = (false, Some([UNRESTRICT.as_bytes(), key].concat()));
            return Ok(());
        }
        // Behind the first statement such a line may be anything: of rows, it is one that begins with another character.
        is_head &= line == b"\n" || line.starts_with(b"--");
        if end.as_deref() == Some(line) { Ok(()) } else { out.write_all(line) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;
    use crate::model::id::unhex;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(literal(r"it's a \ path"), r"E'it''s a \\ path'");
        assert_eq!(identifier("My \"shop\""), "\"My \"\"shop\"\"\"");
    }

    #[test]
    fn nothing_of_a_statement_is_read_by_psql() {
        // In SJIS the second byte of `Á` and what follows it are one character.
        let statements = ["CREATE DATABASE a ENCODING 'UTF8'\n\\! id >/tmp/x\n", "SELECT $$Á' Á\\! id$$\0"];
        let script = script(&statements.map(str::to_owned));
        let mut lines = script.strip_prefix(SAFE_SESSION).expect("its beginning").lines();
        for statement in statements {
            let line = lines.next().expect("a line for each");
            let rest = line.strip_prefix("SELECT pg_catalog.convert_from(pg_catalog.decode('").expect(line);
            let digits = rest.strip_suffix("', 'hex'), 'UTF8') \\gexec").expect(line);
            assert_eq!(unhex(digits).as_deref(), Some(statement.as_bytes()));
        }
        assert_eq!(lines.next(), None);
        assert!(SAFE_SESSION.is_ascii() && !SAFE_SESSION.contains(['\\', '"', ':']));
    }

    #[test]
    fn the_key_of_a_dump_is_left_out_and_nothing_that_looks_like_one() {
        let dump = |first: &str, last: &str| {
            format!(
                "--\n-- PostgreSQL database dump\n--\n\n{first}\nSET a;\n\\restrict b\n\\unrestrict b\n-- end\n\n{last}\n"
            )
        };
        let through = |dump: &str| passed(dump, without_own_key);
        let whole = dump("\\restrict a\n", "\\unrestrict a\n");
        assert_eq!(through(&whole), dump("", ""));
        assert_eq!(through(&dump("", "")), dump("", ""));
        let late = "SET a;\n\\restrict a\n\\! id\n\\unrestrict a\n";
        assert_eq!(through(late), late);
        assert!(restricting().len() == "--command=\\restrict ".len() + 32 && restricting() != restricting());
    }
}
