//! The main job from end to end, as a program of the library: a directory and a command's output into a repository, and back.
//!
//! ```text
//! cargo run --release --example quickstart [PATH]
//! ```
//!
//! First with a repository in a local directory, and then with one at an S3 server that it starts in this process. What was restored
//! is compared with the source, byte for byte and with its attributes, and the repository is verified to the last byte.
//! Everything is made in a temporary directory and removed at the end. Any difference ends it with exit code 1.
//!
//! It uses nothing but what is named at the root of the crate. What the same looks like on the command line stands before each step.

// Structs of options can grow: outside of the crate they are made from their default, and then changed.
#![allow(clippy::field_reassign_with_default)]

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use coffre::{
    BackupOptions, BackupReport, Cancel, Collected, Ended, EntryPath, Given, Location, OpenMode, OpenOptions,
};
use coffre::{Outcome, Passphrase, Problem, ReadData, Repository, RestoreOptions, S3Credentials, Snapshot};
use coffre::{SnapshotFilter, VerifyOptions, WalkOptions};

#[path = "../tests/it/support/s3_server.rs"]
mod s3_server;

/// The command whose output is stored as a stream beside the files.
const COMMAND: [&str; 3] = ["seq", "1", "2000000"];
/// What the stream is called.
const STREAM: &str = "numbers.txt";
/// What is left out of the source, anywhere in it.
const LEFT_OUT: [&str; 2] = ["target", ".git"];
/// Memory for reading, in bytes.
const MEMORY_BYTES: u64 = 256 << 20;

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let source = std::env::args_os().nth(1).map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let source = match source.canonicalize() {
        Ok(source) if source.is_dir() => source,
        _ => {
            eprintln!("usage: quickstart [DIRECTORY]; {} is none", source.display());
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    match runtime.block_on(run(&source)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart failed: {error}");
            let mut cause = error.source();
            while let Some(next) = cause {
                eprintln!("  caused by: {next}");
                cause = next.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(source: &Path) -> Done<()> {
    let scratch = tempfile::tempdir()?;
    println!("=== A repository in a directory ===");
    let local: Location =
        scratch.path().join("repository").to_str().ok_or("the temporary directory is odd")?.parse()?;
    everything(source, &local, &scratch.path().join("local")).await?;

    println!("\n=== The same at an S3 server, started in this process ===");
    let server = s3_server::S3Server::start().await;
    everything(source, &server.location("quickstart").parse()?, &scratch.path().join("s3")).await?;
    println!("\nAll restored data is equal to its source, and both repositories verify clean.");
    Ok(())
}

/// Init, backup twice, restore, compare, verify.
async fn everything(source: &Path, location: &Location, work: &Path) -> Done<()> {
    fs::create_dir_all(work)?;
    let (repository, monitor) = make(location, &work.join("cache")).await?;

    step("coffre backup DIRECTORY --exclude target/ --exclude .git/ --command numbers.txt -- seq 1 2000000");
    let first = back_up(&repository, source, &monitor).await?;
    tell(&first);
    println!("\n(again: unchanged files are not read, the stream is, and nothing is stored twice)");
    let second = back_up(&repository, source, &monitor).await?;
    tell(&second);
    if second.counts.new_bytes > 0 {
        return Err(format!("{} bytes were new the second time", second.counts.new_bytes).into());
    }

    step("coffre snapshots");
    let listed = coffre::snapshots(&repository, &SnapshotFilter::default(), &*monitor).await?;
    clean(&listed, monitor.problems())?;
    for snapshot in &listed.snapshots {
        println!("{}  {}  {}  {} bytes", snapshot.id, snapshot.started, snapshot.host, snapshot.counts.bytes);
    }
    let latest = repository.find_snapshot("latest", &SnapshotFilter::default()).await?;

    step("coffre restore latest:DIRECTORY --target restored");
    let restored = work.join("restored");
    let mut options = RestoreOptions::new(latest.clone(), &restored);
    options.within = Some(entry_path(source)?);
    let report = coffre::restore(repository.clone(), options, monitor.clone(), Cancel::default()).await?;
    clean(&report, monitor.problems())?;
    println!("compared: {} entries are equal to their source", compare(source, &restored)?);

    step("coffre dump latest:numbers.txt");
    let bytes = compare_stream(&repository, &latest, &monitor).await?;
    println!("compared: the {bytes} bytes of `{}` are equal to the command's output", COMMAND.join(" "));

    step("coffre verify --read-data");
    let mut options = VerifyOptions::default();
    options.read_data = ReadData::All;
    let report = coffre::verify(repository.clone(), options, monitor.clone(), Cancel::default()).await?;
    clean(&report, monitor.problems())?;
    println!(
        "{} snapshots, {} entries, {} chunks, {} of {} packs read: clean",
        report.snapshots, report.entries, report.chunks, report.packs_read, report.packs
    );

    step("coffre stats");
    let stats = coffre::stats(&repository, &*monitor).await?;
    println!("{} bytes can be restored, {} are stored", stats.restored_bytes, stats.stored_bytes);
    Ok(())
}

/// Makes a repository, and opens it as every run after that does.
async fn make(location: &Location, cache: &Path) -> Done<(Arc<Repository>, Arc<Collected>)> {
    step(&format!("coffre --repo {location} init"));
    let monitor = Arc::new(Collected::default());
    let passphrase = Passphrase::new("correct horse battery staple".into());
    let mut opening = OpenOptions::default();
    opening.mode = OpenMode::Create;
    // A directory needs no keys, and does not look at them.
    opening.s3.credentials = Some(S3Credentials::new(s3_server::OWNER.0, s3_server::OWNER.1));
    let store = coffre::open(location, &opening, monitor.clone())?;
    let made = coffre::init(store, passphrase.clone(), &Default::default(), Default::default(), cache).await?;
    println!("repository {} made; its recovery identity is shown only now", made.repository.id());

    opening.mode = OpenMode::Write;
    let store = coffre::open(location, &opening, monitor.clone())?;
    Ok((Arc::new(Repository::open(store, &passphrase, cache).await?), monitor))
}

async fn back_up(repository: &Arc<Repository>, source: &Path, monitor: &Arc<Collected>) -> Done<BackupReport> {
    let mut files = WalkOptions::default();
    files.roots.push(source.to_path_buf());
    files.excludes = LEFT_OUT.map(|name| format!("{name}/")).to_vec();
    let mut options = BackupOptions::default();
    options.files = Some(files);
    options.sources.push(Arc::new(Given::command(STREAM, COMMAND)));
    options.tags.push("quickstart".into());
    let report = coffre::backup(repository.clone(), options, monitor.clone(), Cancel::default()).await?;
    clean(&report, monitor.problems())?;
    Ok(report)
}

fn tell(report: &BackupReport) {
    let counts = &report.counts;
    println!("{} files and {} stream, {} files unchanged", counts.files, counts.streams, report.unchanged_files);
    println!("{} bytes read, {} of them new, stored as {}", report.read_bytes, counts.new_bytes, counts.stored_bytes);
}

/// Reads the stream back and compares it with what the command prints.
async fn compare_stream(repository: &Arc<Repository>, snapshot: &Snapshot, monitor: &Arc<Collected>) -> Done<u64> {
    let reader = coffre::open_reader(repository.clone(), MEMORY_BYTES, monitor.clone()).await?;
    let dumped = tempfile::NamedTempFile::new()?;
    let (output, path) = (Box::new(dumped.reopen()?), EntryPath::new(STREAM)?);
    let report = coffre::dump(reader, snapshot, Some(path), output, monitor.clone(), Cancel::default()).await?;
    clean(&report, monitor.problems())?;
    let printed = Command::new(COMMAND[0]).args(&COMMAND[1..]).stderr(Stdio::inherit()).output()?;
    if fs::read(dumped.path())? == printed.stdout {
        Ok(report.bytes)
    } else {
        Err("the stream differs from the command's output".into())
    }
}

/// Every report says how the run ended; anything but well ends this one.
fn clean(report: &impl Ended, problems: Vec<Problem>) -> Done<()> {
    match report.outcome() {
        Outcome::Clean => Ok(()),
        other => Err(format!("it ended as {:?}: {problems:?}", other.name()).into()),
    }
}

fn step(command: &str) {
    println!("\n$ {command}");
}

/// Where the source stands in a snapshot: its absolute path without the leading slash.
fn entry_path(source: &Path) -> Done<EntryPath> {
    Ok(EntryPath::new(source.strip_prefix("/")?.as_os_str().as_bytes())?)
}

/// Compares two trees: names, kinds, contents, links, permissions, owners and times.
fn compare(source: &Path, restored: &Path) -> Done<usize> {
    let (wanted, found) = (tree(source, source)?, tree(restored, restored)?);
    for (path, entry) in &wanted {
        match found.get(path) {
            Some(other) if other == entry => {}
            Some(_) => return Err(format!("{} differs", path.display()).into()),
            None => return Err(format!("{} is missing", path.display()).into()),
        }
    }
    match found.keys().find(|path| !wanted.contains_key(*path)) {
        Some(path) => Err(format!("{} is too much", path.display()).into()),
        None => Ok(wanted.len()),
    }
}

type Described = ((u32, u32, u32), (i64, i64), Vec<u8>);

/// Describes what the backup takes of a tree.
fn tree(root: &Path, directory: &Path) -> Done<BTreeMap<PathBuf, Described>> {
    let mut all = BTreeMap::new();
    for item in fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))? {
        let path = item.map_err(|error| error.to_string())?.path();
        let stat = path.symlink_metadata().map_err(|error| format!("{}: {error}", path.display()))?;
        if stat.is_dir() && path.file_name().is_some_and(|name| LEFT_OUT.map(OsStr::new).contains(&name)) {
            continue;
        }
        let content = if stat.is_symlink() {
            fs::read_link(&path).map(|link| link.as_os_str().as_bytes().to_vec())
        } else if stat.is_file() {
            hash(&path)
        } else {
            Ok(Vec::new())
        };
        let content = content.map_err(|error| format!("{}: {error}", path.display()))?;
        if stat.is_dir() {
            all.extend(tree(root, &path)?);
        }
        let relative = path.strip_prefix(root).expect("below the root").to_path_buf();
        all.insert(relative, ((stat.mode(), stat.uid(), stat.gid()), (stat.mtime(), stat.mtime_nsec()), content));
    }
    Ok(all)
}

fn hash(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().as_bytes().to_vec()),
            count => drop(hasher.update(&buffer[..count])),
        }
    }
}
