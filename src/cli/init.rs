//! `coffre init`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::recovery_kit::KIT;
use crate::cli::secret_file::{SecretFile, written};
use crate::cli::settings::Settings;
use crate::cli::{events, kit, output, password};
use crate::model::key::ObjectKind;
use crate::model::path::display_bytes;
use crate::model::time::Clock;
use crate::ops;
use crate::progress::Monitor;
use crate::repository::InitOptions;
use crate::store::OpenMode;
use crate::store::location::Location;

/// Flags of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A repository opens with its passphrase and with the recovery identity, which is shown once: keep it on paper. `coffre kit` \
prints a kit with the commands for what is in the repository by then, `coffre kit --check` tries one.

Examples:
  coffre --repo /mnt/disk/backup init --recovery-kit kit.txt
  coffre --repo s3://hetzner-fsn1/BUCKET/main init --recovery-kit kit.txt")]
pub struct Args {
    /// Write the recovery identity and the restore commands to this file, to be printed
    #[arg(long, value_name = "FILE")]
    recovery_kit: Option<PathBuf>,
    /// Print the recovery identity although standard output is not a terminal, so that it may end up in a log
    #[arg(long, conflicts_with = "recovery_kit")]
    show_identity: bool,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let location = global.location()?;
    let is_seen = std::io::stdout().is_terminal() && !global.quiet && !global.json;
    if args.recovery_kit.is_none() && !args.show_identity && !is_seen {
        return Err(usage(
            "where to with the recovery identity? It is shown only once: give --recovery-kit FILE, or --show-identity to have \
             it printed",
        ));
    }
    if let Some(kit) = args.recovery_kit.as_deref().filter(|kit| kit.exists()) {
        return Err(usage(format!("{} exists already; the recovery kit needs a new file", kit.display())));
    }
    let monitor = global.monitor();
    let passphrase = password::get_new(&global.password, &monitor).await?;
    if let Some(weakness) = password::weakness(&passphrase) {
        monitor.note(&weakness);
    }
    let store = global.store(OpenMode::Create, &monitor)?;
    let reserved = args.recovery_kit.as_deref().map(|path| SecretFile::reserve(path, KIT)).transpose()?;
    tell_neighbours(&location, &monitor);
    monitor.phase("making the repository");
    let clock = Clock::System;
    let made = ops::init::init(store, passphrase, &InitOptions::default(), clock, &global.places).await;
    monitor.finish();
    let made = made?;
    global.remember(&location, &made.repository.pin(), &monitor);
    let identity = &made.recovery_identity;
    let page = || kit::first_page(global, &made.repository, &location, identity);
    // A kit that cannot be written must not cost the only copy of the identity.
    let (kit, written) = written(reserved.map(|file| file.fill(&page())));
    if global.json {
        output::json(&events::Made {
            fingerprint: made.repository.fingerprint().to_string(),
            location: location.to_string(),
            recovery_identity: kit.is_none().then(|| identity.expose()),
            recovery_kit: kit,
            repository: made.repository.id().to_string(),
        });
    } else {
        if !global.quiet {
            output::line(&format!("repository {} made at {location}", made.repository.id()));
            output::line(&format!("its fingerprint is {}", made.repository.fingerprint()));
        }
        match &kit {
            Some(kit) if !global.quiet => {
                output::line(&format!("recovery kit written to {kit}: print it, then delete the file"));
            }
            Some(_) => {}
            None => {
                output::line("");
                output::line(&format!("recovery identity: {}", identity.expose()));
                output::line("");
                output::line("It opens the repository when the passphrase is lost, and is shown only now.");
                output::line("Write it down and keep it apart from the servers.");
            }
        }
    }
    written.map(|()| Exit::Done)
}

/// Says what else is in the directory in which a repository is about to be made: that may not be the place that was meant.
fn tell_neighbours(location: &Location, monitor: &ConsoleMonitor) {
    let Location::Directory(path) = location else { return };
    if let Some(neighbour) = neighbour(path) {
        monitor.note(&format!(
            "{} has other things in it, such as {neighbour}; they are left alone, and a directory of its own is easier to copy",
            path.display()
        ));
    }
}

/// Returns the name of something in a directory that is no part of a repository, the first in order.
fn neighbour(directory: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let is_ours =
        |name: &[u8]| ObjectKind::ALL.iter().any(|kind| kind.prefix().trim_end_matches('/').as_bytes() == name);
    let names = std::fs::read_dir(directory).ok()?.flatten().map(|item| item.file_name());
    let strange =
        names.filter(|name| !is_ours(name.as_bytes()) && !["lost+found", "tmp"].contains(&&*name.to_string_lossy()));
    strange.min().map(|name| display_bytes(name.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_things_has_neighbours() {
        let directory = tempfile::tempdir().expect("made");
        assert_eq!(neighbour(&directory.path().join("absent")), None);
        for name in ["config", "packs", "lost+found"] {
            std::fs::create_dir(directory.path().join(name)).expect("made");
        }
        assert_eq!(neighbour(directory.path()), None);
        for name in ["photos", "Documents"] {
            std::fs::create_dir(directory.path().join(name)).expect("made");
        }
        assert_eq!(neighbour(directory.path()).as_deref(), Some("Documents"));
    }
}
