//! `coffre backup`

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::advice::Advice;
use crate::cli::anomalies::AnomalyArgs;
use crate::cli::databases::DatabaseArgs;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Failure, Fallible};
use crate::cli::paths_from::PathsFromArgs;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::{events, on_record, output, recovery_kit, streams};
use crate::engine::Engines;
use crate::model::outcome::Ended;
use crate::model::path::display_bytes;
use crate::model::run::RunKind;
use crate::model::snapshot::{Anomaly, MissingStream};
use crate::model::time::{Clock, Timestamp};
use crate::model::units::ByteSize;
use crate::ops::backup::{
    BackupError, BackupOptions, BackupReport, Comparison, FailedStream, GroupBy, ParentChoice, StreamOptions, backup,
};
use crate::process::own::host_name;
use crate::progress::Problem;
use crate::repository::Repository;
use crate::source::Source;
use crate::source::files::WalkOptions;
use crate::source::given::Given;
use crate::store::OpenMode;
use crate::store::location::Location;

/// Flags of `backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre backup /etc /srv --exclude '*.tmp' --one-file-system
  pg_dump shop | coffre backup --stdin --stdin-name shop.sql
  coffre backup --command a.sql -- pg_dump a --command b.sql -- pg_dump b
  coffre backup --postgres postgresql://backup@db1/ --all-databases --jobs 2
  coffre backup --mysql mysql://backup@db2/shop?option-file=/etc/coffre/my.cnf
  coffre backup --sqlite /var/lib/app/app.db --job app

A dump that fails, is killed, is cut off or is empty leads to no snapshot and exit code 5. With --stdin coffre cannot see \
whether the other command failed: prefer --command.

What is odd beside earlier backups (a stream or path that shrank or grew a lot, files that changed, went or came to look random all at once, a database \
that lost tables) is stored and told, with exit code 3, and flags the snapshot: it is restored like any other, and retention lets it take the place of none. \
The flag stays on those behind it until what was odd is over, or a run with --accept-anomalies takes it for right.")]
pub struct Args {
    /// Files and directories
    paths: Vec<PathBuf>,
    #[command(flatten)]
    paths_from: PathsFromArgs,
    /// Leave out what matches, as in .gitignore; a leading slash means the top of the file system (repeatable)
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Read such patterns from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out what matches, capitals or not (repeatable)
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Read such patterns from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
    /// Do not cross into other file systems
    #[arg(long, short = 'x')]
    one_file_system: bool,
    /// Leave out what is in directories marked by a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what is in directories that have an entry of this name (repeatable)
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,
    /// Leave out larger files
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<ByteSize>,
    /// Store standard input as one stream
    #[arg(long, requires = "stdin_name")]
    stdin: bool,
    /// Name of that stream
    #[arg(long, value_name = "NAME", requires = "stdin")]
    stdin_name: Option<OsString>,
    /// Store the output of a command as a stream (repeatable; comes last)
    #[arg(long, value_name = "NAME -- CMD ARGS…")]
    command: Vec<OsString>,
    /// Label the snapshot (repeatable)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Host to name in the snapshot [default: this machine's name]
    #[arg(long, value_name = "NAME", env = "COFFRE_HOST")]
    host: Option<String>,
    /// Job that the snapshot belongs to
    #[arg(long, value_name = "NAME", default_value = "")]
    job: String,
    /// Date of the snapshot, such as '2026-11-24 02:15:00' in local time, for data that is older than this run
    #[arg(long, value_name = "TIME", value_parser = parse_date)]
    time: Option<Timestamp>,
    /// Compare with this snapshot to find unchanged files [default: the last of the same host, job and paths]
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    parent: Option<String>,
    /// What a snapshot to compare with must have in common: host, job, paths, or '' for nothing
    #[arg(long, value_name = "FIELDS", default_value = "host,job,paths", value_parser = parse_group_by)]
    group_by: GroupBy,
    /// Take files with another inode number for unchanged: for file systems where it is not stable
    #[arg(long)]
    ignore_inode: bool,
    /// Take files whose inode changed for unchanged while size and modification time are the same
    #[arg(long)]
    ignore_ctime: bool,
    /// Read every file, changed or not
    #[arg(long, short)]
    force: bool,
    /// Make no snapshot when nothing at all changed since the one it is compared with
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Do not count files ahead, which a first backup does to know how much there is
    #[arg(long)]
    no_scan: bool,
    /// Do everything but store
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Do not open and check again what was sealed before it is uploaded, which finds faulty memory
    #[arg(long)]
    no_extra_check: bool,
    /// Store streams in small chunks and large files as others, not by what changed since the last night: for hosts without a lasting
    /// --cache-dir
    #[arg(long)]
    no_recipes: bool,
    /// Compression level of zstd
    #[arg(long, value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,
    /// Threads that read and compress [default: one for each processor]
    #[arg(long, alias = "read-concurrency", value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    #[command(flatten)]
    databases: DatabaseArgs,
    #[command(flatten)]
    anomalies: AnomalyArgs,
}

/// What a backup did, and what is told of it.
pub struct BackedUp {
    /// What it did.
    pub report: BackupReport,
    /// How long it took.
    pub elapsed: Duration,
    dry_run: bool,
    lacks_globals: bool,
    /// Whoever backs up reads nothing, so what it remembers is all that it can tell of earlier snapshots.
    reads_nothing: bool,
}

/// A backup that was tried.
pub struct TriedBackup {
    /// What it did, or why it failed.
    pub done: Fallible<BackedUp>,
    /// The repository, as far as it could be opened, and unless nothing was to be stored.
    pub repository: Option<Arc<Repository>>,
    /// The host whose data it is.
    pub host: String,
    /// When it began.
    pub started: Timestamp,
}

/// Backs up and tells of it.
pub async fn run(global: &Settings, args: Args, commands: Vec<streams::Command>) -> Fallible<Exit> {
    let job = args.job.clone();
    let tried = back_up(global, args, commands).await;
    let done = put_on_record(tried, &job, &global.monitor()).await?;
    if global.json {
        output::json(&done.summary());
    } else if !global.quiet {
        done.print();
    }
    Ok(done.report.outcome().into())
}

/// Puts on record what no snapshot says: that a backup failed, or found nothing changed. Returns what it did.
pub async fn put_on_record(tried: TriedBackup, job: &str, monitor: &ConsoleMonitor) -> Fallible<BackedUp> {
    let TriedBackup { done, repository, host, started } = tried;
    let Some(repository) = repository else { return done };
    let ended = done.as_ref().map(|done| &done.report);
    if ended.as_ref().is_ok_and(|report| !report.is_skipped) {
        return done;
    }
    let mut record = on_record::of(RunKind::Backup, started, ended);
    (record.host, record.job) = (host, job.to_owned());
    record.snapshot = ended.ok().and_then(|report| report.parent);
    on_record::put(&repository, record, monitor).await;
    monitor.finish();
    done
}

/// Backs up.
pub async fn back_up(global: &Settings, args: Args, commands: Vec<streams::Command>) -> TriedBackup {
    let (started, host, mut repository) = (Clock::System.now(), args.host_name(), None);
    let done = tried(global, args, commands, &mut repository).await;
    TriedBackup { done, repository, host, started }
}

/// Backs up, and leaves the repository for who puts it on record.
async fn tried(
    global: &Settings,
    args: Args,
    commands: Vec<streams::Command>,
    opened_as: &mut Option<Arc<Repository>>,
) -> Fallible<BackedUp> {
    let (dry_run, lacks_globals) = (args.dry_run, args.databases.lacks_globals());
    let mut options = options(args, commands, global)?;
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = tokio::select! {
        opened = global.repository(OpenMode::Write, &monitor) => opened?,
        () = cancel.asked() => return Err(BackupError::Cancelled.into()),
    };
    if !dry_run {
        *opened_as = Some(repository.clone());
    }
    if let Some(files) = &mut options.files {
        files.left_out = own_places(global, &repository);
        files.left_out_marks = vec![recovery_kit::mark(repository.id())];
    }
    let reads_nothing = !repository.keys().can_read();
    let report = backup(repository, options, monitor.clone(), cancel).await;
    monitor.finish();
    Ok(BackedUp { report: report?, elapsed: monitor.elapsed(), dry_run, lacks_globals, reads_nothing })
}

impl Args {
    /// Takes for right what this run finds odd.
    pub fn accept_anomalies(&mut self) {
        self.anomalies.accept_anomalies = true;
    }

    /// Returns the host that a backup states.
    pub fn host_name(&self) -> String {
        self.host.clone().unwrap_or_else(host_name)
    }
}

pub fn options(args: Args, commands: Vec<streams::Command>, global: &Settings) -> Fallible<BackupOptions> {
    if let Some(name) = args.command.first() {
        return Err(usage(format!("write --command {} -- CMD ARGS…, after all other options", name.display())));
    }
    let given = commands.into_iter().map(|it| Given::command(it.name.into_vec(), it.arguments));
    let stdin = args.stdin_name.map(|name| Given::stdin(name.into_vec()));
    let mut sources: Vec<Arc<dyn Source>> =
        given.chain(stdin).map(|given| Arc::new(given) as Arc<dyn Source>).collect();
    sources.extend(args.databases.sources(&global.environment)?);
    let names_paths = !args.paths.is_empty() || args.paths_from.is_given();
    let mut paths = args.paths;
    paths.extend(args.paths_from.read()?);
    if let Some(failure) = paths.iter().find_map(|path| about_url(path)) {
        return Err(failure);
    }
    if names_paths && paths.is_empty() && sources.is_empty() {
        return Err(usage("the lists name no path, so there is nothing to back up"));
    }
    if paths.is_empty() && sources.is_empty() {
        let failure = usage("what is to be backed up? Give paths, --stdin, --command or a database");
        return Err(match global.configured.config.job_like(&args.job) {
            Some(job) => failure.hinting(format!("the configuration has no job {:?}, but {job:?}", args.job)),
            None => failure,
        });
    }
    let files = (!paths.is_empty()).then(|| WalkOptions {
        roots: paths,
        excludes: args.exclude,
        exclude_files: args.exclude_file,
        iexcludes: args.iexclude,
        iexclude_files: args.iexclude_file,
        left_out: Vec::new(),
        left_out_marks: Vec::new(),
        one_file_system: args.one_file_system,
        exclude_caches: args.exclude_caches,
        exclude_if_present: args.exclude_if_present,
        exclude_larger_than: args.exclude_larger_than.map(|size| size.0),
        threads: args.threads,
    });
    let mut options = BackupOptions::default();
    options.files = files;
    options.sources = sources;
    options.stream_options = StreamOptions { recipes: !args.no_recipes, ..args.databases.stream_options() };
    options.limits = args.anomalies.limits();
    options.accept_anomalies = args.anomalies.accept_anomalies;
    options.host = args.host.unwrap_or(options.host);
    options.job = args.job;
    options.tags = args.tag;
    options.parent = match (args.force, args.parent) {
        (true, _) => ParentChoice::None,
        (false, Some(parent)) => ParentChoice::Snapshot(parent),
        (false, None) => ParentChoice::Auto,
    };
    options.group_by = args.group_by;
    options.comparison = Comparison { ctime: !args.ignore_ctime, inode: !args.ignore_inode };
    options.skip_if_unchanged = args.skip_if_unchanged;
    options.date = args.time;
    options.scan = !args.no_scan;
    options.dry_run = args.dry_run;
    options.extra_check = !args.no_extra_check;
    options.level = args.compression;
    options.memory_bytes = global.memory_bytes;
    options.threads = args.threads;
    Ok(options)
}

/// Says what to do about a source that is written as a URL: there are no such paths.
fn about_url(path: &Path) -> Option<Failure> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    // Whoever has a directory of that name means it.
    if !is_scheme || path.symlink_metadata().is_ok() {
        return None;
    }
    let hint = match Engines::default().of_scheme(scheme) {
        Some(engine) => format!("a database is named by --{} URL", engine.name()),
        None if scheme == "file" => "write the path alone, such as /srv".into(),
        None if scheme.starts_with("s3") => {
            "a bucket is no source yet: copy it into a directory first, for example by `rclone sync`, and back that up; where the \
             backup goes is said by --repo"
                .into()
        }
        None => "what is behind a URL can be a stream: --command NAME -- curl -sf URL".into(),
    };
    // A URL may hold a password.
    Some(
        usage(format!("{scheme}://… is no path, and only files, databases and streams can be backed up")).hinting(hint),
    )
}

/// Reads a date: local time, with or without a clock time, or one that says its zone. It must not lie ahead.
fn parse_date(text: &str) -> Result<Timestamp, String> {
    let date = Timestamp::parse_local(text).ok_or("write it like 2026-11-24 02:15:00, or 2026-11-24T02:15:00Z")?;
    if date > Clock::System.now() {
        return Err("a snapshot cannot be dated ahead of now: it would stay the latest".into());
    }
    Ok(date)
}

fn parse_group_by(text: &str) -> Result<GroupBy, String> {
    let mut by = GroupBy { host: false, job: false, paths: false };
    for field in text.split(',').filter(|field| !field.is_empty()) {
        match field {
            "host" => by.host = true,
            "job" => by.job = true,
            "paths" => by.paths = true,
            _ => return Err("write some of host, job and paths, with commas between".into()),
        }
    }
    Ok(by)
}

/// The repository, its cache and the passphrase: a backup of these grows by itself every night, and helps nobody who has lost
/// them. The recovery kit is such a thing, too, and known by what stands in it, wherever it is.
fn own_places(global: &Settings, repository: &Repository) -> Vec<PathBuf> {
    let directory = match global.location() {
        Ok(Location::Directory(directory)) => Some(directory),
        _ => None,
    };
    let password = global.password.file().map(PathBuf::from);
    let cache = repository.cache().trees().parent().map(PathBuf::from);
    let identity = global.password.identity().map(PathBuf::from);
    [directory, cache, password, identity].into_iter().flatten().collect()
}

impl BackedUp {
    /// Returns what is told to programs.
    pub fn summary(&self) -> events::BackedUp<'_> {
        let (report, dry_run, elapsed) = (&self.report, self.dry_run, self.elapsed);
        let counts = &report.counts;
        events::BackedUp {
            anomalies: report.anomalies.iter().map(anomaly).collect(),
            bytes: counts.bytes,
            changed_while_read: report.changed_while_read,
            directories: counts.directories,
            dry_run,
            files: counts.files,
            left_out: report.left_out.iter().map(|path| format!("/{path}")).collect(),
            missing: report.missing.iter().map(failed_stream).collect(),
            new_bytes: counts.new_bytes,
            number: report.snapshot.as_ref().map(|snapshot| snapshot.position.number),
            others: counts.others,
            outcome: report.outcome().name(),
            parent: report.parent.map(|id| id.to_string()),
            previous: report.previous.map(|(id, _)| id.to_string()),
            problems: report.problems.count(),
            read_bytes: report.read_bytes,
            seconds: elapsed.as_secs_f64(),
            skipped: report.is_skipped,
            snapshot: report.snapshot.as_ref().map(|snapshot| snapshot.id.to_string()),
            sources: report
                .snapshot
                .as_ref()
                .map(|snapshot| snapshot.sources.iter().map(|it| display_bytes(it).to_string()).collect()),
            stored_bytes: counts.stored_bytes,
            streams: counts.streams,
            suspicious: report.suspicious.iter().map(suspicious).collect(),
            tree_bytes: report.tree_bytes,
            unchanged_files: report.unchanged_files,
            unreadable: counts.unreadable,
        }
    }

    fn print(&self) {
        let (report, dry_run, elapsed) = (&self.report, self.dry_run, self.elapsed);
        let counts = &report.counts;
        let mut what = Vec::new();
        if counts.files > 0 || counts.streams == 0 {
            what.push(output::count(counts.files, "file"));
        }
        if counts.streams > 0 {
            what.push(output::count(counts.streams, "stream"));
        }
        let unchanged = match report.unchanged_files {
            0 => String::new(),
            unchanged => format!(", {} unchanged", output::grouped(unchanged)),
        };
        output::line(&format!("contents   {}{unchanged}, {}", what.join(" and "), ByteSize(counts.bytes)));
        output::line(&format!("read       {}", ByteSize(report.read_bytes)));
        let ratio = match counts.stored_bytes {
            stored if stored < counts.new_bytes && stored > 0 => {
                format!(" (1/{:.1} of that)", counts.new_bytes as f64 / stored as f64)
            }
            stored if stored > 0 => format!(", of which {} directory trees and index", ByteSize(report.tree_bytes)),
            _ => String::new(),
        };
        let added = if dry_run { "would add" } else { "added" };
        output::line(&format!(
            "{added:<9}  {} new, stored as {}{ratio}",
            ByteSize(counts.new_bytes),
            ByteSize(counts.stored_bytes)
        ));
        output::line(&format!("duration   {}", output::duration(elapsed)));
        if counts.unreadable > 0 {
            output::line(&format!("unread     {} could not be read", output::count(counts.unreadable, "entry")));
        }
        if report.changed_while_read > 0 {
            let files = output::count(report.changed_while_read, "file");
            output::line(&format!("unsettled  {files} changed while read; the next run reads them again"));
        }
        self.tell_what_is_amiss();
        match &report.snapshot {
            Some(snapshot) if !snapshot.is_complete() => {
                output::line(&format!("snapshot   {}, INCOMPLETE", snapshot.id))
            }
            Some(snapshot) if snapshot.is_suspicious() => {
                output::line(&format!("snapshot   {}, SUSPICIOUS", snapshot.id))
            }
            Some(snapshot) => output::line(&format!("snapshot   {}", snapshot.id)),
            None if report.is_skipped => {
                let parent = report.parent.map(|id| id.to_string()).unwrap_or_default();
                output::line(&format!("snapshot   none: nothing changed since {parent}"));
            }
            None => output::line("snapshot   none: this was a dry run"),
        }
        match report.previous.filter(|_| self.reads_nothing) {
            Some((id, number)) => output::line(&format!("previous   {} (number {number})", id.time().local_minute())),
            None if self.reads_nothing => output::line("previous   none that this machine remembers"),
            None => {}
        }
        if self.lacks_globals {
            output::line("left out   roles and users of the database servers; --all-databases stores them as well");
        }
    }

    /// Prints what was left out, looks suspicious or is missing.
    pub fn tell_what_is_amiss(&self) {
        self.what_is_amiss().iter().for_each(|line| output::line(line));
    }

    /// Returns lines that say what was left out, looks suspicious or is missing.
    pub fn what_is_amiss(&self) -> Vec<String> {
        let report = &self.report;
        let own = |path| format!("left out   /{path}, which is coffre's own; name it to store it, too");
        let mut lines: Vec<String> = report.left_out.iter().map(own).collect();
        lines.extend(report.suspicious.iter().map(|suspicious| format!("suspicious {suspicious}")));
        if !report.anomalies.is_empty() {
            lines.push("           if all of that is right, --accept-anomalies in one run says so".into());
        }
        for missing in &report.missing {
            lines.push(format!("MISSING    {}: {}", missing.name, missing.why()));
            lines.extend(missing.source.hint().map(|hint| format!("           hint: {hint}")));
        }
        lines
    }
}

fn suspicious(it: &Problem) -> events::Suspicious<'_> {
    events::Suspicious { stream: &it.subject, subject: &it.subject, why: &it.message }
}

/// Something odd, for programs.
pub fn anomaly(it: &Anomaly) -> events::Anomaly<'_> {
    let since = it.since.map(|since| since.to_string());
    events::Anomaly { kind: it.kind.name(), since, subject: &it.subject, why: &it.why }
}

/// A stream that failed, for programs.
fn failed_stream(failed: &FailedStream) -> events::MissingStream<'_> {
    events::MissingStream { stream: &failed.name, why: failed.why().into() }
}

/// A stream that failed when a snapshot was made, for programs.
pub fn missing_stream(missing: &MissingStream) -> events::MissingStream<'_> {
    events::MissingStream { stream: &missing.name, why: missing.why.as_str().into() }
}
