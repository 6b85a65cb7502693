//! Configuration files: options of the command line, written down once for repositories and jobs.
//!
//! A key is the long name of an option, and takes what the option takes: the command line is the one place where options are
//! defined ([`keys`]). Values of files become defaults of the program before the command line is read, so an option comes
//! before its variable, a variable before the files, and these before what is usual. Every value keeps its place ([`file`]).
//! The repository of a job is said once: a variable that says another one is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};

use crate::cli::environment::Environment;
use crate::cli::exit::usage;
use crate::cli::failure::{Failure, Fallible};
use crate::cli::flags::{days, duration};
use crate::cli::run::hooks::{HookTime, Hooks};
use crate::cli::run::watchers::Watchers;
use crate::cli::streams;
use crate::model::due::Every;
use crate::model::run::RunKind;
use crate::ops::status::ExpectedJob;
use crate::store::location::{Location, ParseLocationError};

pub mod command;
mod example;
mod file;
mod keys;
mod schema;
pub mod secret_files;
mod secrets;
mod show;
mod verbs;
mod watch;

pub use example::example;
pub use file::WrittenAt;
pub use schema::schema;

use file::{TomlItem, TomlTable};
use keys::{KeyPlace, Value, nearest, unknown};
use verbs::{ConfiguredVerb, DONE, FORGET, TIME_ZONE, VERBS, leaves_it_to_the_table};

/// Where the configuration of the machine is.
const SYSTEM: &str = "/etc/coffre/coffre.toml";
/// Beside each file, in order of their names, those of this directory.
const BESIDE: &str = "conf.d";
/// Tables and keys at the top.
const TOP: [&str; 6] = ["repository", "options", "run", "watch", "repositories", "jobs"];
/// Keys of a repository and of a job that are no options.
const LOCATION: &str = "location";
const REPOSITORY: &str = "repository";
const COMMANDS: &str = "commands";
const HOOKS: &str = "hooks";
const WATCH: &str = "watch";
const TIME_LIMIT: &str = "time-limit";
const MAX_AGE: &str = "max-age";
/// The variable of the option for the repository.
const VARIABLE: &str = "COFFRE_REPO";
/// Keys of which one takes the place of the other.
const ALTERNATIVES: [[&str; 2]; 2] = [["password-file", "password-command"], ["profile", "s3-keys-command"]];

/// A repository that has a name.
#[derive(Debug, Clone)]
struct ConfiguredRepository {
    location: String,
    written: WrittenAt,
    values: Vec<Value>,
    /// By command.
    verbs: BTreeMap<&'static str, ConfiguredVerb>,
}

/// What is to be backed up under a name.
#[derive(Debug, Clone)]
struct ConfiguredJob {
    written: WrittenAt,
    repository: Option<(String, WrittenAt)>,
    values: Vec<Value>,
    commands: Vec<streams::Command>,
    hooks: Hooks,
    /// Where each of these is written, by its key in the job.
    places: BTreeMap<String, WrittenAt>,
    /// How old its last backup may be.
    max_age: Option<(Duration, WrittenAt)>,
    watchers: Watchers,
    /// What is kept of it, in place of what its repository says.
    forget: Vec<Value>,
}

/// What all files say together.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    files: Vec<PathBuf>,
    /// The repository of commands that name none.
    repository: Option<(String, WrittenAt)>,
    options: Vec<Value>,
    /// Options of `coffre run`.
    of_runs: Vec<Value>,
    /// Who is told of runs.
    watchers: Watchers,
    repositories: BTreeMap<String, ConfiguredRepository>,
    jobs: BTreeMap<String, ConfiguredJob>,
}

/// What the files say for one command line.
#[derive(Debug, Default)]
pub struct Applied {
    /// All that they say.
    pub config: Arc<Configuration>,
    /// The name of the repository, if it has one.
    pub repository: Option<String>,
    /// Where the repository is, with the place that says so.
    pub location: Option<(String, WrittenAt)>,
    /// Streams of the job.
    pub commands: Vec<streams::Command>,
    /// Options of every command that were typed.
    pub typed: Vec<OsString>,
    values: Vec<Value>,
    /// Rules of `forget` that jobs have of their own, by job.
    of_jobs: Vec<(String, Vec<Value>)>,
}

impl Configuration {
    /// Reads the files that there are: the one that was `asked` for, or the machine's and then the user's; beside each those of its
    /// `conf.d`. Of a key that stands in several, the last counts.
    ///
    /// # Errors
    /// One for the user, with the place in the file.
    pub fn load(program: &Command, asked: Option<&Path>, environment: &Environment) -> Fallible<Self> {
        let mut config = Self::default();
        for path in Self::places(asked, environment)? {
            config.add(program, file::read(&path)?)?;
            config.files.push(path);
        }
        config.check()?;
        Ok(config)
    }

    /// Returns the files that are read, in order.
    fn places(asked: Option<&Path>, environment: &Environment) -> Fallible<Vec<PathBuf>> {
        let mut files = Vec::new();
        match asked {
            Some(asked) => files.push(asked.to_owned()),
            None => {
                let home = environment.path("XDG_CONFIG_HOME");
                let home = home.or_else(|| Some(environment.home()?.join(".config")));
                let users = home.map(|home| home.join("coffre/coffre.toml"));
                files.extend([Some(PathBuf::from(SYSTEM)), users].into_iter().flatten());
            }
        }
        let mut read = Vec::new();
        for main in files {
            if asked.is_some() || main.exists() {
                read.push(main.clone());
            }
            let directory = main.parent().map(|parent| parent.join(BESIDE));
            // What is no file of a directory of its own, such as /dev/null, has nothing beside it.
            if main.extension().is_some() || asked.is_none() {
                read.extend(directory.map_or(Ok(Vec::new()), |directory| file::beside(&directory))?);
            }
        }
        Ok(read)
    }

    /// Takes text for the only file.
    #[cfg(test)]
    fn of(program: &Command, text: &str) -> Fallible<Self> {
        let mut config = Self::default();
        config.add(program, file::parse(Path::new("/c.toml"), text)?)?;
        config.check()?;
        Ok(config)
    }

    fn add(&mut self, program: &Command, table: TomlTable) -> Fallible<()> {
        for (key, (written, item)) in table {
            match (key.as_str(), item) {
                ("repository", TomlItem::Text(name)) => self.repository = Some((name, written)),
                ("options", TomlItem::Table(table)) => {
                    let values = keys::values(program, KeyPlace::Everywhere, &table)?;
                    put(&mut self.options, values);
                }
                ("run", TomlItem::Table(table)) => {
                    let values = keys::values(program, KeyPlace::Run, &table)?;
                    put(&mut self.of_runs, values);
                }
                (WATCH, item) => self.watchers.replace(watch::watchers(&written, item)?),
                ("repositories", TomlItem::Table(named)) => {
                    for (name, (written, table)) in tables(named)? {
                        self.add_repository(program, name, written, table)?;
                    }
                }
                ("jobs", TomlItem::Table(named)) => {
                    for (name, (written, table)) in tables(named)? {
                        self.add_job(program, name, written, table)?;
                    }
                }
                ("repository" | "options" | "run" | "repositories" | "jobs", other) => {
                    let wanted = if key == "repository" { "the name of one" } else { "a table" };
                    return Err(written.wrong(format!("{key} takes {wanted}, and this is {}", other.kind())));
                }
                _ => return Err(unknown(&key, &written, TOP.into_iter())),
            }
        }
        Ok(())
    }

    fn add_repository(
        &mut self,
        program: &Command,
        name: String,
        written: WrittenAt,
        mut table: TomlTable,
    ) -> Fallible<()> {
        let location = take_text(&mut table, LOCATION)?;
        let verbs = verbs::take(program, &mut table)?;
        let values = keys::values(program, KeyPlace::Everywhere, &table).map_err(|failure| {
            let near = table.keys().find_map(|key| nearest(key, [LOCATION].into_iter().chain(VERBS)));
            match near {
                Some(LOCATION) if location.is_none() => failure.hinting("\"location\" says where it is"),
                Some(near) if near != LOCATION => failure.hinting(format!("{near:?} is like it")),
                _ => failure,
            }
        })?;
        match (self.repositories.get_mut(&name), location) {
            (Some(known), location) => {
                if let Some((location, written)) = location {
                    (known.location, known.written) = (location, written);
                }
                put(&mut known.values, values);
                verbs.into_iter().for_each(|(verb, later)| known.verbs.entry(verb).or_default().update(later));
            }
            (None, Some((location, written))) => {
                self.repositories.insert(name, ConfiguredRepository { location, written, values, verbs });
            }
            (None, None) => return Err(written.wrong(format!("the repository {name} has no location"))),
        }
        Ok(())
    }

    fn add_job(&mut self, program: &Command, name: String, written: WrittenAt, mut table: TomlTable) -> Fallible<()> {
        let repository = take_text(&mut table, REPOSITORY)?;
        let places = places_in(&table);
        let commands = table.remove(COMMANDS).map_or(Ok(Vec::new()), |(written, item)| commands(&written, item))?;
        let hooks = table.remove(HOOKS).map_or(Ok(Hooks::default()), |(written, item)| hooks(&written, item))?;
        let max_age = take_text(&mut table, MAX_AGE)?.map(|(text, written)| match days(&text) {
            Ok(age) => Ok((age, written)),
            Err(why) => Err(written.wrong(format!("{MAX_AGE}: {why}"))),
        });
        let max_age = max_age.transpose()?;
        let watchers = table.remove(WATCH).map(|(written, item)| watch::watchers(&written, item)).transpose()?;
        let forget = verbs::take_rules(program, &mut table)?;
        let values = keys::values(program, KeyPlace::Job, &table)?;
        let new = || ConfiguredJob {
            written,
            repository: None,
            values: Vec::new(),
            commands: Vec::new(),
            hooks: Hooks::default(),
            places: BTreeMap::new(),
            max_age: None,
            watchers: Watchers::default(),
            forget: Vec::new(),
        };
        let job = self.jobs.entry(name).or_insert_with(new);
        job.repository = repository.or(job.repository.take());
        put(&mut job.values, values);
        put(&mut job.forget, forget);
        job.places.extend(places);
        job.max_age = max_age.or(job.max_age.take());
        job.watchers.replace(watchers.unwrap_or_default());
        job.hooks.time_limit = hooks.time_limit.or(job.hooks.time_limit);
        for (time, command) in hooks.commands {
            job.hooks.commands.retain(|(known, _)| *known != time);
            job.hooks.commands.push((time, command));
        }
        for command in commands {
            job.commands.retain(|known| known.name != command.name);
            job.commands.push(command);
        }
        Ok(())
    }

    /// Makes sure that what is named is there, and that every place can be meant.
    fn check(&self) -> Fallible<()> {
        let named = self.jobs.values().filter_map(|job| job.repository.as_ref()).chain(&self.repository);
        for (name, written) in named {
            if !self.repositories.contains_key(name) {
                let failure = written.wrong(format!("there is no repository {name:?} in the configuration"));
                let near = nearest(name, self.repositories.keys().map(String::as_str));
                return Err(match near {
                    Some(near) => failure.hinting(format!("{near:?} is like it")),
                    None => failure.hinting(format!("a table [repositories.{name}] with a location makes one")),
                });
            }
        }
        for repository in self.repositories.values() {
            repository.verbs.iter().try_for_each(|(name, verb)| verb.check(name))?;
            match repository.location.parse::<Location>() {
                Ok(Location::Directory(path)) if !path.is_absolute() => {
                    let why = "does not begin with a slash, and there is nothing that it could be relative to";
                    return Err(repository.written.wrong(format!("{:?} {why}", repository.location)));
                }
                Ok(_) => {}
                // What is wrong with one may be cut out of its password.
                Err(_) if secrets::is_url_with_password(&repository.location) => {
                    return Err(repository.written.wrong(ParseLocationError::Secret));
                }
                Err(error) => return Err(repository.written.wrong(error)),
            }
        }
        Ok(())
    }

    /// Returns what the files say for a command line that was read without them.
    ///
    /// # Errors
    /// One for the user, where it backs up jobs and the variable says another repository than the files.
    pub fn applied(self: &Arc<Self>, matches: &ArgMatches) -> Fallible<Applied> {
        let named: Vec<&str> = jobs_of(matches).into_iter().filter(|job| self.jobs.contains_key(*job)).collect();
        let is_backup = matches.subcommand_name() == Some("backup");
        let job = named.first().filter(|_| is_backup).map(|name| &self.jobs[*name]);
        let source = matches.value_source("repo");
        let is_variable = source == Some(ValueSource::EnvVariable);
        let said = matches.get_one::<String>("repo").map(String::as_str);
        let said = said.filter(|text| !text.is_empty() && (is_variable || source == Some(ValueSource::CommandLine)));
        if let Some(said) = said.filter(|_| is_variable) {
            self.check_variable(said, &self.backed_up(matches))?;
        }
        let meant = self.meant_by(&named);
        let name = match said {
            None => meant,
            Some(said) if self.repositories.contains_key(said) => Some(said),
            // The same place as that of the job has the options of the job's.
            Some(said) => meant.filter(|name| is_variable && !named.is_empty() && self.is_the_same(said, name)),
        };
        let repository = name.map(|name| &self.repositories[name]);
        let mut values = Vec::new();
        if let (Some(repository), Some((verb, matches))) = (repository, matches.subcommand())
            && leaves_it_to_the_table(verb, matches)
        {
            values.extend(repository.verbs.get(verb).map_or_else(Vec::new, |verb| verb.values.clone()));
        }
        let of_runs = (matches.subcommand_name() == Some("run")).then_some(&self.of_runs);
        for section in [Some(&self.options), of_runs, repository.map(|it| &it.values), job.map(|it| &it.values)] {
            put(&mut values, section.into_iter().flatten().cloned().collect());
        }
        let leaves_rules =
            matches.subcommand().is_some_and(|(verb, of_verb)| verb == FORGET && leaves_it_to_the_table(verb, of_verb));
        Ok(Applied {
            of_jobs: name.filter(|_| leaves_rules).map_or_else(Vec::new, |name| self.rules_of_jobs(name)),
            config: self.clone(),
            repository: name.map(str::to_owned),
            location: repository.map(|it| (it.location.clone(), it.written.clone())),
            commands: job.map_or_else(Vec::new, |job| job.commands.clone()),
            typed: Vec::new(),
            values,
        })
    }

    /// Returns the jobs of the configuration that a command line backs up.
    fn backed_up<'a>(&'a self, matches: &'a ArgMatches) -> Vec<&'a str> {
        let named = match matches.subcommand() {
            Some(("backup", _)) => jobs_of(matches),
            Some(("run", of_run)) => match texts_of(of_run, "names") {
                names if names.is_empty() => self.job_names().collect(),
                names => names,
            },
            _ => Vec::new(),
        };
        named.into_iter().filter(|job| self.jobs.contains_key(*job)).collect()
    }

    /// Makes sure that the variable says the repository that the files say for jobs: else they would go to one place, and what is done
    /// with repositories to another.
    fn check_variable(&self, said: &str, jobs: &[&str]) -> Fallible<()> {
        for job in jobs {
            let Some((name, written)) = self.meant_at(self.jobs.get(*job)) else { continue };
            if !self.is_the_same(said, name) {
                let location = &self.repositories[name].location;
                let said = said.parse::<Location>().map_or_else(|_| secrets::hidden(said), |_| said.to_owned());
                let what = format!("job {job} backs up into {name} ({location}), and {VARIABLE} says {said}");
                let hint =
                    format!("take {VARIABLE} out of the environment and coffre.env; --repo says another one for once");
                return Err(written.wrong(what).hinting(hint));
            }
        }
        Ok(())
    }

    /// Tells whether what was said is a repository of the configuration: by a name, or by its place however that is written.
    fn is_the_same(&self, said: &str, name: &str) -> bool {
        let place = |text: &str| text.parse::<Location>().ok().map(|location| location.canonical());
        let of_said = self.repositories.get(said).map_or(said, |repository| repository.location.as_str());
        let directory = |text: &str| Path::new(text).canonicalize().ok();
        let of_name = self.repositories[name].location.as_str();
        let is_same_directory = || directory(of_said).is_some_and(|path| Some(path) == directory(of_name));
        said == name || place(of_said) == place(of_name) || is_same_directory()
    }

    /// Returns the name of the repository that jobs mean, or that is meant without any; where they mean several, none is.
    fn meant_by(&self, jobs: &[&str]) -> Option<&str> {
        let mut of_jobs: Vec<Option<&str>> = jobs.iter().map(|job| self.repository_of(job)).collect();
        of_jobs.dedup();
        match of_jobs.as_slice() {
            [] => self.meant(None),
            [shared] => *shared,
            _ => None,
        }
    }

    /// Returns the name of the repository that is meant where nobody says one: that of a job, else the configuration's, else the only one.
    fn meant<'a>(&'a self, job: Option<&'a ConfiguredJob>) -> Option<&'a str> {
        self.meant_at(job).map(|(name, _)| name)
    }

    /// Returns the same with the place that says so.
    fn meant_at<'a>(&'a self, job: Option<&'a ConfiguredJob>) -> Option<(&'a str, &'a WrittenAt)> {
        let of_job = job.and_then(|job| job.repository.as_ref());
        let meant = of_job.or(self.repository.as_ref()).map(|(name, written)| (name.as_str(), written));
        let only = self.repositories.iter().next().filter(|_| self.repositories.len() == 1);
        meant.or(only.map(|(name, repository)| (name.as_str(), &repository.written)))
    }

    /// Returns the name of a job's repository.
    pub fn repository_of(&self, job: &str) -> Option<&str> {
        self.meant(Some(self.jobs.get(job)?))
    }

    /// Returns how often what is to be done with a repository, in the order in which it is.
    pub fn every(&self, repository: &str) -> Vec<(RunKind, Every)> {
        let Some(repository) = self.repositories.get(repository) else { return Vec::new() };
        let every = |verb| repository.verbs.get(verb)?.every.as_ref().map(|(every, _)| *every);
        DONE.into_iter().filter_map(|verb| Some((RunKind::of_name(verb), every(verb)?))).collect()
    }

    /// Returns the rules of `forget` that jobs of a repository have of their own, where days begin as it says unless they do.
    fn rules_of_jobs(&self, repository: &str) -> Vec<(String, Vec<Value>)> {
        let of_repository = self.repositories.get(repository).and_then(|it| it.verbs.get(FORGET));
        let zone = of_repository.iter().flat_map(|it| &it.values).filter(|value| value.key == TIME_ZONE);
        let zone: Vec<Value> = zone.cloned().collect();
        let of_it = self.jobs.iter().filter(|(name, _)| self.repository_of(name) == Some(repository));
        let own = of_it.filter(|(_, job)| !job.forget.is_empty());
        own.map(|(name, job)| {
            let mut values = zone.clone();
            put(&mut values, job.forget.clone());
            (name.clone(), values)
        })
        .collect()
    }

    /// Returns the jobs that back up into a repository.
    pub fn expected_jobs(&self, repository: &str) -> Vec<ExpectedJob> {
        let jobs = self.jobs.iter().filter(|(name, _)| self.repository_of(name) == Some(repository));
        let max_age = |job: &ConfiguredJob| job.max_age.as_ref().map(|(age, _)| *age);
        jobs.map(|(name, job)| ExpectedJob { job: name.clone(), max_age: max_age(job) }).collect()
    }

    /// Returns the files that were read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the names of the repositories.
    pub fn repository_names(&self) -> impl Iterator<Item = &str> {
        self.repositories.keys().map(String::as_str)
    }

    /// Returns the names of the jobs.
    pub fn job_names(&self) -> impl Iterator<Item = &str> {
        self.jobs.keys().map(String::as_str)
    }

    /// Returns all that is said for a key, wherever it stands.
    pub fn said(&self, key: &str) -> BTreeSet<&str> {
        let repositories = self.repositories.values().flat_map(|repository| &repository.values);
        let jobs = self.jobs.values().flat_map(|job| &job.values);
        let values = self.options.iter().chain(&self.of_runs).chain(repositories).chain(jobs);
        values.filter(|value| value.key == key).flat_map(|value| &value.texts).map(String::as_str).collect()
    }

    /// Returns the hooks of a job.
    pub fn hooks(&self, job: &str) -> Hooks {
        self.jobs.get(job).map(|job| job.hooks.clone()).unwrap_or_default()
    }

    /// Returns who is told of a job, or of runs.
    pub fn watchers(&self, job: Option<&str>) -> Watchers {
        match job {
            Some(job) => self.jobs.get(job).map(|job| job.watchers.clone()).unwrap_or_default(),
            None => self.watchers.clone(),
        }
    }

    /// Returns the file of metrics that the files name, as far as they are understood: the rest of them may be wrong.
    pub fn metrics_file(asked: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
        let files = Self::places(asked, environment).unwrap_or_default();
        let mut named =
            files.iter().filter_map(|path| match file::table_of_wrong(path, "run")?.remove("metrics-file")? {
                (_, TomlItem::Text(text)) => Some(PathBuf::from(text)),
                _ => None,
            });
        named.rfind(|path| path.is_absolute())
    }

    /// Returns who is told of runs, as far as the files are understood: the rest of them may be wrong.
    pub fn watchers_of_wrong(asked: Option<&Path>, environment: &Environment) -> Watchers {
        let mut watchers = Watchers::default();
        for path in Self::places(asked, environment).unwrap_or_default() {
            let Some(table) = file::table_of_wrong(&path, WATCH) else { continue };
            let Some(written) = table.values().map(|(written, _)| written.clone()).next() else { continue };
            if let Ok(understood) = watch::watchers(&written, TomlItem::Table(table)) {
                watchers.replace(understood);
            }
        }
        watchers
    }

    /// Returns the name of a repository that is like one which is not known.
    pub fn repository_like(&self, name: &str) -> Option<&str> {
        nearest(name, self.repository_names()).filter(|_| !self.repositories.contains_key(name))
    }

    /// Returns the name of a job that is like one which is not known.
    pub fn job_like(&self, name: &str) -> Option<&str> {
        nearest(name, self.job_names()).filter(|_| !self.jobs.contains_key(name))
    }
}

impl Applied {
    /// Tells whether the files say anything of options.
    pub fn says_anything(&self) -> bool {
        !self.values.is_empty()
    }

    /// Makes what the files say the defaults of the program.
    pub fn onto(&self, program: Command, verb: &str) -> Command {
        self.values.iter().fold(program, |program, value| with_default(program, verb, value))
    }

    /// Reads the rules of `forget` that jobs have of their own, where what is kept is left to the configuration.
    ///
    /// # Errors
    /// One for the user, with the place of what cannot be meant.
    pub fn rules_of_jobs(&self, program: &Command) -> Fallible<Vec<(String, ArgMatches)>> {
        let read = |(job, values): &(String, Vec<Value>)| {
            let alone = Applied { values: values.clone(), ..Applied::default() };
            match alone.onto(program.clone(), FORGET).try_get_matches_from(["coffre", FORGET]) {
                Ok(matches) => Ok((job.clone(), matches)),
                Err(error) => Err(alone.at_fault(program, FORGET).unwrap_or_else(|| usage(error.to_string()))),
            }
        };
        self.of_jobs.iter().map(read).collect()
    }

    /// Tells the place of a value that cannot be meant, where one of a file is what the program did not understand.
    pub fn at_fault(&self, program: &Command, verb: &str) -> Option<Failure> {
        self.values.iter().find_map(|value| {
            let alone = with_default(program.clone(), verb, value);
            let error = alone.try_get_matches_from(["coffre", verb]).err()?;
            let is_value =
                matches!(error.kind(), clap::error::ErrorKind::ValueValidation | clap::error::ErrorKind::InvalidValue);
            let first = error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            is_value.then(|| value.written.wrong(first))
        })
    }
}

/// Makes a value the default of its option, of every command or of `verb`.
fn with_default(program: Command, verb: &str, value: &Value) -> Command {
    let texts: Vec<OsString> = value.texts.iter().map(OsString::from).collect();
    let has = |command: &Command| command.get_arguments().any(|argument| argument.get_id() == value.id.as_str());
    if has(&program) {
        return program.mut_arg(&value.id, |argument| argument.default_values(texts));
    }
    match program.find_subcommand(verb).is_some_and(has) {
        true => program
            .mut_subcommand(verb, |command| command.mut_arg(&value.id, |argument| argument.default_values(texts))),
        false => program,
    }
}

/// Returns the options of every command that were typed, as they would be typed again.
pub fn typed(program: &Command, matches: &ArgMatches) -> Vec<OsString> {
    let mut typed = Vec::new();
    for argument in program.get_arguments().filter(|argument| argument.is_global_set()) {
        let (id, Some(long)) = (argument.get_id().as_str(), argument.get_long()) else { continue };
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        match argument.get_action() {
            ArgAction::SetTrue => typed.push(format!("--{long}").into()),
            ArgAction::Count => typed.extend((0..matches.get_count(id)).map(|_| OsString::from(format!("--{long}")))),
            _ => {
                for value in matches.get_raw(id).into_iter().flatten() {
                    let mut option = OsString::from(format!("--{long}="));
                    option.push(value);
                    typed.push(option);
                }
            }
        }
    }
    typed
}

/// Returns the jobs that a command line names by `--job`.
fn jobs_of(matches: &ArgMatches) -> Vec<&str> {
    let of_verb = matches.subcommand().map(|(_, of_verb)| of_verb);
    of_verb.map_or_else(Vec::new, |of_verb| texts_of(of_verb, "job"))
}

/// Returns the texts of an argument that a command may have.
fn texts_of<'a>(matches: &'a ArgMatches, id: &str) -> Vec<&'a str> {
    let texts = matches.try_get_many::<String>(id).ok().flatten();
    texts.into_iter().flatten().map(String::as_str).filter(|text| !text.is_empty()).collect()
}

/// Puts values in the place of earlier ones that say the same.
fn put(values: &mut Vec<Value>, newer: Vec<Value>) {
    let says_the_same = |one: &str, other: &str| {
        one == other || ALTERNATIVES.iter().any(|keys| keys.contains(&one) && keys.contains(&other))
    };
    values.retain(|known| newer.iter().all(|value| !says_the_same(&value.key, &known.key)));
    values.extend(newer);
}

/// Takes each value for a table.
fn tables(named: TomlTable) -> Fallible<BTreeMap<String, (WrittenAt, TomlTable)>> {
    let table = |(name, (written, item)): (String, (WrittenAt, TomlItem))| match item {
        TomlItem::Table(table) => Ok((name, (written, table))),
        other => Err(written.wrong(format!("{name} is a name here and takes a table, and this is {}", other.kind()))),
    };
    named.into_iter().map(table).collect()
}

fn take_text(table: &mut TomlTable, key: &str) -> Fallible<Option<(String, WrittenAt)>> {
    match table.remove(key) {
        None => Ok(None),
        Some((written, TomlItem::Text(text))) => Ok(Some((text, written))),
        Some((written, other)) => Err(written.wrong(format!("{key} takes one value, and this is {}", other.kind()))),
    }
}

/// Returns where the commands and hooks in a job's table are written, by their keys.
fn places_in(table: &TomlTable) -> BTreeMap<String, WrittenAt> {
    let mut places = BTreeMap::new();
    for key in [COMMANDS, HOOKS] {
        if let Some((_, TomlItem::Table(named))) = table.get(key) {
            places.extend(named.iter().map(|(name, (written, _))| (format!("{key}.{name}"), written.clone())));
        }
    }
    places
}

/// Reads streams: a name and the words of a command for each.
fn commands(written: &WrittenAt, item: TomlItem) -> Fallible<Vec<streams::Command>> {
    let TomlItem::Table(named) = item else {
        return Err(
            written.wrong("commands takes a table: a name for each stream, and the words of its command as a list")
        );
    };
    let command = |(name, (written, item)): (String, (WrittenAt, TomlItem))| {
        let arguments = words(&name, &written, item)?;
        Ok(streams::Command { name: name.into(), arguments })
    };
    named.into_iter().map(command).collect()
}

/// Reads the words of a command.
fn words(key: &str, written: &WrittenAt, item: TomlItem) -> Fallible<Vec<OsString>> {
    match item {
        TomlItem::Texts(words) if !words.is_empty() => Ok(words.into_iter().map(OsString::from).collect()),
        _ => Err(written
            .wrong(format!("{key} takes the words of a command as a list, such as [\"redis-cli\", \"--rdb\", \"-\"]"))),
    }
}

/// Reads hooks: the words of a command for each, and how long one may take.
fn hooks(written: &WrittenAt, item: TomlItem) -> Fallible<Hooks> {
    let TomlItem::Table(named) = item else {
        return Err(written
            .wrong("hooks takes a table: before, after, on-success, on-failure, each with the words of its command"));
    };
    let mut hooks = Hooks::default();
    for (key, (written, item)) in named {
        match (HookTime::ALL.into_iter().find(|time| time.name() == key), item) {
            (Some(time), item) => hooks.commands.push((time, words(&key, &written, item)?)),
            (None, TomlItem::Text(text)) if key == TIME_LIMIT => {
                hooks.time_limit = Some(duration(&text).map_err(|why| written.wrong(format!("{key}: {why}")))?);
            }
            _ => {
                let known = HookTime::ALL.map(HookTime::name).into_iter().chain([TIME_LIMIT]);
                return Err(unknown(&key, &written, known));
            }
        }
    }
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    const TEXT: &str = r#"
[options]
memory = "512MiB"
[repositories.archive]
location = "s3://hetzner-fsn1/shop"
connections = 8
[repositories.near]
location = "/srv/near"
[jobs.nightly]
repository = "archive"
paths = ["/etc", "/srv"]
exclude = "*.tmp"
one-file-system = true
memory = "1GiB"
[jobs.nightly.commands]
"redis.rdb" = ["redis-cli", "--rdb", "-"]
"#;

    fn told(text: &str) -> (String, Option<String>) {
        let failure = Configuration::of(&cli::command(), text).expect_err("wrong");
        (failure.told().join(": "), failure.hint().map(str::to_owned))
    }

    fn matches(arguments: &[&str]) -> ArgMatches {
        let line = [&["coffre"], arguments].concat();
        cli::command().try_get_matches_from(&line).expect("understood")
    }

    fn applied(arguments: &[&str]) -> (ArgMatches, Applied) {
        let config = Arc::new(Configuration::of(&cli::command(), TEXT).expect("right"));
        let applied = config.applied(&matches(arguments)).expect("no variable");
        let line = [&["coffre"], arguments].concat();
        let program = applied.onto(cli::command(), arguments[0]);
        (program.try_get_matches_from(&line).expect("understood"), applied)
    }

    #[test]
    fn a_job_says_what_its_options_would() {
        let (matches, applied) = applied(&["backup", "--job", "nightly", "--connections", "3"]);
        let of_job = matches.subcommand_matches("backup").expect("it is");
        let paths: Vec<_> = of_job.get_many::<PathBuf>("paths").expect("some").collect();
        assert_eq!(paths, [Path::new("/etc"), Path::new("/srv")]);
        assert!(of_job.get_flag("one_file_system"));
        assert_eq!(of_job.get_one::<crate::model::units::ByteSize>("memory").map(|it| it.0), Some(1 << 30));
        assert_eq!(of_job.get_one::<u16>("connections"), Some(&3), "an option comes before the files");
        assert_eq!(applied.location.expect("named").0, "s3://hetzner-fsn1/shop");
        assert_eq!(applied.commands.len(), 1);
    }

    #[test]
    fn a_repository_is_named_by_option_job_or_file() {
        let place = |arguments: &[&str]| applied(arguments).1.location.map(|(location, _)| location);
        assert_eq!(place(&["stats", "--repo", "near"]).as_deref(), Some("/srv/near"));
        assert_eq!(place(&["stats", "--repo", "/elsewhere"]), None);
        assert_eq!(place(&["stats"]), None, "two, of which none is meant");
        assert_eq!(place(&["stats", "--job", "nightly"]).as_deref(), Some("s3://hetzner-fsn1/shop"));
        assert_eq!(place(&["stats", "--job", "nightly", "--repo", "near"]).as_deref(), Some("/srv/near"));
        assert_eq!(place(&["stats", "--job", "of another host"]), None);
        assert_eq!(
            applied(&["stats"]).0.get_one::<crate::model::units::ByteSize>("memory").map(|it| it.0),
            Some(512 << 20)
        );
    }

    #[test]
    fn a_variable_says_no_other_repository_than_a_job() {
        let config = Configuration::of(&cli::command(), TEXT).expect("right");
        for same in ["archive", "s3://hetzner-fsn1/shop", "s3://Fsn1.your-objectstorage.com:443/shop/"] {
            assert!(config.check_variable(same, &["nightly"]).is_ok(), "{same}");
        }
        for other in ["near", "/srv/near", "s3://key:hunter2@host.example/b", "shop:"] {
            let failure = config.check_variable(other, &["nightly"]).expect_err(other);
            let told = failure.told().join(": ");
            let wanted =
                "/c.toml:10:1: job nightly backs up into archive (s3://hetzner-fsn1/shop), and COFFRE_REPO says ";
            assert!(told.starts_with(wanted) && !told.contains("hunter2"), "{told}");
        }
        assert!(config.check_variable("near", &[]).is_ok(), "only jobs are asked about");
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for (text, wanted) in [
            ("[jobs.x]\npostgres = \"postgresql://u:hunter2@db/x\"\n", "postgres: a URL with a password"),
            ("[jobs.x]\nmysql = [\"mysql://u@db/x?password=hunter2\"]\n", "mysql: a URL with a password"),
            ("[jobs.x]\npostgres = \"host=db password=hunter2\"\n", "postgres: a URL with a password"),
            ("[jobs.x]\npaths = \"https://u:hunter2@h/\"\n", "paths: a URL with a password"),
            ("[repositories.x]\nlocation = \"s3://key:hunter/2@host/b\"\n", "a location must not hold a user name"),
        ] {
            let (message, hint) = told(text);
            assert!(message.starts_with(&format!("/c.toml:2:1: {wanted}")), "{text}: {message}");
            assert!(!message.contains("hunter") && hint.is_none_or(|hint| hint.contains("env:NAME")), "{message}");
        }
        let text = "[jobs.x]\npostgres = \"env:URL\"\n[jobs.x.hooks]\nbefore = [\"curl\", \"https://u:hunter2@h/\"]\n";
        let rows = Configuration::of(&cli::command(), text).expect("right").rows();
        assert!(rows.iter().any(|row| row.value == "curl https://u:***@h/"), "{rows:?}");
    }

    #[test]
    fn what_is_not_known_is_told_with_what_is_like_it() {
        let (message, hint) = told("[options]\nmemery = \"1GiB\"\n");
        assert_eq!(message, "/c.toml:2:1: there is no key \"memery\" here");
        assert_eq!(hint.as_deref(), Some("\"memory\" is like it"));
        let (message, hint) = told("[job.x]\npaths = [\"/a\"]\n");
        assert_eq!(
            (message.as_str(), hint.as_deref()),
            ("/c.toml:1:2: there is no key \"job\" here", Some("\"jobs\" is like it"))
        );
        let (message, _) = told("[jobs.x]\nrepository = \"arhive\"\n[repositories.archive]\nlocation = \"/a\"\n");
        assert_eq!(message, "/c.toml:2:1: there is no repository \"arhive\" in the configuration");
        for (text, wanted) in [
            ("[jobs.x]\npaths = [\"etc\"]\n", "/c.toml:2:1: paths: \"etc\" does not begin with a slash"),
            ("[repositories.x]\nlocation = \"here\"\n", "/c.toml:2:1: \"here\" does not begin with a slash"),
            ("[repositories.x]\nmemory = \"1GiB\"\n", "/c.toml:1:15: the repository x has no location"),
            ("[options]\nmemory = [\"1GiB\"]\n", "/c.toml:2:1: memory takes one value, and this is a list"),
            ("[options]\nno-cache = \"yes\"\n", "/c.toml:2:1: no-cache takes true or false, and this is one value"),
            ("[jobs.x]\ndry-run = true\n", "/c.toml:2:1: there is no key \"dry-run\" here"),
            ("[jobs.x.hooks]\nbefor = [\"b\"]\n", "/c.toml:2:1: there is no key \"befor\" here"),
            ("[jobs.x.hooks]\nbefore = \"b\"\n", "/c.toml:2:1: before takes the words of a command as a list"),
            ("[jobs.x.hooks]\ntime-limit = \"soon\"\n", "/c.toml:2:1: time-limit: write for example 30s"),
            ("[jobs.x.forget]\nkeep-dayly = 2\n", "/c.toml:2:1: there is no key \"keep-dayly\" here"),
            ("[jobs.x.forget]\nevery = \"1d\"\n", "/c.toml:2:1: there is no key \"every\" here"),
            ("[jobs.x.forget]\nallow-empty = true\n", "/c.toml:2:1: there is no key \"allow-empty\" here"),
            ("[jobs.x]\nforget = 2\n", "/c.toml:2:1: forget takes a table"),
            ("[jobs.x.forget]\ntime-zone = \"UTC\"\n", "/c.toml:2:1: no rule beside it says what is to be kept"),
            ("[jobs.x.commands]\na = \"b\"\n", "/c.toml:2:1: a takes the words of a command as a list"),
        ] {
            assert!(told(text).0.starts_with(wanted), "{text}: {}", told(text).0);
        }
    }

    #[test]
    fn a_value_that_cannot_be_meant_is_told_with_its_place() {
        let config = Arc::new(Configuration::of(&cli::command(), "[options]\nmemory = \"much\"\n").expect("read"));
        let applied = config.applied(&matches(&["stats"])).expect("no variable");
        assert!(applied.onto(cli::command(), "stats").try_get_matches_from(["coffre", "stats"]).is_err());
        let failure = applied.at_fault(&cli::command(), "stats").expect("found");
        assert!(
            failure.told()[0].starts_with("/c.toml:2:1: invalid value 'much' for '--memory <SIZE>'"),
            "{failure:?}"
        );
    }

    #[test]
    fn later_files_count_key_by_key() {
        let program = cli::command();
        let mut config = Configuration::of(&program, TEXT).expect("right");
        let more = "[jobs.nightly]\nexclude = [\"*.bak\"]\n[repositories.near]\nconnections = 2\n";
        config.add(&program, file::parse(Path::new("/d.toml"), more).expect("right")).expect("added");
        let job = &config.jobs["nightly"];
        let exclude = job.values.iter().find(|value| value.key == "exclude").expect("there");
        assert_eq!(
            (exclude.texts.as_slice(), exclude.written.to_string()),
            (&["*.bak".to_owned()][..], "/d.toml:2:1".into())
        );
        assert!(job.values.iter().any(|value| value.key == "paths"));
        assert_eq!(config.repositories["near"].location, "/srv/near");
    }
}
