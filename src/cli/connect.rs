//! Global flags, and opening what they name: the store, the repository, the monitor.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::password::{self, PasswordArgs};
use crate::cli::progress::{ConsoleMonitor, Shown, Style, Wanted};
use crate::model::units::ByteSize;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::store::location::Location;
use crate::store::{OpenMode, OpenOptions, Store};

/// The least memory that a run can do with.
const MEMORY_MIN: u64 = 128 << 20;

/// The least rate, in bytes a second, with which anything ends.
const LIMIT_MIN: u64 = 16 << 10;

/// Flags of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Repository: /path, s3://ENDPOINT/BUCKET/PREFIX, or s3+http://… without TLS
    #[arg(long, short, global = true, env = "COFFRE_REPO", value_name = "LOCATION")]
    pub repo: Option<String>,
    /// Where the passphrase is.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Directory for the index cache [default: ~/.cache/coffre]
    #[arg(long, global = true, env = "COFFRE_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Print results as JSON, one object on a line; docs/json.md has the fields
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short, global = true, conflicts_with_all = ["verbose", "progress"])]
    pub quiet: bool,
    /// Print each step, and each problem when it comes; twice: each entry that is backed up, as new, changed or unchanged
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How progress is shown, on standard error
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value = "auto")]
    pub progress: Wanted,
    /// Memory to stay within, at least 128MiB; allow a service 32MiB more
    #[arg(long, global = true, value_name = "SIZE", default_value = "256MiB")]
    pub memory: ByteSize,
    /// Requests to the store at once, at most
    #[arg(long, global = true, value_name = "N", default_value_t = 16)]
    pub connections: u16,
    /// Bytes a second to send at most, such as 20MB
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_upload: Option<ByteSize>,
    /// Bytes a second to fetch at most
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_download: Option<ByteSize>,
    /// End with exit code 7 when the store has not answered for this long, such as 30s or 2h
    #[arg(long, global = true, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    pub give_up_after: Duration,
    /// Certificates (PEM) to trust for the store instead of the system's
    #[arg(long, global = true, env = "COFFRE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    #[arg(skip)]
    monitor: OnceLock<Arc<ConsoleMonitor>>,
}

impl GlobalArgs {
    /// Returns the memory to stay within, in bytes.
    pub fn memory_bytes(&self) -> Fallible<u64> {
        if self.memory.0 < MEMORY_MIN {
            return Err(usage(format!("--memory {} is too little; at least 128MiB are needed", self.memory)));
        }
        Ok(self.memory.0)
    }

    /// Returns the location that `--repo` or `COFFRE_REPO` names.
    pub fn location(&self) -> Fallible<Location> {
        let text = self.repo.as_deref().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| usage("which repository? Give --repo LOCATION or set COFFRE_REPO"))?;
        Ok(text.parse::<Location>()?)
    }

    /// Returns the monitor that fits the output wanted and the terminal at hand; there is one for all that a command does.
    pub fn monitor(&self) -> Arc<ConsoleMonitor> {
        let start = || {
            Arc::new(ConsoleMonitor::start(Shown {
                style: Style::choose(self.progress, self.quiet),
                quiet: self.quiet,
                steps: self.verbose > 0,
                entries: self.verbose > 1,
                json: self.json,
            }))
        };
        self.monitor.get_or_init(start).clone()
    }

    /// Shows nothing more, and tells what problems were not told yet; however a command ended.
    pub fn end_showing(&self) {
        if let Some(monitor) = self.monitor.get() {
            monitor.finish();
        }
    }

    /// Opens the store.
    pub fn store(&self, mode: OpenMode, monitor: &Arc<ConsoleMonitor>) -> Fallible<Arc<dyn Store>> {
        if self.connections == 0 {
            return Err(usage("--connections must be at least 1"));
        }
        for (name, limit) in [("--limit-upload", self.limit_upload), ("--limit-download", self.limit_download)] {
            if let Some(limit) = limit.filter(|limit| limit.0 < LIMIT_MIN) {
                let least = ByteSize(LIMIT_MIN);
                return Err(usage(format!(
                    "{name} {limit} a second would never end; at least {least}, or leave it out"
                )));
            }
        }
        let location = self.location()?;
        let mut options = OpenOptions {
            mode,
            connections: usize::from(self.connections),
            upload_bytes_per_second: self.limit_upload.map(|limit| limit.0),
            download_bytes_per_second: self.limit_download.map(|limit| limit.0),
            cancel: monitor.cancel().clone(),
            ..OpenOptions::default()
        };
        options.retry.give_up_after = self.give_up_after;
        options.s3.ca_file = self.ca_file.clone();
        let store = crate::store::open(&location, &options, monitor.clone() as Arc<dyn Monitor>);
        match store {
            Err(error) if error.kind == crate::store::StoreErrorKind::NoSuchPlace && mode != OpenMode::Create => {
                Err(crate::repository::OpenError::Missing { location: location.to_string() }.into())
            }
            // The error names the place.
            store => Ok(store?),
        }
    }

    /// Opens the repository, asking for the passphrase where it is not given.
    pub async fn repository(&self, mode: OpenMode, monitor: &Arc<ConsoleMonitor>) -> Fallible<Arc<Repository>> {
        let store = self.store(mode, monitor)?;
        let passphrase = password::get(&self.password, monitor).await?;
        monitor.phase("opening the repository");
        Ok(Arc::new(Repository::open(store, &passphrase, self.cache_dir.as_deref()).await?))
    }
}

/// Reads a length of time such as `90s`, `10min` or `1h 30min`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "write for example 30s, 10min or 2h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_units() {
        for (text, seconds) in [("30s", 30), ("10min", 600), ("1h 30min", 5400), ("2 hours", 7200), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "10", "min", "-5s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
