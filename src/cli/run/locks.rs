//! One run of a host at a time backs up into a repository: the run takes a lock for each that its jobs name, and keeps them to its end.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::cli::failure::{Context, Failure, Fallible};
use crate::cli::settings::Settings;
use crate::model::outcome::Outcome;

/// How often is looked whether another run has ended.
const POLL: Duration = Duration::from_millis(200);

/// What a run keeps others away from, by location, and why it cannot do so.
#[derive(Debug, Default)]
pub struct RunLocks(BTreeMap<String, Fallible<Option<File>>>);

impl RunLocks {
    /// Takes the locks of the repositories of jobs, in order of their locations, so that of two runs which wait for each other neither
    /// has what the other waits for. What another run of this host has is waited for until `wait` is over.
    pub async fn take(jobs: impl Iterator<Item = &Settings>, wait: Duration, cancel: &Cancel) -> Self {
        let until = Instant::now() + wait;
        let mut wanted = BTreeMap::new();
        for settings in jobs {
            // Without a directory there is nothing to be locked, and two runs at once harm nothing. A location that cannot be meant is
            // for the job to tell.
            if let (Some(state), Ok(location)) = (&settings.places.state, settings.location()) {
                wanted.entry(location.canonical()).or_insert_with(|| state.join("runs"));
            }
        }
        let mut locks = BTreeMap::new();
        for (location, directory) in wanted {
            let lock = alone(&location, &directory, until, cancel).await;
            locks.insert(location, lock);
        }
        Self(locks)
    }

    /// Tells why a job cannot back up into its repository now, if it cannot.
    pub fn allow(&self, settings: &Settings) -> Fallible<()> {
        match self.0.get(&settings.location()?.canonical()) {
            Some(Err(failure)) => Err(failure.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// Keeps other runs of this host away from a repository, for as long as what is returned is there.
async fn alone(location: &str, directory: &Path, until: Instant, cancel: &Cancel) -> Fallible<Option<File>> {
    let name = blake3::hash(location.as_bytes()).to_hex()[..16].to_owned();
    let path = directory.join(format!("{name}.lock"));
    let file = locked_file(&path).context(path.display().to_string())?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = cancel.asked() => return Err(Failure::new(Outcome::Interrupted, "interrupted")),
                }
            }
            Err(TryLockError::WouldBlock) => {
                let failure = Failure::new(Outcome::Busy, format!("another run of this host backs up into {location}"));
                return Err(failure.hinting("--wait DURATION waits for it"));
            }
            // A file system without locks.
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

fn locked_file(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}
