//! `coffre complete`: what could stand at the end of a command line, one candidate and its meaning a line.
//!
//! The scripts of `completions` call it while somebody types. So it asks nothing, says nothing about errors, and gives up
//! on a store after three seconds. Where nothing fits, a shell completes names of files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, Command};

use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::settings::Settings;
use crate::cli::{help, output, password, topics};
use crate::model::key::ObjectKind;
use crate::progress::Collected;
use crate::repository::Repository;
use crate::store::location::Location;
use crate::store::{OpenMode, OpenOptions, Store};

/// Seconds that somebody who types waits for a store.
const PATIENCE: u64 = 3;

/// Returns how long to wait: the usual time, or what the variable says.
fn patience(settings: &Settings) -> Duration {
    let seconds = settings.environment.var("COFFRE_COMPLETION_SECONDS").and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(PATIENCE))
}

/// Flags of `complete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The words behind the program's name; the last is being typed
    #[arg(last = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
    /// The whole line instead, as far as it is typed
    #[arg(long, conflicts_with = "words", allow_hyphen_values = true)]
    line: Option<String>,
}

/// What could stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum WantedWord {
    /// One of these words, each with its meaning.
    Words(Vec<(String, String)>),
    /// A snapshot.
    Snapshot,
    /// A host, job or tag of a snapshot.
    Label(&'static str),
    /// A file, or something that nobody can guess.
    Other,
}

/// Prints the candidates.
pub async fn run(settings: &Settings, mut program: Command, args: Args) -> Fallible<Exit> {
    program.build();
    let words = match args.line {
        Some(line) => split_line(&line),
        None => args.words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    let typed = words.last().cloned().unwrap_or_default();
    let (before, start) = match typed.split_once('=') {
        Some((option, start)) if option.starts_with("--") => (format!("{option}="), start),
        _ => (String::new(), typed.as_str()),
    };
    let found = match wanted(&program, &words) {
        WantedWord::Words(found) => found,
        WantedWord::Snapshot => tokio::time::timeout(patience(settings), snapshots(settings, &words))
            .await
            .ok()
            .flatten()
            .unwrap_or_default(),
        WantedWord::Label(kind) => tokio::time::timeout(patience(settings), labels(settings, &words, kind))
            .await
            .ok()
            .flatten()
            .unwrap_or_default(),
        WantedWord::Other => Vec::new(),
    };
    let fitting = found.into_iter().filter(|(value, _)| value.starts_with(start));
    let lines: Vec<String> = fitting.map(|(value, meaning)| format!("{before}{value}\t{meaning}\n")).collect();
    output::print(&lines.concat())
}

/// Splits a line at blanks and leaves the program's name away. What is quoted is rarely completed.
fn split_line(line: &str) -> Vec<String> {
    let mut words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
    if line.ends_with(char::is_whitespace) {
        words.push(String::new());
    }
    words
}

/// Finds out what the last word can be.
fn wanted(program: &Command, words: &[String]) -> WantedWord {
    let Some((typed, earlier)) = words.split_last() else { return WantedWord::Other };
    let mut verb: Option<&Command> = None;
    let mut expected: Option<&Arg> = None;
    let mut position = 0;
    for word in earlier {
        if word == "--" {
            return WantedWord::Other;
        }
        if expected.take().is_some() {
            continue;
        }
        let command = verb.unwrap_or(program);
        if word.starts_with('-') && word.len() > 1 {
            expected = option(command, word).filter(|option| !word.contains('=') && wants_value(option));
        } else if command.has_subcommands() {
            verb = command.get_subcommands().find(|known| known.get_name() == word);
            if verb.is_none() {
                return WantedWord::Other;
            }
        } else {
            position += 1;
        }
    }
    let command = verb.unwrap_or(program);
    if let Some(option) = expected {
        return values(option);
    }
    if let Some((name, _)) = typed.split_once('=').filter(|_| typed.starts_with("--")) {
        return option(command, name).map_or(WantedWord::Other, values);
    }
    if typed.starts_with('-') {
        return WantedWord::Words(options(command));
    }
    if command.has_subcommands() {
        let shown = command.get_subcommands().filter(|known| !known.is_hide_set());
        return WantedWord::Words(shown.map(|known| (known.get_name().to_owned(), about(known))).collect());
    }
    let positionals: Vec<&Arg> = command.get_positionals().collect();
    match positionals.get(position).or(positionals.last()) {
        Some(argument) if matches!(command.get_name(), "help" | "man") => commands(program, argument),
        Some(argument) => values(argument),
        None => WantedWord::Words(options(command)),
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// Finds the option that a word is, written long or short.
fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or_default();
    command.get_arguments().find(|argument| match name.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => argument.get_short().is_some_and(|short| name.ends_with(short)),
    })
}

/// Tells whether the next word belongs to an option. One whose value can be left out wants it behind an equals sign.
fn wants_value(option: &Arg) -> bool {
    option.get_action().takes_values() && option.get_num_args().is_none_or(|range| range.min_values() > 0)
}

/// Returns all options of a command, those of every command last.
fn options(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let (common, own): (Vec<&Arg>, Vec<&Arg>) = shown.partition(|argument| argument.is_global_set());
    let written = |argument: &&Arg| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        argument.get_long().map(|long| (format!("--{long}"), help))
    };
    own.iter().chain(&common).filter_map(written).collect()
}

/// Tells what an argument's value can be.
fn values(argument: &Arg) -> WantedWord {
    let possible = argument.get_possible_values();
    if !possible.is_empty() && argument.get_action().takes_values() {
        let words = possible.iter().map(|value| {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            (value.get_name().to_owned(), help)
        });
        return WantedWord::Words(words.collect());
    }
    match argument.get_id().as_str() {
        "snapshot" | "snapshots" | "earlier" | "later" | "parent" => WantedWord::Snapshot,
        "host" => WantedWord::Label("host"),
        "job" => WantedWord::Label("job"),
        "tag" => WantedWord::Label("tag"),
        _ => WantedWord::Other,
    }
}

/// Commands, and for `help` its topics.
fn commands(program: &Command, argument: &Arg) -> WantedWord {
    let shown = program.get_subcommands().filter(|known| !known.is_hide_set());
    let mut words: Vec<(String, String)> = shown.map(|known| (known.get_name().to_owned(), about(known))).collect();
    if argument.get_id() == help::ARGUMENT {
        words.extend(topics::TOPICS.iter().map(|(topic, about)| ((*topic).to_owned(), (*about).to_owned())));
    }
    WantedWord::Words(words)
}

/// Returns the location that the line or the environment names.
fn location(settings: &Settings, words: &[String]) -> Option<Location> {
    let after = |at: usize, word: &String| match word.strip_prefix("--repo=") {
        Some(location) => Some(location.to_owned()),
        None if word == "--repo" || word == "-r" => words.get(at + 1).cloned(),
        None => None,
    };
    let typed = words.iter().enumerate().find_map(|(at, word)| after(at, word));
    match typed {
        Some(text) => text.parse().ok(),
        None => settings.location().ok(),
    }
}

/// Opens the store at a location.
fn store(settings: &Settings, location: &Location) -> Option<Arc<dyn Store>> {
    let mut options = OpenOptions { mode: OpenMode::Read, ..OpenOptions::default() };
    if let Location::S3(bucket) = location {
        options.s3 = settings.s3_at_hand(bucket)?;
    }
    crate::store::open(location, &options, Arc::new(Collected::default())).ok()
}

/// Lists snapshots by the names of their objects, the newest first, without opening one: that takes no passphrase.
async fn snapshots(settings: &Settings, words: &[String]) -> Option<Vec<(String, String)>> {
    let listed = store(settings, &location(settings, words)?)?.list(ObjectKind::Snapshot.prefix()).await.ok()?;
    let mut ids: Vec<_> = listed.iter().filter_map(|object| object.key.snapshot_id()).collect();
    ids.sort();
    let latest = ("latest".to_owned(), "the newest".to_owned());
    let named = ids.iter().rev().map(|id| (id.short(), id.time().local()));
    Some(std::iter::once(latest).chain(named).collect())
}

/// Lists the hosts, jobs or tags of all snapshots, where a passphrase is at hand.
async fn labels(settings: &Settings, words: &[String], kind: &str) -> Option<Vec<(String, String)>> {
    let opener = password::at_hand(&settings.password)?;
    let location = location(settings, words)?;
    // What is opened for the first time is not remembered here, where nobody is told of it.
    let (expected, _) = settings.expected(&location);
    let store = store(settings, &location)?;
    let opened = Repository::open_expected(store, &opener, &expected, &settings.places).await.ok()?;
    let repository = Arc::new(opened.repository);
    let mut found = BTreeSet::new();
    for (_, snapshot) in repository.snapshots().await.ok()? {
        let Ok(snapshot) = snapshot else { continue };
        match kind {
            "host" => drop(found.insert(snapshot.host)),
            "job" => drop(found.insert(snapshot.job)),
            _ => found.extend(snapshot.tags),
        }
    }
    Some(found.into_iter().filter(|name| !name.is_empty()).map(|name| (name, String::new())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> WantedWord {
        let mut program = crate::cli::command();
        program.build();
        wanted(&program, &split_line(line))
    }

    fn names(wanted: WantedWord) -> Vec<String> {
        match wanted {
            WantedWord::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("no words: {other:?}"),
        }
    }

    #[test]
    fn verbs_come_first_and_options_only_when_asked_for() {
        let verbs = names(at("coffre "));
        assert_eq!(verbs[..3], ["init", "backup", "run"]);
        assert!(verbs.iter().all(|verb| !verb.starts_with('-') && verb != "complete"), "{verbs:?}");
        let options = names(at("coffre restore --t"));
        assert!(options[0] != "--repo" && options.contains(&"--target".into()) && options.contains(&"--repo".into()));
    }

    #[test]
    fn snapshots_and_labels_are_asked_for_where_they_belong() {
        for line in ["coffre restore ", "coffre -q --repo /r ls 3f", "coffre dump -v lat", "coffre backup --parent "] {
            assert_eq!(at(line), WantedWord::Snapshot, "{line}");
        }
        assert_eq!((at("coffre diff "), at("coffre diff latest ")), (WantedWord::Snapshot, WantedWord::Snapshot));
        assert_eq!(at("coffre snapshots --job "), WantedWord::Label("job"));
        assert_eq!(at("coffre snapshots --host=w"), WantedWord::Label("host"));
        for line in
            ["coffre backup /s", "coffre restore latest --target ", "coffre backup --command x -- ", "coffre wat "]
        {
            assert_eq!(at(line), WantedWord::Other, "{line}");
        }
        assert_eq!(names(at("coffre key ")), ["list", "add", "passwd", "remove", "revoke-writer"]);
        assert!(names(at("coffre key add --rec")).contains(&"--recovery-kit".into()));
        assert!(names(at("coffre completions ")).contains(&"fish".into()));
        assert!(names(at("coffre man ba")).contains(&"backup".into()));
        assert!(names(at("coffre help ")).contains(&"environment".into()));
    }
}
