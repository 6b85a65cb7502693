//! One run of a host at a time backs up into a repository: the run takes a lock for each that its jobs name, and keeps them until its jobs
//! are done. One at a time does what is due with it, and has another lock for that: no backup waits for a verification.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
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
    pub async fn take<'s>(jobs: impl Iterator<Item = &'s Settings>, wait: Duration, cancel: &Cancel) -> Self {
        let until = Instant::now() + wait;
        let mut wanted = BTreeMap::new();
        for settings in jobs {
            // Without a directory there is nothing to be locked, and two runs at once harm nothing. A location that cannot be meant is
            // for the job to tell.
            if let (Some(state), Ok(location)) = (&settings.places.state, settings.location()) {
                wanted.entry(location.canonical()).or_insert_with(|| state.clone());
            }
        }
        let mut locks = BTreeMap::new();
        for (location, state) in wanted {
            let lock = alone(&location, &state, until, cancel).await;
            locks.insert(location, lock);
        }
        Self(locks)
    }

    /// Tells whether another run of this host keeps a job from backing up.
    pub fn is_taken(&self, settings: &Settings) -> bool {
        self.allow(settings).is_err_and(|failure| failure.outcome() == Outcome::Busy)
    }

    /// Tells why a job cannot back up into its repository now, if it cannot.
    pub fn allow(&self, settings: &Settings) -> Fallible<()> {
        match self.0.get(&settings.location()?.canonical()) {
            Some(Err(failure)) => Err(failure.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// Keeps other runs of this host from doing what is due with a repository, for as long as it is there.
#[derive(Debug, Default)]
pub struct WorkLock {
    _file: Option<File>,
}

impl WorkLock {
    /// Takes it; returns nothing where another run has it. Where it cannot be taken, two at once harm nothing.
    pub fn take(settings: &Settings) -> Option<Self> {
        let (Some(state), Ok(location)) = (&settings.places.state, settings.location()) else {
            return Some(Self::default());
        };
        let file = locked_file(&lock_path(state, &location.canonical(), "work.lock")).ok();
        match file.as_ref().map(File::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => None,
            _ => Some(Self { _file: file }),
        }
    }
}

/// Keeps other runs of this host away from a repository, for as long as what is returned is there.
async fn alone(location: &str, state: &Path, until: Instant, cancel: &Cancel) -> Fallible<Option<File>> {
    let path = lock_path(state, location, "lock");
    let file = locked_file(&path).context(path.display().to_string())?;
    let mut has_waited = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                has_waited = true;
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = cancel.asked() => return Err(Failure::new(Outcome::Interrupted, "interrupted")),
                }
            }
            Err(TryLockError::WouldBlock) => {
                let failure = Failure::new(Outcome::Busy, format!("another run of this host backs up into {location}"));
                return Err(if has_waited { failure } else { failure.hinting("--wait DURATION waits for it") });
            }
            // A file system without locks.
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

fn lock_path(state: &Path, location: &str, suffix: &str) -> PathBuf {
    let name = &blake3::hash(location.as_bytes()).to_hex()[..16];
    state.join("runs").join(format!("{name}.{suffix}"))
}

fn locked_file(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}
