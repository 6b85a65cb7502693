//! The command line: one file per verb with its flags and its rendering. Terminal, JSON and exit codes live here only.
//!
//! A verb's function opens what it needs through `connect`, calls its operation in [`crate::ops`], renders the report
//! and returns an `Exit`. Data goes to standard output, all else to standard error.

use std::ffi::OsString;
use std::sync::Arc;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::config::secret_files::check_secret_files;
use crate::cli::config::{Applied, Configuration};
use crate::cli::environment::Environment;
use crate::cli::failure::{Failure, Fallible};
use crate::cli::settings::Settings;

mod advice;
pub mod allocator;
mod anomalies;
mod arguments;
mod backup;
mod bucket_keys;
mod causes;
mod command_page;
mod complete;
mod completions;
mod config;
mod connect;
mod databases;
mod diff;
mod dump;
mod engines;
mod environment;
mod events;
mod exit;
mod failure;
mod find;
mod findings;
mod flags;
mod forget;
mod given_options;
mod help;
mod hold;
mod init;
mod key;
mod kit;
mod kit_restore;
mod lines;
mod ls;
mod manual;
mod mistakes;
mod ncdu;
mod on_record;
mod output;
mod page;
mod password;
mod paths_from;
mod progress;
mod prune;
mod question;
mod reach;
mod recovery_kit;
mod report;
mod restore;
mod restore_database;
mod restore_report;
mod run;
mod salvage;
mod schedule;
mod secret_command;
mod secret_file;
mod select;
mod settings;
mod signals;
mod snapshots;
mod stats;
mod status;
mod streams;
mod table;
mod to_directory;
mod topics;
mod verify;

pub use exit::Exit;
pub use flags::GlobalArgs;
#[cfg(feature = "internals")]
pub use output::{object, one_line, visible};

/// Encrypted, deduplicated backups into S3 buckets or a directory
#[derive(Debug, Parser)]
#[command(name = "coffre", version, propagate_version = true, disable_help_subcommand = true, after_help = after_help(), max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a repository
    Init(init::Args),
    /// Back up files, databases, standard input or the output of commands
    Backup(backup::Args),
    /// Back up what the jobs of the configuration say, one after the other
    Run(run::Args),
    /// Have systemd or cron run the jobs at their time
    Schedule(schedule::Args),
    /// Restore a snapshot, or a part of it, into a directory or a database server
    Restore(restore::Args),
    /// Check that everything is there and, with --read-data, that every byte is what it was
    Verify(verify::Args),
    /// Delete what no snapshot needs, beside running backups
    Prune(prune::Args),
    /// List snapshots
    Snapshots(snapshots::Args),
    /// List the entries of a snapshot
    Ls(ls::Args),
    /// Write a file or stream to standard output, or a directory as a tar archive
    Dump(dump::Args),
    /// Find entries by name in all snapshots
    Find(find::Args),
    /// Show what differs between two snapshots
    Diff(diff::Args),
    /// Show how much the repository holds and what it saves, or what snapshots hold
    Stats(stats::Args),
    /// Show whether backups and the work on a repository are as new as they should be
    Status(status::Args),
    /// Forget snapshots that no rule keeps, or that are named, and bring them back
    Forget(forget::Args),
    /// Hold snapshots, so that they are neither forgotten nor removed
    Hold(hold::Args),
    /// Print a recovery kit with the commands for what is stored, or try one
    Kit(kit::Args),
    /// List, add, change and remove passphrases, and keys of hosts
    Key(key::Args),
    /// Show and try the configuration, or print an example
    Config(config::command::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print the manual page of coffre, or of one of its commands
    Man(manual::Args),
    /// Show the help of a command, or about variables, locations and words
    Help(help::Args),
    /// Print what could stand at the end of a command line
    #[command(hide = true)]
    Complete(complete::Args),
}

/// Returns the program as clap knows it, the help of each command ending with where the rest is told.
pub fn command() -> Command {
    Cli::command().mut_subcommands(|verb| {
        let told = verb.get_after_help().map(|told| format!("{told}\n\n")).unwrap_or_default();
        verb.after_help(format!("{told}{}", command_page::ELSEWHERE))
    })
}

/// Runs the program with `arguments`, the first of which is its name, and returns the exit code.
///
/// Must be called inside a tokio runtime with more than one thread.
pub async fn run(arguments: Vec<OsString>) -> Exit {
    let json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    let (arguments, commands) = match streams::split(arguments) {
        Ok(split) => split,
        Err(message) => {
            let error = command().error(clap::error::ErrorKind::WrongNumberOfValues, message);
            return mistakes::print(&error, json);
        }
    };
    let environment = Environment::of_process();
    let understood = match understand(&arguments, &environment) {
        Ok(understood) => understood,
        Err(not_understood) => {
            let exit = match &not_understood {
                NotUnderstood::Typed(error) => mistakes::print(error, json),
                NotUnderstood::Configured(failure) => report::print(failure, json),
            };
            if exit != Exit::Done {
                run::failed_to_begin(&arguments, &environment, &not_understood.into_failure()).await;
            }
            return exit;
        }
    };
    let Understood { cli: Cli { global, verb }, mut configured } = understood;
    let commands = if commands.is_empty() { std::mem::take(&mut configured.commands) } else { commands };
    let only_shows = verb.only_shows();
    let done = match Settings::resolve(global, environment.clone(), configured) {
        Ok(settings) => {
            let done = dispatch(&settings, verb, commands).await;
            settings.end_showing();
            done
        }
        Err(failure) => {
            run::failed_to_begin(&arguments, &environment, &failure).await;
            Err(failure)
        }
    };
    let exit = match done {
        Ok(exit) => exit,
        Err(failure) => report::print(&failure, json),
    };
    output::ending(exit, only_shows)
}

/// A command line, with what the configuration says for it.
struct Understood {
    cli: Cli,
    configured: Applied,
}

/// Why a command line cannot be understood.
enum NotUnderstood {
    /// By what was typed.
    Typed(Box<clap::Error>),
    /// By what the configuration says.
    Configured(Failure),
}

impl From<clap::Error> for NotUnderstood {
    fn from(error: clap::Error) -> Self {
        Self::Typed(Box::new(error))
    }
}

impl From<Failure> for NotUnderstood {
    fn from(failure: Failure) -> Self {
        Self::Configured(failure)
    }
}

impl NotUnderstood {
    /// Returns it as an error of a verb.
    fn into_failure(self) -> Failure {
        match self {
            Self::Typed(error) => mistakes::failure(&error),
            Self::Configured(failure) => failure,
        }
    }
}

/// Reads a command line, first without the configuration, which it may name, and then with what that says.
fn understand(arguments: &[OsString], environment: &Environment) -> Result<Understood, NotUnderstood> {
    let program = command();
    let matches = program.clone().try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let asked = cli.global.config.as_deref().filter(|path| !path.as_os_str().is_empty());
    let config = match &cli.verb {
        Verb::Completions(_) | Verb::Man(_) | Verb::Help(_) => Configuration::default(),
        Verb::Config(args) if !args.reads_files() => Configuration::default(),
        Verb::Schedule(args) if args.only_removes() => Configuration::default(),
        // Whoever types hears of it when the line is done.
        Verb::Complete(_) => Configuration::load(&program, asked, environment).unwrap_or_default(),
        _ => Configuration::load(&program, asked, environment)?,
    };
    // Nobody is kept from restoring by what a file lets others do.
    if matches!(cli.verb, Verb::Backup(_) | Verb::Run(_) | Verb::Schedule(_) | Verb::Config(_)) {
        check_secret_files(&config, environment)?;
    }
    completed(program, arguments, matches, &Arc::new(config))
}

/// Reads a command line with what a configuration says for it.
fn understand_with(arguments: &[OsString], config: &Arc<Configuration>) -> Result<Understood, NotUnderstood> {
    let program = command();
    let matches = program.clone().try_get_matches_from(arguments)?;
    completed(program, arguments, matches, config)
}

/// Reads a command line that nobody typed, and resolves what it and a configuration say: the settings, the command, and the streams of the job.
fn settled(
    line: &[OsString],
    config: &Arc<Configuration>,
    environment: &Environment,
) -> Fallible<(Settings, Verb, Vec<streams::Command>)> {
    let understood = understand_with(line, config).map_err(NotUnderstood::into_failure)?;
    let Understood { cli: Cli { global, verb }, mut configured } = understood;
    let commands = std::mem::take(&mut configured.commands);
    Ok((Settings::resolve(global, environment.clone(), configured)?, verb, commands))
}

/// Completes what was typed by what a configuration says for it.
fn completed(
    program: Command,
    arguments: &[OsString],
    mut matches: ArgMatches,
    config: &Arc<Configuration>,
) -> Result<Understood, NotUnderstood> {
    let mut configured = config.applied(&matches)?;
    configured.typed = config::typed(&program, &matches);
    if configured.says_anything() {
        let verb = matches.subcommand_name().unwrap_or_default().to_owned();
        matches = match configured.onto(program.clone(), &verb).try_get_matches_from(arguments) {
            Ok(matches) => matches,
            Err(error) => match configured.at_fault(&program, &verb) {
                Some(failure) => return Err(failure.into()),
                None => return Err(error.into()),
            },
        };
    }
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.global.note_sources(&matches);
    Ok(Understood { cli, configured })
}

impl Verb {
    /// Tells whether what it prints is all that it does.
    fn only_shows(&self) -> bool {
        match self {
            Verb::Key(args) => args.only_shows(),
            Verb::Prune(args) => args.only_shows(),
            Verb::Hold(args) => args.only_shows(),
            Verb::Schedule(args) => args.only_shows(),
            Verb::Init(_) | Verb::Backup(_) | Verb::Run(_) | Verb::Restore(_) => false,
            Verb::Verify(_) | Verb::Forget(_) => false,
            Verb::Dump(args) => !args.has_target(),
            Verb::Snapshots(_) | Verb::Ls(_) | Verb::Find(_) | Verb::Diff(_) | Verb::Stats(_) | Verb::Status(_) => true,
            Verb::Kit(_)
            | Verb::Config(_)
            | Verb::Completions(_)
            | Verb::Man(_)
            | Verb::Help(_)
            | Verb::Complete(_) => true,
        }
    }
}

async fn dispatch(global: &Settings, verb: Verb, commands: Vec<streams::Command>) -> Fallible<Exit> {
    match verb {
        Verb::Init(args) => init::run(global, args).await,
        Verb::Backup(args) => backup::run(global, args, commands).await,
        Verb::Run(args) => run::run(global, args).await,
        Verb::Schedule(args) => schedule::run(global, args).await,
        Verb::Restore(args) => restore::run(global, args).await,
        Verb::Verify(args) => verify::run(global, args).await,
        Verb::Prune(args) => prune::run(global, args).await,
        Verb::Snapshots(args) => snapshots::run(global, args).await,
        Verb::Ls(args) => ls::run(global, args).await,
        Verb::Dump(args) => dump::run(global, args).await,
        Verb::Find(args) => find::run(global, args).await,
        Verb::Diff(args) => diff::run(global, args).await,
        Verb::Stats(args) => stats::run(global, args).await,
        Verb::Status(args) => status::run(global, args).await,
        Verb::Forget(args) => forget::run(global, args).await,
        Verb::Hold(args) => hold::run(global, args).await,
        Verb::Kit(args) => kit::run(global, args).await,
        Verb::Key(args) => key::run(global, args).await,
        Verb::Config(args) => config::command::run(global, args).await,
        Verb::Completions(args) => completions::run(command(), &args),
        Verb::Man(args) => manual::run(command(), &args),
        Verb::Help(args) => help::run(command(), &args),
        Verb::Complete(args) => complete::run(global, command(), args).await,
    }
}

fn after_help() -> String {
    format!("{}\n\n{}", help::after_help(), exit::HELP)
}
