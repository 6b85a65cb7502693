//! Settings: what flags and the environment say, resolved into one plain value before anything is opened.
//!
//! Nothing of the library looks into the environment of the process for its settings: it is read once ([`Environment`]), and what it says is handed
//! down. So a test, or a program with two jobs, can have two that differ. An option comes before a variable, and a variable before
//! what is usual; two that contradict each other are refused where the value is needed. Secrets are not read here: only where they are
//! is settled. [`connect`](crate::cli::connect) opens things by what stands here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cli::bucket_keys::BucketKeysGiven;
use crate::cli::config::{Applied, WrittenAt};
use crate::cli::environment::Environment;
use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::flags::GlobalArgs;
use crate::cli::output::OfRun;
use crate::cli::password::PasswordsGiven;
use crate::cli::progress::{ConsoleMonitor, Shown, Style};
use crate::crypto::fingerprint::Fingerprint;
use crate::model::units::ByteSize;
use crate::repository::known::KnownRepositories;
use crate::repository::places::LocalPlaces;
use crate::store::location::{Location, S3Location};
use crate::store::s3::Proxy;
use crate::store::s3::provider::OTHER;

/// The least memory that a run can do with.
const MEMORY_MIN: u64 = 128 << 20;

/// The least rate, in bytes a second, with which anything ends.
const LIMIT_MIN: u64 = 16 << 10;

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Option,
    /// In a variable of this name.
    Variable(&'static str),
    /// In a file of the configuration.
    File(WrittenAt),
}

/// What flags and environment say, in one value.
#[derive(Debug)]
pub struct Settings {
    /// Where the repository is, as it was written, and where that was said.
    pub repo: Option<(String, Origin)>,
    /// Where the passphrase may be.
    pub password: PasswordsGiven,
    /// The directories for the cache and for what must not be lost with it.
    pub places: LocalPlaces,
    /// The fingerprint of the repository that is meant.
    pub fingerprint: Option<Fingerprint>,
    /// What was seen of repositories before; nothing where no directory can be meant.
    pub known: Option<KnownRepositories>,
    /// Whether results are objects.
    pub json: bool,
    /// Whether nothing but errors is shown.
    pub quiet: bool,
    /// How much is told: each step, or each entry as well.
    pub verbose: u8,
    /// Memory to stay within, in bytes.
    pub memory_bytes: u64,
    /// Requests at once, at most.
    pub connections: u16,
    /// Bytes a second to send at most.
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes a second to fetch at most.
    pub download_bytes_per_second: Option<u64>,
    /// How long a store may not answer.
    pub give_up_after: Duration,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where the keys to the bucket may be.
    pub bucket_keys: BucketKeysGiven,
    /// The configuration that is read in place of the usual ones.
    pub config_file: Option<PathBuf>,
    /// What the configuration says for this command line; its values are among those above.
    pub configured: Applied,
    /// The environment, for what only single commands ask.
    pub environment: Environment,
    /// The job of a run that this is, and whether others run beside it.
    of_run: Option<(OfRun, bool)>,
    style: Style,
    monitor: OnceLock<Arc<ConsoleMonitor>>,
}

impl Settings {
    /// Resolves what was typed and what the environment says.
    ///
    /// # Errors
    /// One for the user when a value cannot be meant.
    pub fn resolve(flags: GlobalArgs, environment: Environment, configured: Applied) -> Fallible<Self> {
        if flags.memory.0 < MEMORY_MIN {
            return Err(usage(format!("--memory {} is too little; at least 128MiB are needed", flags.memory)));
        }
        if flags.connections == 0 {
            return Err(usage("--connections must be at least 1"));
        }
        for (name, limit) in [("--limit-upload", flags.limit_upload), ("--limit-download", flags.limit_download)] {
            if let Some(limit) = limit.filter(|limit| limit.0 < LIMIT_MIN) {
                let least = ByteSize(LIMIT_MIN);
                return Err(usage(format!(
                    "{name} {limit} a second would never end; at least {least}, or leave it out"
                )));
            }
        }
        let repo = flags.repo.filter(|text| !text.is_empty());
        let said = if flags.is_repo_typed { Origin::Option } else { Origin::Variable("COFFRE_REPO") };
        let named = configured.location.clone().map(|(location, written)| (location, Origin::File(written)));
        let state = state_directory(flags.state_dir, &environment);
        let bundle = environment.path("AWS_CA_BUNDLE");
        Ok(Self {
            repo: named.or(repo.map(|text| (text, said))),
            password: PasswordsGiven::of(flags.password, &environment),
            known: state.as_deref().map(KnownRepositories::below),
            places: LocalPlaces { state, ..cache_places(flags.cache_dir, flags.no_cache, &environment) },
            fingerprint: flags.fingerprint,
            json: flags.json,
            quiet: flags.quiet,
            verbose: flags.verbose,
            memory_bytes: flags.memory.0,
            connections: flags.connections,
            upload_bytes_per_second: flags.limit_upload.map(|limit| limit.0),
            download_bytes_per_second: flags.limit_download.map(|limit| limit.0),
            give_up_after: flags.give_up_after,
            ca_file: flags.ca_file.or(bundle),
            bucket_keys: BucketKeysGiven::of(flags.bucket_keys),
            config_file: flags.config.filter(|path| !path.as_os_str().is_empty()),
            configured,
            environment,
            of_run: None,
            style: Style::choose(flags.progress, flags.quiet),
            monitor: OnceLock::new(),
        })
    }

    /// Returns the location that `--repo` or `COFFRE_REPO` names.
    pub fn location(&self) -> Fallible<Location> {
        let (text, said) =
            self.repo.as_ref().ok_or_else(|| usage("which repository? Give --repo LOCATION or set COFFRE_REPO"))?;
        match (text.parse::<Location>(), said) {
            (Ok(location), _) => Ok(location),
            (Err(error), Origin::Option) => Err(error.into()),
            (Err(error), Origin::Variable(name)) => Err(usage(format!("{name}: {error}"))),
            (Err(error), Origin::File(written)) => Err(usage(format!("{written}: {error}"))),
        }
    }

    /// Tells whether both open the same repository in the same way, with the same keys.
    pub fn open_the_same(&self, other: &Self) -> bool {
        let place = |it: &Self| it.repo.as_ref().map(|(text, _)| text.clone());
        place(self) == place(other)
            && self.password == other.password
            && self.fingerprint == other.fingerprint
            && self.bucket_keys == other.bucket_keys
            && self.ca_file == other.ca_file
    }

    /// Returns the region to sign for that the environment tells; it counts for providers that are not known here.
    pub fn region(&self, location: &S3Location) -> Option<String> {
        let told = self.environment.var("AWS_REGION").or_else(|| self.environment.var("AWS_DEFAULT_REGION"));
        told.filter(|_| location.provider == &OTHER)
    }

    /// Returns the proxy for requests to a bucket.
    pub fn proxy(&self, location: &S3Location) -> Option<Proxy> {
        let environment = &self.environment;
        let for_scheme = match location.tls {
            true => environment.either("HTTPS_PROXY", "https_proxy"),
            false => environment.either("HTTP_PROXY", "http_proxy"),
        };
        let url = for_scheme.or_else(|| environment.either("ALL_PROXY", "all_proxy"))?;
        Some(Proxy { url, except: environment.either("NO_PROXY", "no_proxy").unwrap_or_default() })
    }

    /// Makes these the settings of a job of a run, beside which others may run.
    pub fn belong_to(&mut self, of: OfRun, is_beside_others: bool) {
        // Two bars would be drawn over each other.
        if is_beside_others && self.style == Style::Bar {
            self.style = Style::Lines;
        }
        self.of_run = Some((of, is_beside_others));
    }

    /// Returns the run and the job that this belongs to, if to any.
    pub fn of_run(&self) -> Option<&OfRun> {
        self.of_run.as_ref().map(|(of, _)| of)
    }

    /// Returns the monitor that fits the output wanted and the terminal at hand; there is one for all that a command does.
    pub fn monitor(&self) -> Arc<ConsoleMonitor> {
        let start = || {
            let shown = Shown {
                style: self.style,
                quiet: self.quiet,
                steps: self.verbose > 0,
                entries: self.verbose > 1,
                json: self.json,
                names_job: self.of_run.as_ref().is_some_and(|(_, is_beside_others)| *is_beside_others),
            };
            Arc::new(ConsoleMonitor::start(shown, self.of_run().cloned()))
        };
        self.monitor.get_or_init(start).clone()
    }

    /// Shows nothing more, and tells what problems were not told yet; however a command ended.
    pub fn end_showing(&self) {
        if let Some(monitor) = self.monitor.get() {
            monitor.finish();
        }
    }
}

/// Chooses the directories: what was asked for, systemd's, the user's, or a temporary one.
fn cache_places(asked: Option<PathBuf>, is_unwanted: bool, environment: &Environment) -> LocalPlaces {
    let scratch = environment.path("TMPDIR").unwrap_or_else(|| "/tmp".into());
    if is_unwanted {
        return LocalPlaces::without_cache(scratch);
    }
    let root = directory(asked, CACHE, environment);
    LocalPlaces { cache: root.unwrap_or_else(|| scratch.join("coffre-cache")), scratch, state: None }
}

/// Chooses the directory for what must not be lost with the cache: what was asked for, systemd's, or the user's. There is no other,
/// since anybody could put something into a temporary one.
fn state_directory(asked: Option<PathBuf>, environment: &Environment) -> Option<PathBuf> {
    directory(asked, STATE, environment)
}

/// Where a directory may be.
struct DirectoryChoice {
    /// The variable in which systemd names a service's.
    of_service: &'static str,
    /// The user's variable for all such directories.
    of_user: &'static str,
    /// That of services, which root takes as well, so that what is typed and what a timer starts are one machine.
    of_services: &'static str,
    /// At the user's home.
    at_home: &'static str,
}

const CACHE: DirectoryChoice = DirectoryChoice {
    of_service: "CACHE_DIRECTORY",
    of_user: "XDG_CACHE_HOME",
    of_services: "/var/cache/coffre",
    at_home: ".cache/coffre",
};
const STATE: DirectoryChoice = DirectoryChoice {
    of_service: "STATE_DIRECTORY",
    of_user: "XDG_STATE_HOME",
    of_services: "/var/lib/coffre",
    at_home: ".local/state/coffre",
};

/// Chooses a directory: what was asked for, what systemd names, what the user's variable names, for root that of services where there is
/// one, or one at home.
fn directory(asked: Option<PathBuf>, choice: DirectoryChoice, environment: &Environment) -> Option<PathBuf> {
    asked
        .filter(|path| !path.as_os_str().is_empty())
        .or_else(|| environment.var_os(choice.of_service).map(|named| first_directory(&named)))
        .or_else(|| environment.path(choice.of_user).map(|home| home.join("coffre")))
        .or_else(|| environment.of_services(choice.of_services, choice.at_home))
        .or_else(|| environment.home().map(|home| home.join(choice.at_home)))
}

/// systemd names all directories of `CacheDirectory=` in one variable, with colons between them.
fn first_directory(directories: &OsStr) -> PathBuf {
    let bytes = directories.as_bytes();
    let first = bytes.split(|&byte| byte == b':').find(|part| !part.is_empty()).unwrap_or(bytes);
    PathBuf::from(OsStr::from_bytes(first))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::Cli;
    use crate::database::clients::Clients;

    fn environment(variables: &[(&'static str, &str)]) -> Environment {
        let variables = variables.iter().map(|&(name, value)| (name, value.into())).collect();
        Environment { variables: Some(variables), home: Some("/home/joe".into()), is_root: false }
    }

    fn settings(arguments: &[&str], variables: &[(&'static str, &str)]) -> Fallible<Settings> {
        let line = [&["coffre"], arguments, &["stats"]].concat();
        let matches = Cli::command().try_get_matches_from(line).expect("understood");
        let mut cli = Cli::from_arg_matches(&matches).expect("understood");
        cli.global.note_sources(&matches);
        Settings::resolve(cli.global, environment(variables), Applied::default())
    }

    fn bucket(text: &str) -> S3Location {
        match text.parse() {
            Ok(Location::S3(location)) => location,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_jobs_in_one_process_can_differ() {
        let one =
            settings(&["--repo", "/one"], &[("TMPDIR", "/fast"), ("XDG_CACHE_HOME", "/caches")]).expect("resolved");
        let other = settings(&["--repo", "/other", "--cache-dir", "/mine"], &[]).expect("resolved");
        let root = |settings: &Settings| settings.places.cache.display().to_string();
        assert_eq!((root(&one), root(&other)), ("/caches/coffre".into(), "/mine".into()));
        assert_eq!(
            (one.places.scratch.as_path(), other.places.scratch.as_path()),
            (Path::new("/fast"), Path::new("/tmp"))
        );
        assert_eq!(one.location().expect("one").to_string(), "/one");
        assert_eq!(other.location().expect("other").to_string(), "/other");
    }

    #[test]
    fn the_cache_is_where_it_is_asked_for_then_systemds_then_the_users() {
        let root = |variables: &[(&'static str, &str)]| settings(&[], variables).expect("resolved").places.cache;
        let all = [("CACHE_DIRECTORY", "/run/a:/run/b"), ("XDG_CACHE_HOME", "/xdg")];
        assert_eq!(root(&all), Path::new("/run/a"));
        assert_eq!(root(&all[1..]), Path::new("/xdg/coffre"));
        assert_eq!(root(&[]), Path::new("/home/joe/.cache/coffre"));
        let nobody = Environment { variables: Some(HashMap::new()), home: None, is_root: false };
        assert_eq!(cache_places(None, false, &nobody).cache, Path::new("/tmp/coffre-cache"));
    }

    #[test]
    fn what_must_not_be_lost_is_where_it_is_asked_for_then_systemds_then_the_users() {
        let known = |arguments: &[&str], variables: &[(&'static str, &str)]| {
            let known = settings(arguments, variables).expect("resolved").known;
            known.expect("somewhere").path().parent().expect("in a directory").to_owned()
        };
        let all = [("STATE_DIRECTORY", "/run/a:/run/b"), ("XDG_STATE_HOME", "/xdg")];
        assert_eq!(known(&["--state-dir", "/mine"], &all), Path::new("/mine"));
        assert_eq!(known(&[], &all), Path::new("/run/a"));
        assert_eq!(known(&[], &all[1..]), Path::new("/xdg/coffre"));
        assert_eq!(known(&[], &[]), Path::new("/home/joe/.local/state/coffre"));
        let nobody = Environment { variables: Some(HashMap::new()), home: None, is_root: false };
        assert_eq!(state_directory(None, &nobody), None);
    }

    #[test]
    fn of_several_directories_that_systemd_names_the_first_is_taken() {
        let cases = [("/a:/b", "/a"), ("/a", "/a"), (":/b", "/b"), (":", ":")];
        for (named, taken) in cases {
            assert_eq!(first_directory(OsStr::new(named)), Path::new(taken), "{named}");
        }
    }

    #[test]
    fn a_proxy_is_that_of_the_scheme_and_else_the_one_for_all() {
        let (tls, plain) = (bucket("s3://hetzner-fsn1/bucket"), bucket("s3+http://host:1/bucket"));
        let variables = [("https_proxy", "http://a:1"), ("ALL_PROXY", "http://b:1"), ("NO_PROXY", ".internal")];
        let set = settings(&[], &variables).expect("resolved");
        let url = |location| set.proxy(location).map(|proxy| (proxy.url, proxy.except));
        assert_eq!(url(&tls), Some(("http://a:1".into(), ".internal".into())));
        assert_eq!(url(&plain), Some(("http://b:1".into(), ".internal".into())));
        assert!(settings(&[], &[]).expect("resolved").proxy(&tls).is_none());
    }

    #[test]
    fn where_client_programs_are_is_said_by_the_variables_of_their_engine() {
        let set = [("COFFRE_POSTGRES_BIN", "/opt/pg/bin"), ("PATH", "/a:/b"), ("PGCONNECT_TIMEOUT", "3")];
        let engines = crate::engine::Engines::default();
        let clients = |name: &str| environment(&set).clients(&**engines.named(name).expect("known"));
        let path = vec!["/a".into(), "/b".into()];
        let postgres = Clients { directory: Some("/opt/pg/bin".into()), path: path.clone(), have_time_limit: true };
        assert_eq!(clients("postgres"), postgres);
        assert_eq!(clients("mysql"), Clients { directory: None, path, have_time_limit: false });
    }

    #[test]
    fn the_region_of_the_environment_is_for_strangers() {
        let set = settings(&[], &[("AWS_REGION", "eu-west-9")]).expect("resolved");
        assert_eq!(set.region(&bucket("s3://hetzner-fsn1/bucket")), None);
        assert_eq!(set.region(&bucket("s3://s3.example.org/bucket")).as_deref(), Some("eu-west-9"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_is_opened() {
        for wrong in [&["--memory", "10MiB"][..], &["--connections", "0"], &["--limit-upload", "20B"]] {
            assert!(settings(wrong, &[]).is_err(), "{wrong:?}");
        }
        assert!(settings(&["--repo", "sftp:x"], &[]).expect("not opened yet").location().is_err());
    }
}
