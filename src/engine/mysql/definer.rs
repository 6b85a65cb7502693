//! Another definer for the views, routines, triggers and events of a dump of MariaDB or MySQL on its way into the client.
//!
//! The clause counts at the head of a statement that makes or changes something, in front of what that is: `CREATE ALGORITHM=UNDEFINED
//! DEFINER=…`, in comments for versions as well. Behind that, and in rows, texts and names, it is whatever somebody wrote.

use std::io::{self, Write};

use crate::engine::adaptations::Account;
use crate::engine::lines::{DecidedLines, LineEdits};
use crate::engine::mysql::sql::identifier;
use crate::engine::mysql::statements::{StatementBounds, quoted_name};

/// What stands around names: the second where a routine was made with `ANSI_QUOTES`.
const QUOTES: [u8; 2] = *b"`\"";
const ROWS: &[u8] = b"INSERT INTO ";
/// As much of a line or of a statement as has the clause: a user and a host have 335 characters, each of four bytes or two back-ticks.
const HEAD_BYTES: usize = 2048;

/// Passes a dump on with another definer.
pub(super) struct Redefined<W: Write> {
    inner: W,
    /// The definer as SQL.
    to: Vec<u8>,
    statements: StatementBounds,
    /// A statement with rows is passing. It begins a line, and no text in it has the end of one.
    is_rows: bool,
    /// The head of a statement that may have the clause.
    head: Option<Vec<u8>>,
}

/// What the head of a statement says of a definer.
#[derive(Debug, PartialEq, Eq)]
enum StatementHead {
    /// Nothing so far.
    Open,
    /// Nothing.
    Other,
    /// The clause names the definer in these bytes.
    Defined(std::ops::Range<usize>),
}

impl<W: Write> Redefined<W> {
    /// Gives all that has a definer this one.
    pub(super) fn new(inner: W, definer: &Account) -> DecidedLines<Self> {
        let to = format!("{}@{}", identifier(&definer.user), identifier(&definer.host)).into_bytes();
        DecidedLines::new(
            Self { inner, to, statements: StatementBounds::default(), is_rows: false, head: None },
            HEAD_BYTES,
        )
    }
}

impl<W: Write> LineEdits for Redefined<W> {
    fn decide(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.is_rows && self.statements.are_between() {
            if self.statements.begin(line.trim_ascii_end()) {
                return self.inner.write_all(line);
            }
            self.is_rows = self.statements.are_plain() && line.strip_prefix(ROWS).and_then(quoted_name).is_some();
            self.head = (!self.is_rows).then(Vec::new);
        }
        self.pass(line)
    }

    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_rows {
            return self.inner.write_all(bytes);
        }
        self.statements.pass(bytes);
        let Some(mut head) = self.head.take() else { return self.inner.write_all(bytes) };
        head.extend_from_slice(bytes);
        match read_head(&head) {
            StatementHead::Open if head.len() < HEAD_BYTES && !self.statements.are_between() => {
                self.head = Some(head);
                Ok(())
            }
            StatementHead::Open | StatementHead::Other => self.inner.write_all(&head),
            StatementHead::Defined(at) => {
                self.inner.write_all(&head[..at.start])?;
                self.inner.write_all(&self.to)?;
                self.inner.write_all(&head[at.end..])
            }
        }
    }

    fn end_statement(&mut self) {
        self.is_rows = false;
    }

    fn flush(&mut self) -> io::Result<()> {
        // What is not known yet waits for more of it.
        self.inner.flush()
    }

    fn cut_off(&mut self, held: &[u8]) {
        // Mostly there is nothing: a dump ends with a whole statement. Whoever reads it says what is missing.
        let _ = self.head.take().map(|head| self.inner.write_all(&head));
        let _ = self.inner.write_all(held);
    }
}

/// Passes a dump on with another definer, if one is named.
pub(super) fn with_definer(input: Box<dyn Write + Send>, definer: Option<&Account>) -> Box<dyn Write + Send> {
    match definer {
        Some(definer) => Box::new(Redefined::new(input, definer)),
        None => input,
    }
}

/// Looks for the clause in the head of a statement.
fn read_head(head: &[u8]) -> StatementHead {
    let mut rest = head;
    let mut is_made = false;
    loop {
        rest = behind_marks(rest);
        let word = rest.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_').count();
        let (word, after) = rest.split_at(word);
        // What ends here may go on.
        match () {
            () if after.is_empty() => return StatementHead::Open,
            () if !is_made && [&b"CREATE"[..], b"ALTER"].iter().any(|it| word.eq_ignore_ascii_case(it)) => {
                is_made = true
            }
            () if is_made && word.eq_ignore_ascii_case(b"DEFINER") => return read_account(head, after),
            () if is_made && [&b"OR"[..], b"REPLACE"].iter().any(|it| word.eq_ignore_ascii_case(it)) => {}
            () if is_made && word.eq_ignore_ascii_case(b"ALGORITHM") => {
                let value = behind_equals(after).unwrap_or(b"");
                let length = value.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                rest = &value[length..];
                if rest.is_empty() {
                    return StatementHead::Open;
                }
                continue;
            }
            () => return StatementHead::Other,
        }
        rest = after;
    }
}

/// Leaves blanks away, and the ends of comments whose content a version runs.
fn behind_marks(text: &[u8]) -> &[u8] {
    let mut rest = text.trim_ascii_start();
    loop {
        let opened = rest.strip_prefix(b"/*!").or_else(|| rest.strip_prefix(b"/*M!"));
        let behind = match opened {
            Some(inner) => {
                let digits = inner.iter().take_while(|byte| byte.is_ascii_digit()).count();
                Some(&inner[digits..])
            }
            None => rest.strip_prefix(b"*/"),
        };
        match behind {
            Some(behind) => rest = behind.trim_ascii_start(),
            None => return rest,
        }
    }
}

fn behind_equals(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start)
}

/// Reads who the definer is, from what follows the word: a user in quotes with a host, or a role without one.
fn read_account(head: &[u8], after: &[u8]) -> StatementHead {
    let Some(account) = behind_equals(after) else {
        return if after.trim_ascii().is_empty() { StatementHead::Open } else { StatementHead::Other };
    };
    let start = head.len() - account.len();
    if !account.is_empty() && !QUOTES.contains(&account[0]) {
        return StatementHead::Other;
    }
    let Some(rest) = behind_quoted(account) else { return StatementHead::Open };
    match rest.strip_prefix(b"@") {
        None if rest.is_empty() => StatementHead::Open,
        None => StatementHead::Defined(start..head.len() - rest.len()),
        Some(host) => match behind_quoted(host) {
            Some(rest) if !rest.is_empty() => StatementHead::Defined(start..head.len() - rest.len()),
            _ => StatementHead::Open,
        },
    }
}

/// Returns what follows a name in quotes that a text begins with; nothing where it does not end here.
fn behind_quoted(text: &[u8]) -> Option<&[u8]> {
    let quote = text.first().filter(|quote| QUOTES.contains(quote))?;
    let mut at = 1;
    loop {
        at += memchr::memchr(*quote, &text[at..])? + 1;
        match text.get(at) {
            Some(next) if next == quote => at += 1,
            _ => return Some(&text[at..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;

    fn redefined(dump: &str) -> String {
        let definer = Account { user: "my`app".into(), host: "10.%".into() };
        passed(dump, |kept| Box::new(Redefined::new(kept, &definer)))
    }

    const OLD: &str = "DEFINER=`root`@`localhost`";
    const NEW: &str = "DEFINER=`my``app`@`10.%`";

    #[test]
    fn whatever_has_a_definer_gets_the_other() {
        for made in [
            "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 {} SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */;\n",
            "CREATE OR REPLACE ALGORITHM = MERGE {} VIEW v AS SELECT 1;\n",
            "DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 {}*/ /*!50003 TRIGGER t BEFORE INSERT ON `a` FOR EACH ROW SET @x = 1 */;;\nDELIMITER ;\n",
            "DELIMITER ;;\n/*!50106 CREATE*/ /*!50117 {}*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO DELETE FROM t */ ;;\nDELIMITER ;\n",
            "DELIMITER ;;\nCREATE {} PROCEDURE `p`()\nBEGIN SELECT 1; END ;;\nCREATE {} AGGREGATE FUNCTION f() RETURN 1;;\nDELIMITER ;\n",
            "DELIMITER //\nalter {} event e on schedule every 1 day //\nDELIMITER ;\n",
        ] {
            let dump =
                |definer: &str| format!("--\n-- x\n--\nSET a = 1;\n{}-- Dump completed\n", made.replace("{}", definer));
            assert_eq!(redefined(&dump(OLD)), dump(NEW));
            assert_eq!(redefined(&dump("DEFINER=`a role`")), dump(NEW));
            assert_eq!(redefined(&dump("DEFINER=`it``s`@`%`")), dump(NEW));
            assert_eq!(redefined(&dump("DEFINER=\"it\"\"s\"@\"%\"")), dump(NEW));
        }
    }

    #[test]
    fn what_only_reads_like_it_stays() {
        let rows = format!("INSERT INTO `t` VALUES\n(1,'CREATE {OLD} VIEW'),\n(2,'\\';\\nCREATE {OLD}');\n");
        let long = format!("INSERT INTO `t` VALUES ('{}'),\n('CREATE {OLD} VIEW');\n", "x".repeat(5000));
        for dump in [
            rows.as_str(),
            &long,
            &format!("INSERT INTO `t;\nCREATE {OLD} VIEW` VALUES\n(1);\n"),
            &format!("-- CREATE {OLD} VIEW\n/* \nCREATE {OLD} VIEW\n*/;\n"),
            &format!("/*!50001 CREATE VIEW `v` AS select '\nCREATE {OLD} VIEW' AS `{OLD}` */;\n"),
            &format!("CREATE TABLE `t` (\n  `x` text DEFAULT '{OLD}' COMMENT 'a;\nCREATE {OLD} VIEW'\n);\n"),
            &format!(
                "DELIMITER ;;\nCREATE PROCEDURE p()\nBEGIN\nPREPARE s FROM '{OLD}';\nCREATE {OLD} VIEW v AS SELECT 1;\nEND ;;\nDELIMITER ;\n"
            ),
            &format!("SET @x = CREATE; SELECT DEFINER = `a`@`b`;\nDROP VIEW `CREATE`;\n CREATE TABLE {OLD} (x int);\n")
                .replace(" CREATE TABLE DEFINER=", " CREATE TABLE x"),
        ] {
            assert_eq!(redefined(dump), dump);
        }
    }

    #[test]
    fn a_body_keeps_what_its_head_does_not() {
        let dump = |definer: &str| {
            format!(
                "DELIMITER ;;\nCREATE {definer} PROCEDURE p()\nBEGIN\n CREATE {OLD} VIEW v AS SELECT '{OLD}';\nEND ;;\nDELIMITER ;\n"
            )
        };
        assert_eq!(redefined(&dump(OLD)), dump(NEW));
        // What is cut off is passed as it is.
        assert_eq!(redefined("CREATE DEFINER=`root`@`loc"), "CREATE DEFINER=`root`@`loc");
        assert_eq!(redefined("/*!50001 CREATE */\n"), "/*!50001 CREATE */\n");
    }
}
