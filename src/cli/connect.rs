//! Opening what the settings name: the store, the repository.

use std::sync::Arc;

use crate::cli::failure::Fallible;
use crate::cli::password;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::settings::Settings;
use crate::progress::Monitor;
use crate::repository::{OpenError, Repository};
use crate::store::location::{Location, S3Location};
use crate::store::s3::{S3Options, credentials};
use crate::store::{OpenMode, OpenOptions, Store, StoreError, StoreErrorKind};

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
                Err(OpenError::Missing { location: location.to_string() }.into())
            }
            // The error names the place.
            store => Ok(store?),
        }
    }

    /// Returns how a bucket is reached; its keys may be in a file, which is read now.
    pub fn s3(&self, location: &S3Location) -> Result<S3Options, StoreError> {
        let (variable, home) = (|name: &str| self.environment.var(name), || self.environment.home());
        Ok(S3Options {
            credentials: Some(credentials::find(None, location, variable, home)?),
            region: self.region(location),
            ca_file: self.ca_file.clone(),
            proxy: self.proxy(location),
            ..S3Options::default()
        })
    }

    /// Opens the repository, asking for the passphrase where it is not given.
    pub async fn repository(&self, mode: OpenMode, monitor: &Arc<ConsoleMonitor>) -> Fallible<Arc<Repository>> {
        let store = self.store(mode, monitor)?;
        let passphrase = password::get(&self.password, monitor).await?;
        monitor.phase("opening the repository");
        Ok(Arc::new(Repository::open(store, &passphrase, &self.cache).await?))
    }
}
