//! Flags of every command, as they were typed or set in variables. Nothing is opened here:
//! [`Settings`](crate::cli::settings::Settings) are made of them first.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli::bucket_keys::BucketKeyArgs;
use crate::cli::password::PasswordArgs;
use crate::cli::progress::WantedProgress;
use crate::crypto::fingerprint::Fingerprint;
use crate::model::units::ByteSize;

/// Flags of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Repository: /path, s3://ENDPOINT/BUCKET/PREFIX, s3+http://… without TLS, or its name in the configuration
    #[arg(long, short, global = true, env = "COFFRE_REPO", value_name = "LOCATION")]
    pub repo: Option<String>,
    /// Where the passphrase is.
    #[command(flatten)]
    pub password: PasswordArgs,
    /// Directory for the index cache [default: ~/.cache/coffre; for root /var/cache/coffre, if it is there]
    #[arg(long, global = true, env = "COFFRE_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Keep no cache: every run fetches the index again
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Directory for what must not be lost with the cache: which repository is where, how far it was [default: ~/.local/state/coffre;
    /// for root /var/lib/coffre, if it is there]
    #[arg(long, global = true, env = "COFFRE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Open this repository and no other: its fingerprint, as the recovery kit has it
    #[arg(long, global = true, env = "COFFRE_FINGERPRINT", value_name = "FINGERPRINT")]
    pub fingerprint: Option<Fingerprint>,
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
    pub progress: WantedProgress,
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
    /// Where the keys to the bucket are.
    #[command(flatten)]
    pub bucket_keys: BucketKeyArgs,
    /// Certificates (PEM) to trust for the store instead of the system's
    #[arg(long, global = true, env = "COFFRE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Read this configuration, and no other [default: /etc/coffre/coffre.toml, then ~/.config/coffre/coffre.toml]
    #[arg(long, global = true, env = "COFFRE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whether the repository was typed, and not taken from its variable.
    #[arg(skip)]
    pub is_repo_typed: bool,
}

impl GlobalArgs {
    /// Notes what was typed and what comes from variables.
    pub fn note_sources(&mut self, matches: &ArgMatches) {
        self.is_repo_typed = matches.value_source("repo") == Some(ValueSource::CommandLine);
        self.password.note_sources(matches);
        self.bucket_keys.note_sources(matches);
    }
}

/// Reads a length of time such as `90s`, `10min` or `1h 30min`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "write for example 30s, 10min or 2h".into())
}

/// Reads a length of time in which days count as well, each of 24 hours: `26h`, `7d` or `1d 12h`.
pub fn days(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::Span>().ok();
    let duration = span.and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok());
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "write for example 26h, 1d or 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_lengths_of_time_of_24_hours() {
        for (text, hours) in [("26h", 26), ("1d", 24), ("7 days", 168), ("1d 12h", 36), ("2w", 336)] {
            assert_eq!(days(text), Ok(Duration::from_secs(hours * 3600)), "{text}");
        }
        for wrong in ["", "7", "-1d", "1 month", "soon"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }

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
