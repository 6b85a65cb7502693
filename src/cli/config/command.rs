//! `coffre config`

use std::collections::BTreeSet;
use std::sync::Arc;

use unicode_width::UnicodeWidthStr;

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::cli::config::{example, schema};
use crate::cli::exit::Exit;
use crate::cli::failure::{Context, Failure, Fallible};
use crate::cli::forget::rules_of_jobs;
use crate::cli::settings::Settings;
use crate::cli::streams::Command;
use crate::cli::{Verb, causes, command, events, output, settled};
use crate::model::outcome::Outcome;
use crate::model::run::RunKind;
use crate::model::time::Clock;
use crate::process::own::host_name;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::trial::TrialError;
use crate::source::{Planning, Source};
use crate::store::{OpenMode, StoreErrorKind};

/// Columns that keys take at most, where no longer one is; a longer one stands out.
const KEY_WIDTH_MAX: usize = 44;

/// Flags of `config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre config example | sudo tee /etc/coffre/coffre.toml
  coffre config check
  coffre config schema > coffre.schema.json

Files are read in this order, and of a key that stands in several the last counts: /etc/coffre/coffre.toml, then \
$XDG_CONFIG_HOME/coffre/coffre.toml, beside each *.toml of conf.d; with --config FILE that file and its conf.d alone.

Where jobs back up to, or work is due every so often, `config check` stores a lease that is over from the start and removes it again, as every run \
stores and removes one. A backup need not delete: where that is refused, the lease of some hundred bytes stays and says nothing, until a clean-up \
removes it. A repository into which nothing is stored by the files is only read. One thing is not tried: where `prune` is to be done in a bucket that \
keeps versions, the right to remove versions.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what the files say and where, and try it: each repository is opened and written to, each database asked, and its dump begun
    Check {
        /// Only show what the files say, and try nothing
        #[arg(long)]
        offline: bool,
    },
    /// Print a configuration with explanations
    Example,
    /// Print a JSON schema of the files, for editors
    Schema,
}

impl Args {
    /// Tells whether the files themselves are wanted.
    pub fn reads_files(&self) -> bool {
        matches!(self.what, What::Check { .. })
    }
}

/// How trying one repository or job ended.
struct Tried {
    what: String,
    ended: Result<String, Failure>,
}

/// What some settings opened; nothing where they open none, which was told.
struct OpenedBy {
    settings: Settings,
    repository: Option<Arc<Repository>>,
}

/// Prints what was asked for.
pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    match args.what {
        What::Example => output::print(&format!("{}\n", example().trim_end())),
        What::Schema => {
            let text = serde_json::to_string_pretty(&schema(&command()));
            output::print(&format!("{}\n", text.expect("its keys are text")))
        }
        What::Check { offline } => check(global, offline).await,
    }
}

async fn check(global: &Settings, offline: bool) -> Fallible<Exit> {
    let config = &global.configured.config;
    if config.files().is_empty() {
        return Err(Failure::new(Outcome::Usage, "there is no configuration")
            .hinting("`coffre config example` prints one for /etc/coffre/coffre.toml"));
    }
    let rows = config.rows();
    let width =
        rows.iter().map(|row| row.key.width()).filter(|width| *width <= KEY_WIDTH_MAX).max().unwrap_or_default();
    for row in &rows {
        let (key, value, place) = (&row.key, &row.value, row.written.to_string());
        if global.json {
            output::json(&events::Configured { key, value, written: &place });
        } else if !global.quiet {
            output::line(&format!("{key:<width$}  {value}"));
            output::line(&format!("{:width$}  {place}", ""));
        }
    }
    if offline {
        return Ok(Exit::Done);
    }
    let monitor = global.monitor();
    let mut worst = Outcome::Clean;
    let mut ended = |tried: Tried| {
        if let Err(failure) = &tried.ended
            && worst == Outcome::Clean
        {
            worst = failure.outcome();
        }
        monitor.print_result(|| tell(global, &tried));
    };
    if !config.watchers(None).urls.is_empty() {
        let tried = try_urls(global, None).map(|urls| output::count(urls, "URL"));
        ended(Tried { what: "watch".into(), ended: tried });
    }
    let mut opened = Vec::new();
    for name in config.repository_names() {
        ended(try_repository(global, name, &mut opened).await);
    }
    for name in config.job_names() {
        ended(try_job(global, name, &opened).await);
    }
    monitor.finish();
    Ok(worst.into())
}

fn tell(global: &Settings, tried: &Tried) {
    let (is_right, message) = match &tried.ended {
        Ok(message) => (true, message.clone()),
        Err(failure) => (false, failure.told().join(": ")),
    };
    let hint = tried.ended.as_ref().err().and_then(Failure::hint);
    if global.json {
        output::json(&events::ConfigTried { hint, is_right, message: &message, what: &tried.what });
        return;
    }
    if is_right && global.quiet {
        return;
    }
    let start = format!("{:<9} {}: ", if is_right { "works" } else { "FAILED" }, tried.what);
    causes::fold(&start, &message, output::wanted_width()).iter().for_each(|line| output::line(line));
    if let Some(hint) = hint {
        causes::fold("          hint: ", hint, output::wanted_width()).iter().for_each(|line| output::line(line));
    }
}

/// Opens a repository, counts its snapshots, and stores something for a try where jobs or work of this configuration do.
async fn try_repository(global: &Settings, name: &str, opened: &mut Vec<OpenedBy>) -> Tried {
    let tried = async {
        let (settings, ..) = settle(global, ["coffre", "snapshots", "--repo", name])?;
        let config = &global.configured.config;
        let every = config.every(name);
        for (kind, _) in &every {
            let (settings, ..) = settle(global, ["coffre", kind.name(), "--repo", name])?;
            rules_of_jobs(&settings)?;
        }
        // A job that has keys of its own tries with those.
        let opens_so = |job: &str| {
            settle(global, ["coffre", "backup", "--job", job]).is_ok_and(|(job, ..)| job.open_the_same(&settings))
        };
        let has_jobs = config.job_names().any(|job| config.repository_of(job) == Some(name) && opens_so(job));
        let mode = if has_jobs || !every.is_empty() { OpenMode::Write } else { OpenMode::Read };
        let repository = settings.repository(mode, &global.monitor()).await;
        opened.push(OpenedBy { settings, repository: repository.as_ref().ok().cloned() });
        let repository = repository?;
        let count = repository.snapshot_ids().await.context("listing snapshots")?.len() as u64;
        let reads = repository.reading().is_ok();
        let may = if reads { "reads and backs up" } else { "backs up and reads nothing" };
        let work: Vec<&str> = every.iter().map(|(kind, _)| kind.name()).collect();
        let left = match work.is_empty() || reads {
            true => String::new(),
            false => format!("; it cannot do what is configured to be done every so often ({})", work.join(", ")),
        };
        let stored = match has_jobs || (reads && !every.is_empty()) {
            true => {
                let must_delete = reads && every.iter().any(|(kind, _)| *kind == RunKind::Prune);
                let stored = try_storing(&repository, host_name(), must_delete).await?;
                format!("; {stored}")
            }
            false => String::new(),
        };
        Ok(format!("this key {may}; {}{left}{stored}", output::count(count, "snapshot")))
    };
    Tried { what: format!("repository {name}"), ended: tried.await }
}

/// Stores something for a try and removes it again, and says what is allowed. Backups need not delete, so it is an error only where it `must`
/// that it may not.
async fn try_storing(repository: &Arc<Repository>, host: String, must_delete: bool) -> Fallible<&'static str> {
    let writing = repository.writing().map_err(TrialError::from)?;
    let trial = writing.try_out(host, Clock::System).await?;
    match trial.removed {
        Ok(()) => Ok("it stores and deletes"),
        Err(error) if must_delete => {
            Err(error).context("`prune` is to be done every so often, and nothing can be deleted")
        }
        Err(error) if error.kind == StoreErrorKind::Denied => Ok("it stores, and may not delete"),
        Err(error) => Err(error.into()),
    }
}

/// Looks whether the sources of a job are there, and whether its host may back up to where its repository was opened; where it has another
/// key than that, something is stored for a try.
async fn try_job(global: &Settings, name: &str, opened: &[OpenedBy]) -> Tried {
    let looked = async {
        let (settings, verb, commands) = settle(global, ["coffre", "backup", "--job", name])?;
        let Verb::Backup(args) = verb else { unreachable!("it is a backup") };
        settings.location()?;
        let options = crate::cli::backup::options(args, commands, &settings)?;
        try_urls(global, Some(name))?;
        let host = options.host.clone();
        let roots = options.files.map_or_else(Vec::new, |files| files.roots);
        for root in &roots {
            root.symlink_metadata().context(root.display().to_string())?;
        }
        let (mut streams, mut found) = (0, BTreeSet::new());
        for source in options.sources {
            global.monitor().phase(source.asking().unwrap_or("looking for sources"));
            streams += plan(source, &mut found).await?;
        }
        let paths = (!roots.is_empty()).then(|| output::count(roots.len() as u64, "path"));
        let streams = (streams > 0).then(|| output::count(streams, "stream"));
        let what = paths.into_iter().chain(streams).collect::<Vec<_>>().join(" and ");
        let stored = match opened.iter().find(|it| it.settings.open_the_same(&settings)) {
            Some(OpenedBy { repository, .. }) => {
                repository.as_ref().map_or(Ok(()), |repository| check_host(repository, &host))?;
                None
            }
            None => {
                let repository = settings.repository(OpenMode::Write, &global.monitor()).await?;
                check_host(&repository, &host)?;
                Some(try_storing(&repository, host, false).await?.to_owned())
            }
        };
        Ok([what].into_iter().chain(found).chain(stored).collect::<Vec<_>>().join("; "))
    };
    Tried { what: format!("job {name}"), ended: looked.await }
}

/// Makes sure that snapshots of a host would count.
fn check_host(repository: &Arc<Repository>, host: &str) -> Fallible<()> {
    repository.writing().and_then(|writing| writing.check_host(host)).map_err(TrialError::from)?;
    Ok(())
}

/// Reads the URLs of those who are told of a job, or of runs, and counts them.
fn try_urls(global: &Settings, job: Option<&str>) -> Fallible<u64> {
    let urls = global.configured.config.watchers(job).urls;
    for told in &urls {
        told.at.url().map_err(|why| told.written.wrong(why))?;
    }
    Ok(urls.len() as u64)
}

/// Resolves a command line as the configuration that is tried completes it.
fn settle(global: &Settings, line: [&str; 4]) -> Fallible<(Settings, Verb, Vec<Command>)> {
    settled(&line.map(Into::into), &global.configured.config, &global.environment)
}

/// Asks a source for its streams, tries each that can be tried, and counts them; adds what gives them.
async fn plan(source: Arc<dyn Source>, found: &mut BTreeSet<String>) -> Fallible<u64> {
    let members = blocking(move || source.plan(&Planning::default())).await?;
    let mut count = 0;
    for member in members {
        for stream in member.streams.context(member.label.clone())? {
            count += 1;
            let tried = blocking(move || stream.opener.try_out(&Cancel::default())).await;
            found.extend(tried.context(member.label.clone())?);
        }
    }
    Ok(count)
}
