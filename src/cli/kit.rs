//! `coffre kit`

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::recovery_kit::{KIT, Kit};
use crate::cli::secret_file::SecretFile;
use crate::cli::settings::Settings;
use crate::cli::{events, output, password};
use crate::crypto::digest::sha256;
use crate::crypto::secret::Passphrase;
use crate::crypto::slot::{Opener, check_recovery_identity};
use crate::engine::Engines;
use crate::model::time::{Clock, Timestamp};
use crate::ops::holdings::{Holding, holdings};
use crate::ops::open_reader;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::store::OpenMode;
use crate::store::location::Location;

/// Flags of `kit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The recovery identity is stored nowhere. It is on the page when the repository is opened with it; opened with the passphrase, the \
page has room to copy it by hand from the kit that `coffre init` wrote.

Examples:
  coffre kit | lp
  coffre kit --output kit.txt --note 'Keys of the bucket: safe, blue folder'
  coffre kit --check")]
pub struct Args {
    /// Write the page to this new file, which only you may read
    #[arg(long, short, value_name = "FILE", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Put a line on the page, such as where the program and the keys of the bucket are kept (repeatable)
    #[arg(long, value_name = "TEXT", conflicts_with = "check")]
    note: Vec<String>,
    /// Ask for the recovery identity on a page, and tell whether it opens the repository
    #[arg(long)]
    check: bool,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let location = global.location()?;
    let monitor = global.monitor();
    let opener = match args.check {
        true => Opener::Passphrase(password::get_identity(&global.password, &monitor).await?),
        false => password::opener(&global.password, &monitor).await?,
    };
    let file = args.output.as_deref().map(|path| SecretFile::reserve(path, KIT)).transpose()?;
    match args.check {
        true => check(global, &monitor, &location, &opener).await,
        false => print(global, &monitor, &args, &location, &opener, file).await,
    }
}

async fn print(
    global: &Settings,
    monitor: &Arc<ConsoleMonitor>,
    args: &Args,
    location: &Location,
    opener: &Opener,
    file: Option<SecretFile>,
) -> Fallible<Exit> {
    let (repository, held) = look(global, opener, monitor).await?;
    monitor.finish();
    let identity = match opener {
        Opener::Passphrase(text) if check_recovery_identity(text.expose()) == Some(true) => Some(text),
        _ => None,
    };
    let page = make(global, &repository, location, identity, &held, &args.note).page();
    if let Some(file) = file {
        file.fill(&page)?;
    } else if !global.json {
        output::print(&page)?;
    }
    if global.json {
        output::json(&events::KitPage {
            fingerprint: repository.fingerprint().to_string(),
            has_identity: identity.is_some(),
            location: location.to_string(),
            page: args.output.is_none().then_some(page),
            recovery_kit: args.output.as_ref().map(|path| path.display().to_string()),
            repository: repository.id().to_string(),
        });
    } else if !global.quiet {
        if let Some(path) = &args.output {
            output::line(&format!("recovery kit written to {}: print it, then delete the file", path.display()));
        }
        if identity.is_none() {
            output::say(
                "the page has no recovery identity: copy it from the kit that `coffre init` wrote, or open the repository with it",
            );
        }
    }
    Ok(Exit::Done)
}

async fn check(
    global: &Settings,
    monitor: &Arc<ConsoleMonitor>,
    location: &Location,
    identity: &Opener,
) -> Fallible<Exit> {
    let (repository, held) = look(global, identity, monitor).await?;
    monitor.finish();
    let newest = held.first().map(|holding| &holding.snapshot);
    if global.json {
        output::json(&events::KitChecked {
            fingerprint: repository.fingerprint().to_string(),
            location: location.to_string(),
            newest: newest.map(|snapshot| snapshot.id.to_string()),
            opens: true,
            repository: repository.id().to_string(),
        });
        return Ok(Exit::Done);
    }
    output::line(&format!("the recovery identity opens repository {} at {location}", repository.id()));
    output::line(&format!("its fingerprint is {}", repository.fingerprint()));
    output::line(&match newest {
        Some(snapshot) => {
            format!("the newest snapshot is {} of {}, {}", snapshot.id.short(), snapshot.host, snapshot.started.local())
        }
        None => "there is no snapshot in it yet".to_owned(),
    });
    Ok(Exit::Done)
}

/// Returns the page of an open repository, with a new identity on it and the commands for what it holds.
pub async fn page_for(
    global: &Settings,
    repository: &Arc<Repository>,
    location: &Location,
    identity: &Passphrase,
    monitor: &Arc<ConsoleMonitor>,
) -> Fallible<String> {
    let held = held(global, repository, monitor).await?;
    Ok(make(global, repository, location, Some(identity), &held, &[]).page())
}

/// Opens the repository and finds out what it holds.
async fn look(
    global: &Settings,
    opener: &Opener,
    monitor: &Arc<ConsoleMonitor>,
) -> Fallible<(Arc<Repository>, Vec<Holding>)> {
    let store = global.store(OpenMode::Read, monitor)?;
    let repository = global.open(store, opener, monitor).await?;
    let held = held(global, &repository, monitor).await?;
    Ok((repository, held))
}

async fn held(
    global: &Settings,
    repository: &Arc<Repository>,
    monitor: &Arc<ConsoleMonitor>,
) -> Fallible<Vec<Holding>> {
    let reader = open_reader(repository.clone(), global.memory_bytes, monitor.clone()).await?;
    monitor.phase("reading snapshots");
    Ok(holdings(repository, &reader, &Engines::default()).await?)
}

/// Returns the first page of a new repository.
pub fn first_page(global: &Settings, repository: &Repository, location: &Location, identity: &Passphrase) -> String {
    make(global, repository, location, Some(identity), &[], &[]).page()
}

fn make<'a>(
    global: &Settings,
    repository: &Repository,
    location: &'a Location,
    identity: Option<&'a Passphrase>,
    holdings: &'a [Holding],
    notes: &'a [String],
) -> Kit<'a> {
    let region = match location {
        Location::S3(bucket) => global.region(bucket),
        _ => None,
    };
    let digest = |path: &Path| File::open(path).and_then(sha256).ok();
    Kit {
        repository: repository.id(),
        fingerprint: repository.fingerprint(),
        location,
        identity,
        made: Timestamp::from_seconds(Clock::System.now().seconds),
        holdings,
        ca_file: global.ca_file.as_ref().and_then(|path| Some((path.display().to_string(), digest(path)?))),
        region,
        program: std::env::current_exe().ok().and_then(|path| digest(&path)),
        notes,
    }
}
