//! Where the statements of a dump begin and end, as the client sees it that reads them.
//!
//! Whoever may make a routine, a trigger or a table chooses texts, comments and names with any lines. None of those lines is a
//! statement, whatever it says.

const DELIMITER: &[u8] = b"DELIMITER ";
/// How statements begin that say what a backslash in a text is.
const SQL_MODE: &[u8] = b"/*!50003 SET sql_mode ";

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Anything else, blanks among it.
    Code,
    /// A text or name, to this byte.
    Quoted(u8),
    /// The same behind a backslash.
    Escaped(u8),
    /// A comment to the end of the line.
    LineComment,
    /// A comment to `*/`, and behind a `*` of it.
    Comment,
    CommentStar,
    /// What may begin a comment: `/`, `/*`, `/*M`, `-`, `--`.
    Slash,
    Opened,
    OpenedM,
    Dash,
    Dashes,
}

/// Follows a dump.
#[derive(Debug)]
pub(super) struct StatementBounds {
    within: Within,
    /// What ends statements, and how much of it has passed.
    delimiter: Vec<u8>,
    matched: usize,
    /// Some of a statement has passed.
    is_begun: bool,
    /// In what is quoted so, a backslash is no character.
    escaping: &'static [u8],
}

impl Default for StatementBounds {
    fn default() -> Self {
        Self { within: Within::Code, delimiter: b";".to_vec(), matched: 0, is_begun: false, escaping: b"'\"" }
    }
}

impl StatementBounds {
    /// Tells whether what comes next is not part of a statement that has begun, nor of a comment.
    pub(super) fn are_between(&self) -> bool {
        !self.is_begun && self.within == Within::Code
    }

    /// Tells whether what comes next is neither in a text or name nor in a comment.
    pub(super) fn is_code(&self) -> bool {
        self.within == Within::Code
    }

    /// Tells whether statements end as they do outside routines.
    pub(super) fn are_plain(&self) -> bool {
        self.delimiter == b";"
    }

    /// Hears of a line that begins between statements, all of it. Tells whether it says how statements end from here on: the client
    /// takes it for itself, and it need not be passed.
    pub(super) fn begin(&mut self, line: &[u8]) -> bool {
        if let Some(delimiter) = line.strip_prefix(DELIMITER).map(<[u8]>::trim_ascii).filter(|it| !it.is_empty()) {
            (self.delimiter, self.matched) = (delimiter.to_vec(), 0);
            return true;
        }
        if line.starts_with(SQL_MODE) {
            let has = |mode: &str| memchr::memmem::find(line, mode.as_bytes()).is_some();
            self.escaping = match (has("NO_BACKSLASH_ESCAPES"), has("ANSI_QUOTES")) {
                (true, _) => b"",
                (false, true) => b"'",
                (false, false) => b"'\"",
            };
        }
        false
    }

    /// Passes what comes next.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let before = self.within;
            self.within = self.after(byte);
            let is_blank = byte.is_ascii_whitespace();
            self.is_begun |= match (before, self.within) {
                (Within::Dashes, Within::Code) => byte != b'\n',
                (Within::Slash | Within::Dash | Within::Opened | Within::OpenedM, Within::Code)
                | (_, Within::Quoted(_)) => true,
                (Within::Code, Within::Code) => !is_blank,
                _ => false,
            };
            let is_code = self.within == Within::Code && !matches!(before, Within::Quoted(_) | Within::CommentStar);
            self.matched = match is_code && self.delimiter.get(self.matched) == Some(&byte) {
                true => self.matched + 1,
                false => usize::from(is_code && self.delimiter.first() == Some(&byte)),
            };
            if self.matched == self.delimiter.len() {
                (self.matched, self.is_begun) = (0, false);
            }
        }
    }

    /// Returns what comes after this byte.
    fn after(&self, byte: u8) -> Within {
        match (self.within, byte) {
            (Within::Escaped(quote), _) => Within::Quoted(quote),
            (Within::Quoted(quote), _) if byte == quote => Within::Code,
            (Within::Quoted(quote), b'\\') if self.escaping.contains(&quote) => Within::Escaped(quote),
            (Within::LineComment, b'\n') | (Within::CommentStar, b'/') | (Within::Opened | Within::OpenedM, b'!') => {
                Within::Code
            }
            (Within::Quoted(_) | Within::LineComment, _) => self.within,
            (Within::Opened, b'M') => Within::OpenedM,
            (Within::Comment | Within::CommentStar | Within::Opened | Within::OpenedM, b'*') => Within::CommentStar,
            (Within::Comment | Within::CommentStar | Within::Opened | Within::OpenedM, _) => Within::Comment,
            (Within::Slash, b'*') => Within::Opened,
            (Within::Dash | Within::Dashes, b'-') => Within::Dashes,
            (Within::Dashes, b'\n') => Within::Code,
            (Within::Dashes, _) if byte == b' ' || byte.is_ascii_control() => Within::LineComment,
            (_, b'\'' | b'"' | b'`') => Within::Quoted(byte),
            (_, b'#') => Within::LineComment,
            (_, b'/') => Within::Slash,
            (_, b'-') => Within::Dash,
            _ => Within::Code,
        }
    }
}

/// Returns the name that a text begins with in back-ticks, and what follows it; nothing where it does not end here.
pub(super) fn quoted_name(text: &[u8]) -> Option<(String, &[u8])> {
    let text = text.strip_prefix(b"`")?;
    let mut at = 0;
    loop {
        at += memchr::memchr(b'`', &text[at..])?;
        match text.get(at + 1) {
            Some(b'`') => at += 2,
            _ => return Some((String::from_utf8_lossy(&text[..at]).replace("``", "`"), &text[at + 1..])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether statements are over behind a text.
    fn are_over(text: &str) -> bool {
        let mut statements = StatementBounds::default();
        for line in text.split_inclusive('\n') {
            if !(statements.are_between() && statements.begin(line.as_bytes())) {
                statements.pass(line.as_bytes());
            }
        }
        statements.are_between()
    }

    #[test]
    fn statements_end_where_the_client_ends_them() {
        let over = [
            "-- it's\n--\n# it's\n/* it's ; \n*/\n",
            "SELECT '\\'', \"a\\\"b\", `a\\`, 'it''s', 5--1, 6/2;\n",
            "/*!50003 SET x = 'a' */ ;\n/*M!100100 SET x = 1 */;\n/**/\n",
            "DELIMITER ;;\nCREATE p() BEGIN SELECT 1; /* it's ;; */ END ;;\nDELIMITER ;\nSELECT 1;\n",
            "/*!50003 SET sql_mode = 'NO_BACKSLASH_ESCAPES' */ ;\nSELECT '\\';\n\
             /*!50003 SET sql_mode = @saved_sql_mode */ ;\nSELECT '\\'';\n",
            // In a statement it is no word of the client's.
            "SELECT 1\nDELIMITER ;;\nSELECT 2;\n",
        ];
        over.iter().for_each(|text| assert!(are_over(text), "{text}"));
        let under_way = [
            "DELIMITER ;;\nBEGIN SELECT 1;\n",
            "DELIMITER ;;\nSELECT '\nDELIMITER ;\n;;\n",
            "/*\nDELIMITER ;;\n;\n",
            "SELECT `a;\n",
            "SELECT '\\';\n",
            "/*!50001 CREATE\n",
            "a ;b\n",
        ];
        under_way.iter().for_each(|text| assert!(!are_over(text), "{text}"));
        assert_eq!(quoted_name(b"`a``b` (x"), Some(("a`b".to_owned(), &b" (x"[..])));
        assert!(quoted_name(b"`a``").is_none() && quoted_name(b"a`").is_none());
    }
}
