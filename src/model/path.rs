//! Paths inside a snapshot: bytes, relative, in tree order.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;

use crate::model::outcome::{Ended, Outcome};

/// Why bytes cannot be the path of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path has no component.
    #[error("an entry's path is empty")]
    Empty,
    /// The path is longer than any system's limit.
    #[error("an entry's path is {0} bytes long")]
    TooLong(usize),
    /// A component is empty, `.` or `..`, or a byte is zero: restoring it could leave the target.
    #[error("path {0:?} has a component that is empty, `.`, `..` or holds a zero byte")]
    Unsafe(String),
}

impl Ended for PathError {
    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// The path of an entry: components joined by `/`, without a leading or trailing slash.
///
/// A path is safe by construction: no component is empty, `.` or `..`, and none holds a zero byte. Names are bytes;
/// they need not be UTF-8. Paths are ordered as a depth-first walk meets them: component by component, bytewise, so a
/// directory stands before what it contains and `a/b` before `a.b`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The longest path accepted, in bytes.
    pub const MAX_LEN: usize = 64 * 1024;

    /// Checks `bytes` and takes them as a path.
    ///
    /// # Errors
    /// [`PathError`] tells which rule the bytes break.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > Self::MAX_LEN {
            return Err(PathError::TooLong(bytes.len()));
        }
        let safe = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
        if !bytes.split(|&b| b == b'/').all(safe) {
            return Err(PathError::Unsafe(display_bytes(&bytes).to_string()));
        }
        Ok(Self(bytes))
    }

    /// Returns the path of `name` inside this directory.
    ///
    /// # Errors
    /// As for [`EntryPath::new`].
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// Returns the path's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the components from the top down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// Returns the last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// Returns the directory that holds this entry, or `None` at the top.
    pub fn parent(&self) -> Option<EntryPath> {
        let slash = self.0.iter().rposition(|&b| b == b'/')?;
        Some(Self(self.0[..slash].to_vec()))
    }

    /// Tells whether this is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &EntryPath) -> bool {
        match self.0.strip_prefix(ancestor.0.as_slice()) {
            Some(rest) => rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }
}

/// Compares two paths in tree order without taking them apart: the slash counts as lower than any other byte.
pub fn compare_paths(left: &[u8], right: &[u8]) -> Ordering {
    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    match (left.get(common), right.get(common)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(b'/'), Some(_)) => Ordering::Less,
        (Some(_), Some(b'/')) => Ordering::Greater,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_paths(&self.0, &other.0)
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for EntryPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_bytes(&self.0).fmt(f)
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

/// Tells whether a terminal would do something else with a character than show it: control characters, and those that turn
/// the direction of what stands around them or end a line.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes a character as the bytes that it is made of: `\xNN`.
pub fn push_hidden(text: &mut String, c: char) {
    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
        let _ = fmt::Write::write_fmt(text, format_args!("\\x{byte:02x}"));
    });
}

/// Shows bytes as text on one line: bytes that are not UTF-8 and control characters appear as `\xNN`, a backslash doubled.
pub fn display_bytes(bytes: &[u8]) -> impl fmt::Display + '_ {
    struct Shown<'a>(&'a [u8]);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for part in self.0.utf8_chunks() {
                for c in part.valid().chars() {
                    match c {
                        '\\' => f.write_str("\\\\")?,
                        c if c.is_control() => {
                            let mut utf8 = [0; 4];
                            c.encode_utf8(&mut utf8).bytes().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
                        }
                        c => fmt::Write::write_char(f, c)?,
                    }
                }
                part.invalid().iter().try_for_each(|b| write!(f, "\\x{b:02x}"))?;
            }
            Ok(())
        }
    }
    Shown(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).expect("a safe path")
    }

    #[test]
    fn paths_that_could_leave_the_target_are_refused() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert!(EntryPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(path("a").join(b"..").is_err());
        assert!(path("a").join(b"x/../../y").is_err());
    }

    #[test]
    fn order_is_that_of_a_depth_first_walk() {
        let mut paths = ["b", "a.b", "a/b", "a", "a/b/c", "a/b.c", "a-b"].map(path);
        paths.sort();
        assert_eq!(paths.each_ref().map(ToString::to_string), ["a", "a/b", "a/b/c", "a/b.c", "a-b", "a.b", "b"]);
    }

    #[test]
    fn within_is_by_components() {
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
    }

    #[test]
    fn odd_bytes_are_shown_escaped() {
        let odd = EntryPath::new(b"caf\xc3\xa9/\xff\n\x1b[31m\\".to_vec()).expect("odd but safe");
        assert_eq!(odd.to_string(), "café/\\xff\\x0a\\x1b[31m\\\\");
    }
}
