//! An engine of a program's own, added through the same registry as those that come with the library: a "database" is a text
//! file of `key = value` lines. It is backed up, checked, judged and restored; nothing but this file knows it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffre::database::DatabaseError;
use coffre::engine::dump::DumpRequest;
use coffre::engine::place::{Place, Places};
use coffre::engine::plan::{Asked, DatabasePlan, Judgement};
use coffre::engine::restore::{Cause, RestoredDatabase, Restoring, Unrestored};
use coffre::engine::{Engine, Engines, Words};
use coffre::model::entry::StreamDetail;
use coffre::model::facts::{Fact, StreamFacts, fact};
use coffre::ops::backup::{BackupError, BackupOptions};
use coffre::ops::restore_database::{
    Choice, DatabaseTarget, Plan, RestoreDatabaseError, RestoreDatabaseOptions, RestoreDatabaseReport, apply, plan,
};
use coffre::ops::{Cancel, holdings, open_reader};
use coffre::progress::Collected;
use coffre::source::check::{Check, CheckedSource};
use coffre::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};
use futures::future::BoxFuture;

use crate::support::{Bench, Failure, open, run_backup};

// What an engine's `mod.rs` has.

const NAME: &str = "flat";

#[derive(Debug)]
struct Flat;

impl Engine for Flat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn places(&self) -> Places {
        Places::Files
    }

    fn words(&self) -> &'static Words {
        &Words {
            label: "flat files",
            dump_help: "Store a flat file",
            restore_help: "Restore a flat file into this file",
            server: None,
        }
    }

    fn number_facts(&self) -> &'static [&'static str] {
        &NUMBERS
    }

    fn source(&self, request: DumpRequest) -> Result<Arc<dyn Source>, DatabaseError> {
        Ok(Arc::new(FlatFile(request.place.file()?.to_owned())))
    }

    fn judge(&self, asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
        let file = asked.place.file()?;
        let mut found = Judgement { server_version: "1.0".into(), ..Judgement::default() };
        for database in databases {
            database.name = file.display().to_string();
            database.exists = file.exists();
            if database.fact(LINES) == Some(1) {
                found.notes.push(format!("{} has a single line", database.name));
            }
        }
        if file.is_dir() {
            found.obstacles.push(format!("{} is a directory", file.display()));
        }
        Ok(found)
    }

    fn restore<'a>(&'a self, restoring: &'a Restoring<'a>) -> BoxFuture<'a, Result<RestoredDatabase, Unrestored>> {
        Box::pin(restore(restoring))
    }
}

// What its `facts.rs` has.

const LINES: Fact<u64> = Fact::new("lines");
const NUMBERS: [&str; 1] = [LINES.name()];

// What its `dump.rs` has.

#[derive(Debug, Clone)]
struct FlatFile(PathBuf);

impl Source for FlatFile {
    fn name(&self) -> Vec<u8> {
        format!("{NAME}:{}", self.0.display()).into_bytes()
    }

    fn plan(&self, _: &Planning) -> Result<Vec<Member>, SourceError> {
        let name = format!("{NAME}{}", self.0.display()).into_bytes();
        let streams = Ok(vec![PlannedStream { name, opener: Arc::new(self.clone()) }]);
        Ok(vec![Member { label: self.0.display().to_string(), streams, notes: Vec::new() }])
    }
}

impl OpenStream for FlatFile {
    fn open(&self, _: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
        let name = self.0.display().to_string();
        let file = File::open(&self.0).map_err(|source| SourceError::Io { name: name.clone(), source })?;
        let mut facts = StreamFacts::default();
        facts.set(fact::ENGINE, NAME.to_owned());
        facts.set(fact::FILE, name.clone());
        let check: Box<dyn Check> = Box::new(Complete::default());
        Ok(Box::new(CheckedSource::new(Box::new(Bytes(file)), name, vec![check]).with_facts(facts)))
    }

    fn advise(&self, facts: &StreamFacts) -> Vec<String> {
        let large = facts.get(LINES).filter(|lines| *lines > 1000);
        large.map(|lines| format!("has {lines} lines; a database would be faster")).into_iter().collect()
    }
}

struct Bytes(File);

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl StreamSource for Bytes {
    fn wait_readable(&self, _: &Cancel, _: Option<Duration>) -> std::io::Result<bool> {
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        Ok(StreamDetail::default())
    }
}

/// The check: a file that somebody is writing ends in the middle of a line.
#[derive(Default)]
struct Complete {
    lines: u64,
    last: Option<u8>,
}

impl Check for Complete {
    fn feed(&mut self, bytes: &[u8]) {
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.last = bytes.last().copied().or(self.last);
    }

    fn finish(self: Box<Self>, name: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        if self.last != Some(b'\n') {
            return Err(SourceError::CutOff { name: name.to_owned(), mark: "\n" });
        }
        detail.facts.set(LINES, self.lines);
        detail.facts.set(fact::CHECKED, "its last line is whole".to_owned());
        Ok(())
    }
}

// What its `restore.rs` has.

async fn restore(restoring: &Restoring<'_>) -> Result<RestoredDatabase, Unrestored> {
    let plan = restoring.database;
    let failed = |cause| Unrestored {
        step: format!("restoring {}", plan.name),
        left: format!("{} is as it was", plan.name),
        cause,
    };
    let file = restoring.place.file().map_err(|error| failed(Cause::Server(error)))?;
    // Beside the wanted file, so that it has the name only when it is whole.
    let scratch = file.with_extension(&restoring.unique);
    let made = File::create(&scratch).map_err(|error| failed(Cause::Io(error)))?;
    let written = restoring.stored.write(&plan.main().path, Box::new(made)).await;
    let placed = written.map_err(Cause::from).and_then(|()| fs::rename(&scratch, file).map_err(Cause::Io));
    if let Err(cause) = placed {
        let _ = fs::remove_file(&scratch);
        return Err(failed(cause));
    }
    Ok(RestoredDatabase { name: plan.name.clone(), bytes: plan.stream_bytes(), ..RestoredDatabase::default() })
}

// What a program does with it.

fn engines() -> Engines {
    let mut engines = Engines::default();
    engines.add(Arc::new(Flat));
    engines
}

fn backup_of(file: &Path) -> BackupOptions {
    let engines = engines();
    let engine = engines.named(NAME).expect("it was added");
    let mut options = BackupOptions::default();
    let request = DumpRequest::new(Place::File(file.to_owned()), NAME);
    options.sources = vec![engine.source(request).expect("a file is its place")];
    options
}

/// Plans a restore into `file` from the newest snapshot, and does it when nothing stands against it.
async fn restored_into(
    bench: &Bench,
    file: &Path,
    in_place: bool,
) -> Result<(Plan, RestoreDatabaseReport), RestoreDatabaseError> {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let (_, snapshot) = repository.snapshots().await.expect("listed").pop().expect("one");
    let monitor = Arc::new(Collected::default());
    let reader = open_reader(repository, 256 << 20, monitor.clone()).await.expect("a reader");
    let engine = engines().named(NAME).expect("it was added").clone();
    let target = DatabaseTarget { engine, place: Place::File(file.to_owned()) };
    let mut options = RestoreDatabaseOptions::new(snapshot.expect("whole"), target);
    (options.choice, options.in_place) = (Choice::Only, in_place);
    options.spool = bench.source.path().to_owned();
    let planned = plan(&reader, &options).await?;
    let report = apply(reader, &options, planned.clone(), monitor, Cancel::default()).await?;
    Ok((planned, report))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_a_program_is_backed_up_checked_judged_and_restored() {
    let bench = Bench::new().await;
    let (file, back) = (bench.source.path().join("settings"), bench.source.path().join("back"));
    fs::write(&file, "colour = blue\n").expect("written");
    let report = run_backup(bench.store(), bench.cache.path(), backup_of(&file)).await.expect("backed up");
    let snapshot = report.snapshot.expect("made");
    assert_eq!((snapshot.counts.streams, snapshot.sources[0].starts_with(b"flat:/")), (1, true));

    // A new file; then one that exists is an obstacle, unless it may be replaced.
    let (planned, report) = restored_into(&bench, &back, false).await.expect("restored");
    assert_eq!(planned.notes, [format!("{} has a single line", back.display())]);
    assert_eq!((planned.databases[0].exists, report.databases.len(), report.failed.len()), (false, 1, 0));
    assert_eq!(fs::read_to_string(&back).expect("there"), "colour = blue\n");
    fs::write(&back, "colour = red\n").expect("written");
    let error = restored_into(&bench, &back, false).await.expect_err("it exists");
    assert!(matches!(&error, RestoreDatabaseError::Refused { reasons } if reasons.len() == 1), "{error:?}");
    assert_eq!(fs::read_to_string(&back).expect("there"), "colour = red\n");
    restored_into(&bench, &back, true).await.expect("replaced");
    assert_eq!(fs::read_to_string(&back).expect("there"), "colour = blue\n");
    let error = restored_into(&bench, bench.source.path(), true).await.expect_err("a directory");
    assert!(error.to_string().contains("is a directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_check_refuses_is_in_no_snapshot() {
    let bench = Bench::new().await;
    let file = bench.source.path().join("settings");
    fs::write(&file, "colour = blue\nsize = 1").expect("written");
    let error = run_backup(bench.store(), bench.cache.path(), backup_of(&file)).await.expect_err("cut off");
    let Failure::Backup(BackupError::Stream { source, .. }) = &error else { panic!("{error:?}") };
    assert!(matches!(source, SourceError::CutOff { .. }), "{source}");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    assert_eq!(repository.snapshot_ids().await.expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_streams_are_known_by_their_facts_and_held() {
    let bench = Bench::new().await;
    let file = bench.source.path().join("settings");
    fs::write(&file, "a = b\n".repeat(2000)).expect("written");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let monitor = Arc::new(Collected::default());
    let backed = coffre::ops::backup::backup(repository, backup_of(&file), monitor.clone(), Cancel::default()).await;
    backed.expect("backed up");
    let problems = monitor.problems();
    assert!(
        problems.iter().any(|problem| problem.message == "has 2000 lines; a database would be faster"),
        "{problems:?}"
    );

    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let reader = open_reader(repository.clone(), 256 << 20, monitor).await.expect("a reader");
    let held = holdings::holdings(&repository, &reader, &engines()).await.expect("looked");
    let facts = &held[0].streams[0].facts;
    assert_eq!((facts.get(LINES), engines().of(facts).map(|engine| engine.name())), (Some(2000), Some(NAME)));
    assert!(engines().is_number(facts, "lines") && Engines::default().of(facts).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_leaves_what_was_there() {
    let bench = Bench::new().await;
    let file = bench.source.path().join("settings");
    // Enough for more than one chunk, of which the store loses some.
    let text: String = (0..200_000).map(|at| format!("key{at} = {at}\n")).collect();
    fs::write(&file, &text).expect("written");
    run_backup(bench.store(), bench.cache.path(), backup_of(&file)).await.expect("backed up");
    for pack in bench.data_packs().await {
        bench.store().delete(&pack).await.expect("deleted");
    }
    fs::File::create(&file).and_then(|mut file| file.write_all(b"mine\n")).expect("written");
    let (_, report) = restored_into(&bench, &file, true).await.expect("it was begun");
    let (name, error) = &report.failed[0];
    assert_eq!(*name, file.display().to_string());
    assert!(matches!(error, RestoreDatabaseError::Stored { .. }), "{error:?}");
    assert!(error.to_string().ends_with("is as it was"), "{error}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "mine\n");
    let left = fs::read_dir(bench.source.path()).expect("readable").count();
    assert_eq!(left, 2, "the file, and the directory of the bench");
}
