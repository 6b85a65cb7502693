//! `--files-from` and its kin: paths to back up, read from files or from standard input.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::source::files::expand;

/// Flags that name lists of paths.
#[derive(Debug, clap::Args)]
pub struct PathsFromArgs {
    /// Read paths from a file, one a line; * ? [] match names, # begins a comment; - is standard input (repeatable)
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    files_from: Vec<PathBuf>,
    /// The same, each line taken as it is
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    files_from_verbatim: Vec<PathBuf>,
    /// The same, with a zero byte behind each path, as `find -print0` writes them
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    files_from_raw: Vec<PathBuf>,
}

impl PathsFromArgs {
    /// Tells whether any list was named.
    pub fn is_given(&self) -> bool {
        ![&self.files_from, &self.files_from_verbatim, &self.files_from_raw].iter().all(|lists| lists.is_empty())
    }

    /// Reads all lists.
    pub fn read(&self) -> Fallible<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for list in &self.files_from {
            for pattern in patterns(&contents(list)?) {
                paths.extend(expand(&pattern)?);
            }
        }
        for (lists, end) in [(&self.files_from_verbatim, b'\n'), (&self.files_from_raw, 0)] {
            for list in lists {
                paths.extend(verbatim(&contents(list)?, end));
            }
        }
        Ok(paths)
    }
}

fn contents(list: &Path) -> Fallible<Vec<u8>> {
    let read = if list == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(list)
    };
    read.map_err(|error| usage(format!("the paths in {} cannot be read: {error}", list.display())))
}

/// Takes blanks around lines, empty lines and comments away.
fn patterns(text: &[u8]) -> Vec<PathBuf> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).map(path).collect()
}

fn verbatim(text: &[u8], end: u8) -> Vec<PathBuf> {
    text.split(|&byte| byte == end).filter(|line| !line.is_empty()).map(path).collect()
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let text = "\u{feff}/srv\r\n# a comment\n\n  /etc/x y \n#not\n/a#b".as_bytes();
        assert_eq!(patterns(text), paths(&["/srv", "/etc/x y", "/a#b"]));
        assert_eq!(verbatim(b"# x\n a \n\n*", b'\n'), paths(&["# x", " a ", "*"]));
        assert_eq!(verbatim(b"a\nb\0c\0", 0), paths(&["a\nb", "c"]));
        assert_eq!(verbatim(b"\xff", 0), [PathBuf::from(OsString::from_vec(vec![0xff]))]);
    }
}
