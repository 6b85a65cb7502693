//! Dumps of databases as files in a directory of their own, for the programs of their engines, with a page that says what to type.
//!
//! The directory is made, or empty and nobody else's to write. Each file is for its owner alone and gets its name when its last byte is on disk, so one that is
//! there is whole. What is damaged keeps no other file from being written; whatever else fails ends it, and what is there stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blocking::blocking;
use crate::engine::plan::{StreamKind, StreamToRestore};
use crate::engine::{Engine, Engines};
use crate::model::facts::fact;
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::Cancel;
use crate::ops::dump::{DumpError, write_out};
use crate::ops::restore_database::RestoreDatabaseError;
use crate::ops::restore_database::plan::{by_database, find_streams, is_global, missing_parts};
use crate::ops::to_directory::names::FileNames;
use crate::ops::to_directory::readme::{WholeDump, readme};
use crate::progress::{Monitor, Problem, Totals};
use crate::repository::reader::Reader;
use crate::sink::error::TargetError;
use crate::sink::one_file::OneFile;
use crate::sink::partial::IfTaken;

mod names;
mod readme;

/// The page that says what to type.
pub const README: &str = "README.txt";

/// Which dumps of a snapshot are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedDumps {
    /// All of databases, and of what belongs to their servers.
    All,
    /// Those of these databases, whatever their engine; one without a server is named by its file.
    Named(Vec<String>),
    /// What belongs to servers: roles, users.
    Globals,
}

/// What to write, and where.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct ToDirectoryOptions {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Only streams at or below this path.
    pub within: Option<EntryPath>,
    /// Which dumps.
    pub wanted: WantedDumps,
    /// The directory; see [`obstacle`].
    pub directory: PathBuf,
    /// The engines whose dumps are known.
    pub engines: Engines,
}

impl ToDirectoryOptions {
    /// Writes all dumps in `snapshot` of the engines that come with this library into `directory`.
    pub fn new(snapshot: Snapshot, directory: PathBuf) -> Self {
        Self { snapshot, within: None, wanted: WantedDumps::All, directory, engines: Engines::default() }
    }
}

/// A stream that is a file now.
#[derive(Debug, Clone)]
pub struct DumpFile {
    /// The engine, by its name.
    pub engine: &'static str,
    /// The database, or the file that it was; none for what belongs to the server.
    pub database: Option<String>,
    /// The stream.
    pub stream: EntryPath,
    /// The file, below the directory.
    pub file: String,
    /// Its length.
    pub bytes: u64,
}

/// What was written.
#[derive(Debug, Default)]
pub struct ToDirectoryReport {
    /// The files, all of them whole.
    pub files: Vec<DumpFile>,
    /// Files that could not be written, and why.
    pub failed: Vec<(String, RestoreDatabaseError)>,
    /// Files that were not begun after that.
    pub not_begun: Vec<String>,
    /// Whether the page is there.
    pub has_readme: bool,
    /// How long it took.
    pub duration: Duration,
}

impl Ended for ToDirectoryReport {
    /// What failed first decides.
    fn outcome(&self) -> Outcome {
        self.failed.first().map_or(Outcome::Clean, |(_, error)| error.outcome())
    }
}

/// Tells why dumps cannot be written into a directory: it is a link, something is in it, it belongs to another user, others may write there,
/// or it cannot be made. Blocks.
pub fn obstacle(directory: &Path) -> Option<String> {
    let shown = directory.display();
    // With a slash at its end a link would be followed.
    let named = directory.components().as_path();
    match std::fs::symlink_metadata(named) {
        Ok(found) if found.is_symlink() => Some(format!("{shown} is a link: name a new directory, or an empty one")),
        Ok(found) if !found.is_dir() => Some(format!("{shown} is no directory that can be used: name a new one")),
        Ok(found) => match std::fs::read_dir(named).map(|mut items| items.next().is_some()) {
            Ok(true) => Some(format!("{shown} has something in it already: name a new directory, or an empty one")),
            Ok(false) => {
                let user = rustix::process::geteuid().as_raw();
                others_may_write(found.uid(), found.mode(), user).map(|why| format!("{shown} {why}"))
            }
            Err(error) => Some(format!("{shown} is no directory that can be used: {error}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (!above.is_dir()).then(|| format!("{} is no directory to make {shown} in", above.display()))
        }
        Err(error) => Some(format!("{shown} is no directory that can be used: {error}")),
    }
}

/// Tells who else than `user` could put files in place of the dumps in a directory with this owner and mode, and what helps.
fn others_may_write(owner: u32, mode: u32, user: u32) -> Option<&'static str> {
    if owner != user {
        return Some("belongs to another user, who could change what is in it: name a new directory");
    }
    (mode & 0o022 != 0).then_some("may be written by others: name a new directory, or first use chmod go-w on it")
}

/// Writes dumps of databases as files, and the page beside them.
///
/// # Errors
/// [`RestoreDatabaseError`] when nothing was written: what is wanted is not there or not whole in the snapshot, or the directory cannot
/// be used.
pub async fn to_directory(
    reader: Arc<Reader>,
    options: &ToDirectoryOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<ToDirectoryReport, RestoreDatabaseError> {
    let begun = Instant::now();
    let mut names = FileNames::without(README);
    let dumps: Vec<NamedDump> = find(&reader, options).await?.into_iter().map(|dump| dump.named(&mut names)).collect();
    if let Some(reason) = obstacle(&options.directory) {
        return Err(RestoreDatabaseError::Refused { reasons: vec![reason] });
    }
    monitor.phase("writing dumps");
    let streams = || dumps.iter().flat_map(|dump| &dump.streams);
    let bytes = streams().map(|(stream, _)| stream.bytes).fold(0, u64::saturating_add);
    monitor.totals(Totals { entries: Some(streams().count() as u64), bytes: Some(bytes), ..Totals::default() });
    let mut directory = DumpDirectory::make(&options.directory)?;
    let mut report = ToDirectoryReport::default();
    for dump in &dumps {
        for (stream, file) in &dump.streams {
            let is_over = |(_, error): &(String, RestoreDatabaseError)| error.outcome() != Outcome::Damaged;
            if report.failed.last().is_some_and(is_over) {
                report.not_begun.push(file.clone());
                continue;
            }
            match directory.write(&reader, &options.snapshot, stream, file, &monitor, &cancel).await {
                Ok(()) => report.files.push(DumpFile {
                    engine: dump.engine.name(),
                    database: dump.database.clone(),
                    stream: stream.path.clone(),
                    file: file.clone(),
                    bytes: stream.bytes,
                }),
                Err(error) => report.failed.push((file.clone(), error)),
            }
        }
        if let Some(left_out) = dump.streams[0].0.facts.text(fact::LEFT_OUT_TABLES) {
            let message = format!("the dump was made without {left_out}");
            monitor.note(Problem::advice(dump.streams[0].1.clone(), message));
        }
    }
    if report.files.is_empty() {
        directory.remove();
        // One that was all there was to do is an error like any other.
        if report.not_begun.is_empty() && report.failed.len() == 1 {
            return Err(report.failed.remove(0).1);
        }
    } else {
        match directory.finish(page(&options.snapshot, &dumps, &report)).await {
            Ok(()) => report.has_readme = true,
            Err(error) => report.failed.push((README.to_owned(), error)),
        }
    }
    report.duration = begun.elapsed();
    Ok(report)
}

/// What belongs together in the snapshot: a database with its tables, or what belongs to a server.
struct FoundDump {
    engine: Arc<dyn Engine>,
    kind: StreamKind,
    database: Option<String>,
    /// Its main stream first.
    streams: Vec<StreamToRestore>,
}

/// The same, each stream with its file.
struct NamedDump {
    engine: Arc<dyn Engine>,
    kind: StreamKind,
    database: Option<String>,
    streams: Vec<(StreamToRestore, String)>,
}

impl FoundDump {
    fn named(self, names: &mut FileNames) -> NamedDump {
        let Self { engine, kind, database, streams } = self;
        let streams = streams.into_iter().map(|stream| {
            let file = names.file(&stream.path);
            (stream, file)
        });
        NamedDump { engine, kind, database, streams: streams.collect() }
    }
}

/// Finds what is wanted, what belongs to a server before its databases.
async fn find(reader: &Arc<Reader>, options: &ToDirectoryOptions) -> Result<Vec<FoundDump>, RestoreDatabaseError> {
    let snapshot = &options.snapshot;
    let mut found = Vec::new();
    let mut lacking = Vec::new();
    for engine in options.engines.iter() {
        let streams = find_streams(reader, &**engine, snapshot, options.within.as_ref()).await?;
        for streams in by_server(streams) {
            let (globals, streams): (Vec<_>, Vec<_>) = streams.into_iter().partition(is_global);
            found.extend(globals.into_iter().map(|stream| FoundDump {
                engine: engine.clone(),
                kind: StreamKind::Globals,
                database: None,
                streams: vec![stream],
            }));
            for plan in by_database(streams).into_values().filter(|plan| options.wanted.has_database(&plan.source)) {
                lacking.extend(missing_parts(&plan));
                let (engine, kind) = (engine.clone(), StreamKind::Database);
                found.push(FoundDump { engine, kind, database: Some(plan.source), streams: plan.streams });
            }
        }
    }
    let has = |name: &String| found.iter().any(|dump| dump.database.as_ref() == Some(name));
    match &options.wanted {
        WantedDumps::Globals if found.is_empty() => {
            return Err(RestoreDatabaseError::NoGlobals { snapshot: snapshot.id, needed: Vec::new() });
        }
        WantedDumps::Named(names) => {
            if let Some(name) = names.iter().find(|name| !has(name)) {
                let what = format!("database {name:?}");
                return Err(RestoreDatabaseError::NothingFits { snapshot: snapshot.id, what });
            }
            found.retain(|dump| dump.kind != StreamKind::Globals);
        }
        WantedDumps::All if found.is_empty() => {
            let what = "dumps of databases".to_owned();
            return Err(RestoreDatabaseError::NothingFits { snapshot: snapshot.id, what });
        }
        WantedDumps::All | WantedDumps::Globals => {}
    }
    if !lacking.is_empty() {
        return Err(RestoreDatabaseError::Refused { reasons: lacking });
    }
    Ok(found)
}

impl WantedDumps {
    fn has_database(&self, name: &str) -> bool {
        match self {
            WantedDumps::All => true,
            WantedDumps::Named(names) => names.iter().any(|named| named == name),
            WantedDumps::Globals => false,
        }
    }
}

/// Takes the streams of several servers apart, which have directories of their own.
fn by_server(streams: Vec<StreamToRestore>) -> Vec<Vec<StreamToRestore>> {
    let mut servers: BTreeMap<Option<EntryPath>, Vec<StreamToRestore>> = BTreeMap::new();
    for stream in streams {
        let directory = match stream.kind {
            // In a directory beside the main stream.
            StreamKind::Table => stream.path.parent().and_then(|tables| tables.parent()),
            StreamKind::Database | StreamKind::Globals => stream.path.parent(),
        };
        servers.entry(directory).or_default().push(stream);
    }
    servers.into_values().collect()
}

/// Writes the page about what is there.
fn page(snapshot: &Snapshot, dumps: &[NamedDump], report: &ToDirectoryReport) -> String {
    let is_there = |file: &str| report.files.iter().any(|written| written.file == file);
    let whole = |dump: &&NamedDump| dump.streams.iter().all(|(_, file)| is_there(file));
    let told = dumps.iter().filter(whole).map(|dump| {
        let (main, file) = &dump.streams[0];
        WholeDump {
            engine: &*dump.engine,
            kind: dump.kind,
            database: dump.database.as_deref().unwrap_or_default(),
            facts: &main.facts,
            file,
            tables: dump.streams[1..].iter().map(|(_, file)| file.clone()).collect(),
            bytes: dump.streams.iter().map(|(stream, _)| stream.bytes).fold(0, u64::saturating_add),
        }
    });
    let missing: Vec<String> = report.failed.iter().map(|(file, _)| file).chain(&report.not_begun).cloned().collect();
    readme(snapshot, &told.collect::<Vec<_>>(), &missing)
}

/// The directory that dumps are written into.
struct DumpDirectory {
    root: PathBuf,
    is_new: bool,
    /// Those that were made below it.
    made: BTreeSet<PathBuf>,
}

impl DumpDirectory {
    /// Makes it, unless it is there and still as it has to be. Blocks for a moment.
    fn make(root: &Path) -> Result<Self, RestoreDatabaseError> {
        let is_new = match make_directory(root) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match obstacle(root) {
                Some(reason) => return Err(RestoreDatabaseError::Refused { reasons: vec![reason] }),
                None => false,
            },
            Err(source) => {
                let (step, left) = (format!("making {}", root.display()), "nothing was written".to_owned());
                return Err(RestoreDatabaseError::Io { step, left, source });
            }
        };
        Ok(Self { root: root.to_owned(), is_new, made: BTreeSet::new() })
    }

    /// Begins a file, in directories that are made here.
    fn begin(&mut self, file: &str) -> io::Result<OneFile> {
        let mut directory = self.root.clone();
        let (above, _) = file.rsplit_once('/').unwrap_or(("", file));
        for name in above.split('/').filter(|name| !name.is_empty()) {
            directory.push(name);
            if !self.made.contains(&directory) {
                make_directory(&directory)?;
                self.made.insert(directory.clone());
            }
        }
        OneFile::create(&self.root.join(file)).map_err(system)
    }

    /// Writes a stream into a file, which has its name when it is whole.
    async fn write(
        &mut self,
        reader: &Arc<Reader>,
        snapshot: &Snapshot,
        stream: &StreamToRestore,
        file: &str,
        monitor: &Arc<dyn Monitor>,
        cancel: &Cancel,
    ) -> Result<(), RestoreDatabaseError> {
        let step = format!("writing {}", self.root.join(file).display());
        let left = "there is no file of this name";
        let failed = |source| RestoreDatabaseError::Io { step: step.clone(), left: left.to_owned(), source };
        let begun = self.begin(file).map_err(failed)?;
        let output = begun.writer().map_err(|error| failed(system(error)))?;
        let (path, output) = (Some(stream.path.clone()), Box::new(output));
        let written = write_out(reader.clone(), snapshot, path, output, monitor.clone(), cancel.clone(), false).await;
        match written {
            Ok(_) => {}
            Err(DumpError::Output(source)) => return Err(failed(source)),
            Err(DumpError::Cancelled) => {
                return Err(RestoreDatabaseError::Cancelled { left: "the files that are there are whole".to_owned() });
            }
            Err(source) => {
                return Err(RestoreDatabaseError::Stored { step: step.clone(), left: left.to_owned(), source });
            }
        }
        blocking(move || begun.finish(IfTaken::Refuse)).await.map_err(|error| failed(system(error)))
    }

    /// Writes the page, and makes the names of all directories durable.
    async fn finish(self, page: String) -> Result<(), RestoreDatabaseError> {
        let step = format!("writing {}", self.root.join(README).display());
        let finished = blocking(move || {
            let file = OneFile::create(&self.root.join(README)).map_err(system)?;
            file.writer().map_err(system)?.write_all(page.as_bytes())?;
            file.finish(IfTaken::Refuse).map_err(system)?;
            self.made.iter().chain([&self.root]).try_for_each(|directory| File::open(directory)?.sync_all())
        });
        let left = "the files of the dumps are there".to_owned();
        finished.await.map_err(|source| RestoreDatabaseError::Io { step, left, source })
    }

    /// Removes what was made, where nothing is in it.
    fn remove(self) {
        for directory in self.made.iter().rev() {
            let _ = std::fs::remove_dir(directory);
        }
        if self.is_new {
            let _ = std::fs::remove_dir(&self.root);
        }
    }
}

/// Makes a directory for its owner alone; one that is there is an error.
fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Returns what the system said.
fn system(error: TargetError) -> io::Error {
    error.source
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        for (owner, mode, told) in [
            (1000, 0o40700, None),
            (1000, 0o40755, None),
            (1000, 0o40770, Some("chmod go-w")),
            (1000, 0o41702, Some("chmod go-w")),
            (0, 0o40700, Some("another user")),
            (1001, 0o40777, Some("another user")),
        ] {
            let why = others_may_write(owner, mode, 1000);
            assert_eq!(why.is_some(), told.is_some(), "{owner} {mode:o}");
            assert!(why.zip(told).is_none_or(|(why, told)| why.contains(told)), "{why:?}");
        }
    }

    #[test]
    fn one_that_came_meanwhile_is_looked_at_again() {
        let desk = tempfile::tempdir().expect("made");
        let (root, link) = (desk.path().join("dumps"), desk.path().join("link"));
        let refused = |path: &Path| matches!(DumpDirectory::make(path), Err(RestoreDatabaseError::Refused { .. }));
        assert!(DumpDirectory::make(&root).is_ok_and(|made| made.is_new));
        assert!(DumpDirectory::make(&root).is_ok_and(|found| !found.is_new));
        symlink(&root, &link).expect("made");
        assert!(refused(&link) && refused(&link.join("")), "a link");
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o770)).expect("set");
        assert!(refused(&root), "of a group");
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).expect("set");
        File::create(root.join("a")).expect("made");
        assert!(refused(&root), "something is in it");
    }
}
