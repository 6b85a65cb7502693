//! One file of the configuration: TOML as it stands there, each key and value with its place.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::StatVfsMountFlags;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::exit::usage;
use crate::cli::failure::{Context, Failure, Fallible};

/// The most that is read of one file.
const BYTES_MAX: u64 = 1 << 20;
/// Bits of a file's mode that let others than its owner write it.
const WRITTEN_BY_OTHERS: u32 = 0o022;

/// And read it.
const READ_BY_OTHERS: u32 = 0o044;

/// Where something is written: `FILE:LINE:COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrittenAt {
    file: Arc<Path>,
    line: usize,
    column: usize,
}

impl WrittenAt {
    /// Tells whether others than its owner can read the file.
    pub(super) fn can_be_read_by_others(&self) -> bool {
        others_read(&self.file)
    }

    /// Makes one of a file that there is not.
    #[cfg(test)]
    pub fn nowhere() -> Self {
        Self { file: Path::new("/c.toml").into(), line: 1, column: 1 }
    }

    /// Makes the error that what stands here is.
    pub(super) fn wrong(&self, message: impl fmt::Display) -> Failure {
        usage(format!("{self}: {message}"))
    }
}

impl fmt::Display for WrittenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What stands behind a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TomlItem {
    /// A text or a number, as it would be typed.
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// Several texts or numbers.
    Texts(Vec<String>),
    /// More keys.
    Table(TomlTable),
}

impl TomlItem {
    /// Says what it is, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            TomlItem::Text(_) => "one value",
            TomlItem::Bool(_) => "true or false",
            TomlItem::Texts(_) => "a list",
            TomlItem::Table(_) => "a table",
        }
    }
}

/// Keys with what stands behind them and where each key is written.
pub(super) type TomlTable = BTreeMap<String, (WrittenAt, TomlItem)>;

/// Reads a file. One that somebody else than its owner can write is refused: commands that are run stand in it.
///
/// # Errors
/// One for the user, with the place in the file where it has one.
pub(super) fn read(path: &Path) -> Fallible<TomlTable> {
    parse(path, &text_of_file(path)?)
}

/// Tells whether others can read a file than those who are meant to: its owner, and the group of what the system or another user owns. Nobody
/// else reads what is no file, such as a pipe; and where nothing can be written, whoever mounted it has decided.
pub(super) fn others_read(path: &Path) -> bool {
    let user = rustix::process::geteuid();
    let is_open = |metadata: &fs::Metadata| {
        let is_own = metadata.uid() == user.as_raw() && !user.is_root();
        let others = if is_own { READ_BY_OTHERS } else { READ_BY_OTHERS & 0o007 };
        metadata.is_file() && metadata.mode() & others != 0
    };
    let is_read_only = || rustix::fs::statvfs(path).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY));
    path.metadata().is_ok_and(|metadata| is_open(&metadata)) && !is_read_only()
}

/// Reads one table of a file that may be wrong otherwise, as far as it is understood.
pub(super) fn table_of_wrong(path: &Path, name: &str) -> Option<TomlTable> {
    let text = text_of_file(path).ok()?;
    let source = FileText { file: path.into(), text: &text };
    let (document, _) = DeTable::parse_recoverable(&text);
    match document.get_ref().get(name)?.get_ref() {
        DeValue::Table(table) => source.table(table).ok(),
        _ => None,
    }
}

fn text_of_file(path: &Path) -> Fallible<String> {
    let about = || format!("the configuration {}", path.display());
    let file = File::open(path).context(about())?;
    let metadata = file.metadata().context(about())?;
    if metadata.is_file() && metadata.mode() & WRITTEN_BY_OTHERS != 0 {
        let why = "can be written by others than its owner, who could have commands run by it";
        return Err(usage(format!("{} {why}", path.display())).hinting(format!("chmod go-w {}", path.display())));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.is_file() && metadata.uid() != 0 && metadata.uid() != user {
        let why = "belongs neither to root nor to the user who runs coffre";
        return Err(usage(format!("{} {why}", path.display())));
    }
    let mut text = String::new();
    file.take(BYTES_MAX + 1).read_to_string(&mut text).context(about())?;
    if text.len() as u64 > BYTES_MAX {
        return Err(usage(format!("{} is too long for a configuration", path.display())));
    }
    Ok(text)
}

/// Takes text for that of a file.
///
/// # Errors
/// One for the user, with its place.
pub(super) fn parse(path: &Path, text: &str) -> Fallible<TomlTable> {
    let source = FileText { file: path.into(), text };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.written(at).wrong(error.message())
    })?;
    source.table(document.get_ref())
}

/// Returns the files of `directory` that are read beside another one, in order of their names.
pub(super) fn beside(directory: &Path) -> Fallible<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(format!("the configuration {}", directory.display())),
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.context(format!("the configuration {}", directory.display()))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    Ok(paths)
}

/// A file's name and text.
struct FileText<'t> {
    file: Arc<Path>,
    text: &'t str,
}

impl FileText<'_> {
    /// Returns the place of a byte.
    fn written(&self, at: usize) -> WrittenAt {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        WrittenAt { file: self.file.clone(), line, column }
    }

    fn table(&self, table: &DeTable<'_>) -> Fallible<TomlTable> {
        let item = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = key;
            let place = self.written(key.span().start);
            Ok((key.get_ref().to_string(), (place, self.item(value)?)))
        };
        table.iter().map(item).collect()
    }

    fn item(&self, value: &Spanned<DeValue<'_>>) -> Fallible<TomlItem> {
        match value.get_ref() {
            DeValue::Boolean(yes) => Ok(TomlItem::Bool(*yes)),
            DeValue::Table(table) => self.table(table).map(TomlItem::Table),
            DeValue::Array(several) => {
                let texts = several.iter().map(|value| {
                    let wrong = || self.written(value.span().start).wrong("a list has texts or numbers in it");
                    text_of(value.get_ref()).ok_or_else(wrong)
                });
                texts.collect::<Fallible<_>>().map(TomlItem::Texts)
            }
            single => {
                let wrong = || self.written(value.span().start).wrong("write it as a text, in quotes");
                text_of(single).map(TomlItem::Text).ok_or_else(wrong)
            }
        }
    }
}

/// Returns a single value as it would be typed.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Integer(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn told(text: &str) -> String {
        parse(Path::new("/c.toml"), text).expect_err("wrong").told().join(": ")
    }

    #[test]
    fn each_key_has_its_place() {
        let table = parse(Path::new("/c.toml"), "a = 5\n[jobs.\"é\"]\n  paths = [\"/x\", 7]\n").expect("right");
        let TomlItem::Table(jobs) = &table["jobs"].1 else { panic!("{table:?}") };
        let TomlItem::Table(job) = &jobs["é"].1 else { panic!("{table:?}") };
        assert_eq!(table["a"].1, TomlItem::Text("5".into()));
        assert_eq!(job["paths"].1, TomlItem::Texts(vec!["/x".into(), "7".into()]));
        assert_eq!(job["paths"].0.to_string(), "/c.toml:3:3");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(told("a = 1\nb = \n").starts_with("/c.toml:2:"), "{}", told("a = 1\nb = \n"));
        assert!(told("a = 1\na = 2\n").starts_with("/c.toml:2:1: "), "{}", told("a = 1\na = 2\n"));
        assert_eq!(told("a = [[1]]"), "/c.toml:1:6: a list has texts or numbers in it");
        assert_eq!(told("a = 2026-11-27"), "/c.toml:1:5: write it as a text, in quotes");
        assert_eq!(told("a = 0xff"), "/c.toml:1:5: write it as a text, in quotes");
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("coffre.toml");
        std::fs::write(&path, "[options]\n").expect("written");
        for (mode, is_read) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(read(&path).is_ok(), is_read, "{mode:o}");
        }
    }
}
