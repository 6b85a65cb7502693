//! Opening what the settings name: the store, the repository.

use std::sync::Arc;

use crate::cli::failure::{Failure, Fallible};
use crate::cli::password;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::settings::Settings;
use crate::crypto::slot::Opener;
use crate::model::key::ObjectKey;
use crate::progress::{Monitor, Problem};
use crate::repository::known::{Expected, Pin};
use crate::repository::{OpenError, Repository};
use crate::store::location::{Location, S3Location};
use crate::store::s3::S3Options;
use crate::store::s3::credentials::S3Credentials;
use crate::store::{OpenMode, OpenOptions, Store, StoreErrorKind};

impl Settings {
    /// Opens the store.
    pub fn store(&self, mode: OpenMode, monitor: &Arc<ConsoleMonitor>) -> Fallible<Arc<dyn Store>> {
        let location = self.location()?;
        let mut options = OpenOptions {
            mode,
            connections: usize::from(self.connections),
            upload_bytes_per_second: self.upload_bytes_per_second,
            download_bytes_per_second: self.download_bytes_per_second,
            cancel: monitor.cancel().clone(),
            ..OpenOptions::default()
        };
        options.retry.give_up_after = self.give_up_after;
        if let Location::S3(bucket) = &location {
            options.s3 = self.s3(bucket)?;
        }
        match crate::store::open(&location, &options, monitor.clone() as Arc<dyn Monitor>) {
            Err(error) if error.kind == StoreErrorKind::NoSuchPlace && mode != OpenMode::Create => {
                let failure = Failure::from(OpenError::Missing { location: location.to_string() });
                Err(match self.name_meant() {
                    Some(name) => failure.hinting(format!("the configuration has a repository {name:?}")),
                    None => failure,
                })
            }
            // The error names the place.
            store => Ok(store?),
        }
    }

    /// Returns the name of a repository in the configuration that what was given may be a slip of.
    fn name_meant(&self) -> Option<&str> {
        let (text, _) = self.repo.as_ref()?;
        self.configured.config.repository_like(text)
    }

    /// Returns how a bucket is reached; its keys may be in a file or come from a command, which is read or run now.
    pub fn s3(&self, location: &S3Location) -> Fallible<S3Options> {
        Ok(self.s3_with(location, self.bucket_keys.get(location, &self.environment)?))
    }

    /// Returns the same where no command is needed for it.
    pub fn s3_at_hand(&self, location: &S3Location) -> Option<S3Options> {
        Some(self.s3_with(location, self.bucket_keys.at_hand(location, &self.environment)?))
    }

    fn s3_with(&self, location: &S3Location, credentials: S3Credentials) -> S3Options {
        S3Options {
            credentials: Some(credentials),
            region: self.region(location),
            ca_file: self.ca_file.clone(),
            proxy: self.proxy(location),
            ..S3Options::default()
        }
    }

    /// Opens the repository, asking for the passphrase where nothing else is given.
    pub async fn repository(&self, mode: OpenMode, monitor: &Arc<ConsoleMonitor>) -> Fallible<Arc<Repository>> {
        let store = self.store(mode, monitor)?;
        let opener = password::opener(&self.password, monitor).await?;
        self.open(store, &opener, monitor).await
    }

    /// Opens the repository that was at this place before, or the one that was asked for, and remembers it.
    pub async fn open(
        &self,
        store: Arc<dyn Store>,
        opener: &Opener,
        monitor: &Arc<ConsoleMonitor>,
    ) -> Fallible<Arc<Repository>> {
        monitor.phase("opening the repository");
        let location = self.location()?;
        let (expected, unread) = self.expected(&location);
        if let Some(why) = unread {
            monitor.note(&why);
        }
        let opened = Repository::open_expected(store, opener, &expected, &self.places).await?;
        for elsewhere in &opened.elsewhere {
            let message = format!(
                "opens as well and leads to another repository, with the fingerprint {}: somebody put it there, and it was passed over",
                elsewhere.fingerprint
            );
            monitor.warn(&Problem::advice(ObjectKey::slot(elsewhere.slot).to_string(), message));
        }
        if expected.known != Some(opened.pin) {
            match expected.expected() {
                None => monitor.note(&format!(
                    "this machine opens the repository at {location} for the first time: compare its fingerprint {} with the recovery kit",
                    opened.pin.fingerprint()
                )),
                Some(_) if expected.known.is_some() => monitor.note(&format!(
                    "the repository at {location} is not the one that was there before; from now on the one with the fingerprint {} is expected",
                    opened.pin.fingerprint()
                )),
                Some(_) => {}
            }
            self.remember(&location, &opened.pin, monitor);
        }
        Ok(Arc::new(opened.repository))
    }

    /// Returns which repository must be at this place, and why what is remembered of it cannot be read.
    pub fn expected(&self, location: &Location) -> (Expected, Option<String>) {
        let place = location.canonical();
        let found =
            self.known.as_ref().map_or(Ok(None), |known| known.find(&place).map_err(|error| (known.path(), error)));
        let unread = |(path, error): &(&std::path::Path, std::io::Error)| {
            format!("which repository was at {place} could not be read from {}: {error}", path.display())
        };
        let why = found.as_ref().err().map(unread);
        (Expected { known: found.ok().flatten(), fingerprint: self.fingerprint }, why)
    }

    /// Remembers which repository is at this place. Where that fails it is told, and the next run will ask the same.
    pub fn remember(&self, location: &Location, pin: &Pin, monitor: &Arc<ConsoleMonitor>) {
        match &self.known {
            None => monitor.note(&format!(
                "there is no directory to remember in which repository is at {location}: name one with --state-dir"
            )),
            Some(known) => {
                if let Err(error) = known.remember(&location.canonical(), pin) {
                    monitor.note(&format!(
                        "which repository is at {location} could not be remembered in {} ({error}): name another directory with --state-dir",
                        known.path().display()
                    ));
                }
            }
        }
    }
}
