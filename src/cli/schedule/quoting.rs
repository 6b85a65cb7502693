//! Words as systemd and cron read them, so that each means what it says: blanks, quotes, percent signs and dollars, which both
//! take for something of their own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Returns an argument of `ExecStart=`.
pub fn argument(word: &OsStr) -> String {
    program(word).replace('$', "$$")
}

/// Returns the program of `ExecStart=`, in which no variables are replaced, or an assignment of `Environment=`.
pub fn program(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%$".contains(byte);
    let mut text = String::new();
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '%' => text.push_str("%%"),
                c if c.is_control() => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(&mut text, byte)),
                c => text.push(c),
            }
        }
        part.invalid().iter().for_each(|&byte| push_hex(&mut text, byte));
    }
    match !bytes.is_empty() && bytes.iter().all(is_plain) {
        true => text,
        false => format!("\"{text}\""),
    }
}

fn push_hex(text: &mut String, byte: u8) {
    text.push_str(&format!("\\x{byte:02x}"));
}

/// Returns a path of `ReadWritePaths=`, which is no error where it is not there. Those that systemd cannot be told of are `None`: with
/// line ends, or bytes that are no text.
pub fn path(path: &OsStr) -> Option<String> {
    let text = plain(path)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+@%".contains(c);
    match text.chars().all(is_plain) {
        true => Some(format!("-{}", percent(text))),
        false => Some(format!("\"-{}\"", percent(text).replace('\\', "\\\\").replace('"', "\\\""))),
    }
}

/// Returns text that stands behind an equals sign as it is, but for specifiers; `None` as [`path`].
pub fn verbatim(text: &OsStr) -> Option<String> {
    plain(text).map(percent)
}

fn plain(text: &OsStr) -> Option<&str> {
    text.to_str().filter(|text| !text.contains(char::is_control))
}

fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// Returns a part of a unit's name: letters, digits, dots, underscores and lines, and bytes of everything else as `systemd-escape` writes
/// them. No two lines stand beside each other or at an end, so that two of them can stand between parts.
pub fn unit_name(text: &str) -> String {
    let bytes = text.as_bytes();
    let byte = |(at, &byte): (usize, &u8)| match byte {
        b'-' if at > 0 && at + 1 < bytes.len() && bytes[at - 1] != b'-' => "-".into(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("\\x{other:02x}"),
    };
    bytes.iter().enumerate().map(byte).collect()
}

/// Returns a word of a command in a crontab, which a shell reads after cron took percent signs for ends of lines. `None` where it has line
/// ends or is no text: no crontab can have these.
pub fn in_crontab(word: &OsStr) -> Option<String> {
    let text = plain(word)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let quoted = match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    };
    Some(quoted.replace('%', "\\%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn systemd_reads_each_word_as_it_was_meant() {
        for (word, argued) in [
            ("nightly", "nightly"),
            ("5%", "5%%"),
            ("a b", "\"a b\""),
            ("", "\"\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("$HOME", "$$HOME"),
            ("it's", "\"it's\""),
            ("a;b", "\"a;b\""),
            ("a\nb", "\"a\\x0ab\""),
            ("grün", "\"grün\""),
            ("{}", "\"{}\""),
        ] {
            assert_eq!(argument(os(word)), argued);
        }
        assert_eq!(program(os("/opt/$x/coffre")), "/opt/$x/coffre");
        assert_eq!(argument(OsStr::from_bytes(b"a\xffb")), "\"a\\xffb\"");
    }

    #[test]
    fn paths_and_names_are_escaped_as_their_settings_want() {
        assert_eq!(path(os("/srv/backup")).as_deref(), Some("-/srv/backup"));
        assert_eq!(path(os("/srv/my \"5%\" \\")).as_deref(), Some("\"-/srv/my \\\"5%%\\\" \\\\\""));
        assert_eq!(path(os("/a\nb")), None);
        assert_eq!(path(OsStr::from_bytes(b"/\xff")), None);
        assert_eq!(verbatim(os("/my file 5%")).as_deref(), Some("/my file 5%%"));
        assert_eq!(unit_name("web-1.example_a"), "web-1.example_a");
        assert_eq!(unit_name("-a--b-"), "\\x2da-\\x2db\\x2d");
        assert_eq!(unit_name("a b:c/é\\"), "a\\x20b\\x3ac\\x2f\\xc3\\xa9\\x5c");
    }

    #[test]
    fn cron_and_its_shell_read_each_word_as_it_was_meant() {
        for (word, wanted) in [
            ("nightly", "nightly"),
            ("5%", "5\\%"),
            ("a b%", "'a b\\%'"),
            ("it's", "'it'\\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("", "''"),
        ] {
            assert_eq!(in_crontab(os(word)).as_deref(), Some(wanted));
        }
        assert_eq!(in_crontab(os("a\nb")), None);
    }
}
