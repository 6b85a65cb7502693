//! The main job from end to end: a directory and a command's output into a repository, and back.
//!
//! ```text
//! cargo run --release --example quickstart [PATH]
//! ```
//!
//! It runs the commands that a person would type, through the same code as the program, first with a repository in a
//! local directory and then with one at an S3 server that it starts in this process. What was restored is compared with
//! the source, byte for byte and with its attributes, and the repository is verified to the last byte. Everything is made
//! in a temporary directory and removed at the end. Any difference ends it with exit code 1.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use coffre::cli::{self, Exit};
use coffre::model::path::EntryPath;
use coffre::ops::dump::dump;
use coffre::ops::{Cancel, open_reader};
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::store::location::Location;

#[path = "../tests/it/support/s3_server.rs"]
mod s3_server;

/// The command whose output is stored as a stream beside the files.
const COMMAND: &str = "seq 1 2000000";

fn main() -> ExitCode {
    let source = std::env::args_os().nth(1).map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let source = match source.canonicalize() {
        Ok(source) if source.is_dir() => source,
        _ => {
            eprintln!("usage: quickstart [DIRECTORY]; {} is none", source.display());
            return ExitCode::from(2);
        }
    };
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", s3_server::OWNER.0),
        ("AWS_SECRET_ACCESS_KEY", s3_server::OWNER.1),
        ("COFFRE_PASSWORD", "correct horse battery staple"),
    ] {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(name, value) };
    }
    let runtime = tokio::runtime::Runtime::new().expect("the runtime starts");
    match runtime.block_on(run(&source)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("quickstart failed: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(source: &Path) -> Result<(), String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    println!("=== A repository in a directory ===");
    let local = scratch.path().join("repository");
    everything(source, &local.display().to_string(), &scratch.path().join("local")).await?;

    println!("\n=== The same at an S3 server, started in this process ===");
    let server = s3_server::S3Server::start().await;
    everything(source, &server.location("quickstart"), &scratch.path().join("s3")).await?;
    println!("\nAll restored data is equal to its source, and both repositories verify clean.");
    Ok(())
}

/// Init, backup twice, look, restore, compare, verify.
async fn everything(source: &Path, repository: &str, work: &Path) -> Result<(), String> {
    fs::create_dir_all(work).map_err(|error| error.to_string())?;
    let cache = work.join("cache");
    let global = ["--repo", repository, "--cache-dir", path_text(&cache)?];
    let coffre = async |arguments: &[&str]| coffre(&global, arguments).await;
    let source_text = path_text(source)?;

    coffre(&["init", "--recovery-kit", path_text(&work.join("kit.txt"))?]).await?;
    let mut backup = vec!["backup", source_text, "--exclude", "target/", "--exclude", ".git/", "--tag", "quickstart"];
    backup.extend(["--command", "numbers.txt", "--"]);
    backup.extend(COMMAND.split(' '));
    coffre(&backup).await?;
    println!("\n(again: unchanged files are not read, the stream is, and nothing is stored twice)");
    coffre(&backup).await?;
    coffre(&["snapshots"]).await?;

    let restored = work.join("restored");
    coffre(&["restore", &format!("latest:{source_text}"), "--target", path_text(&restored)?]).await?;
    let files = compare(source, &restored)?;
    println!("compared: {files} entries are equal to their source");
    let bytes = compare_stream(repository, &cache).await?;
    println!("compared: the {bytes} bytes of `{COMMAND}` are equal to the command's output");
    coffre(&["verify", "--read-data"]).await?;
    coffre(&["stats"]).await
}

/// Shows a command line and runs it as the program would.
async fn coffre(global: &[&str], arguments: &[&str]) -> Result<(), String> {
    println!("\n$ coffre {}", arguments.join(" "));
    let line = ["coffre"].iter().chain(global).chain(arguments).map(OsString::from).collect();
    match cli::run(line).await {
        Exit::Done => Ok(()),
        other => Err(format!("coffre {} ended with {other:?}", arguments[0])),
    }
}

/// Reads the stream back with the library and compares it with what the command prints.
async fn compare_stream(repository: &str, cache: &Path) -> Result<u64, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let monitor = std::sync::Arc::new(Collected::default());
    let location: Location = repository.parse().map_err(|error| text(&error))?;
    let store = coffre::store::open(&location, &Default::default(), monitor.clone()).map_err(|error| text(&error))?;
    let passphrase = std::env::var("COFFRE_PASSWORD").map_err(|error| text(&error))?;
    let passphrase = coffre::crypto::secret::Passphrase::new(passphrase);
    let repository = Repository::open(store, &passphrase, cache).await.map_err(|error| text(&error))?;
    let repository = std::sync::Arc::new(repository);
    let snapshot = repository.find_snapshot("latest", &Default::default()).await.map_err(|error| text(&error))?;
    let reader = open_reader(repository, 256 << 20, monitor.clone()).await.map_err(|error| text(&error))?;

    let dumped = tempfile::NamedTempFile::new().map_err(|error| text(&error))?;
    let output = Box::new(dumped.reopen().map_err(|error| text(&error))?);
    let path = EntryPath::new("numbers.txt").map_err(|error| text(&error))?;
    let cancel = Cancel::default();
    let report = dump(reader, &snapshot, Some(path), output, monitor, cancel).await.map_err(|error| text(&error))?;

    let mut words = COMMAND.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    let printed = command.args(words).stderr(Stdio::inherit()).output().map_err(|error| text(&error))?;
    let dumped = fs::read(dumped.path()).map_err(|error| text(&error))?;
    if dumped == printed.stdout { Ok(report.bytes) } else { Err("the stream differs from the command's output".into()) }
}

/// Compares two trees: names, kinds, contents, links, permissions, owners and times.
fn compare(source: &Path, restored: &Path) -> Result<usize, String> {
    let (wanted, found) = (tree(source, source)?, tree(restored, restored)?);
    for (path, entry) in &wanted {
        match found.get(path) {
            Some(other) if other == entry => {}
            Some(_) => return Err(format!("{} differs", path.display())),
            None => return Err(format!("{} is missing", path.display())),
        }
    }
    match found.keys().find(|path| !wanted.contains_key(*path)) {
        Some(path) => Err(format!("{} is too much", path.display())),
        None => Ok(wanted.len()),
    }
}

type Described = ((u32, u32, u32), (i64, i64), Vec<u8>);

/// Describes what the backup takes of a tree.
fn tree(root: &Path, directory: &Path) -> Result<BTreeMap<PathBuf, Described>, String> {
    let mut all = BTreeMap::new();
    for item in fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))? {
        let path = item.map_err(|error| error.to_string())?.path();
        let stat = path.symlink_metadata().map_err(|error| format!("{}: {error}", path.display()))?;
        let left_out = ["target", ".git"].map(OsStr::new);
        if stat.is_dir() && path.file_name().is_some_and(|name| left_out.contains(&name)) {
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

fn path_text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8; choose another directory", path.display()))
}
