//! Keys: the options of the command line, by their long names. What an option takes, its key takes.

use clap::{Arg, ArgAction, Command};

use crate::cli::config::file::{TomlItem, TomlTable, WrittenAt};
use crate::cli::config::secrets::refuse_passwords;
use crate::cli::failure::{Failure, Fallible};

/// Options that are said once on the command line and make no sense in a file.
const NOT_IN_FILES: [&str; 6] = ["repo", "config", "json", "help", "version", "state-dir"];
/// Options of `backup` that belong to one run, or have another form in files.
const NOT_OF_JOBS: [&str; 8] =
    ["stdin", "stdin-name", "command", "job", "time", "dry-run", "parent", "accept-anomalies"];
/// Options of `run` that belong to one run.
const NOT_OF_RUNS: [&str; 2] = ["names", "accept-anomalies"];
/// Options of other commands that belong to one run.
const NOT_OF_VERBS: [&str; 4] = ["dry-run", "undo", "accept-missing-records", "give-up"];
/// The key of what has no long name: the paths of `backup`.
pub(super) const PATHS: &str = "paths";

/// Where keys may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyPlace {
    /// Anywhere: options of every command.
    Everywhere,
    /// In jobs: options of `backup` as well.
    Job,
    /// Of runs: options of `run` alone.
    Run,
    /// In the table of a command: its own options alone.
    Verb(&'static str),
}

/// Returns the arguments that may stand in a place.
pub(super) fn arguments(program: &Command, place: KeyPlace) -> Vec<Arg> {
    let global = program.get_arguments().filter(|argument| argument.is_global_set());
    let of_every = global.filter(|argument| name(argument).is_some_and(|name| !NOT_IN_FILES.contains(&name)));
    match place {
        KeyPlace::Everywhere => of_every.cloned().collect(),
        KeyPlace::Job => of_every.cloned().chain(own(program, "backup", &NOT_OF_JOBS)).collect(),
        KeyPlace::Run => own(program, "run", &NOT_OF_RUNS),
        KeyPlace::Verb(verb) => own(program, verb, &NOT_OF_VERBS),
    }
}

/// Returns the arguments that a command has of its own and that may stand in a file.
fn own(program: &Command, verb: &str, left_out: &[&str]) -> Vec<Arg> {
    let verb = program.find_subcommand(verb).expect("there is such a command");
    let own = verb.get_arguments().filter(|argument| !argument.is_global_set());
    let is_key =
        |argument: &&Arg| name(argument).is_some_and(|name| !left_out.contains(&name) && !NOT_IN_FILES.contains(&name));
    own.filter(is_key).cloned().collect()
}

/// Returns the key of an argument.
pub(super) fn name(argument: &Arg) -> Option<&str> {
    argument.get_long().or_else(|| (argument.get_id() == PATHS).then_some(PATHS))
}

/// Returns the help of an argument as one line.
pub(super) fn help(argument: &Arg) -> String {
    argument.get_help().map(|help| help.to_string().replace('\n', " ")).unwrap_or_default()
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// True or false.
    Bool,
    /// One value.
    One,
    /// One value or a list.
    Several,
}

/// Returns what the key of an argument takes.
pub(super) fn takes(argument: &Arg) -> Takes {
    match argument.get_action() {
        ArgAction::SetTrue => Takes::Bool,
        ArgAction::Append => Takes::Several,
        _ if argument.get_num_args().is_some_and(|range| range.max_values() > 1) => Takes::Several,
        _ => Takes::One,
    }
}

/// Tells whether an argument names a file or a directory.
pub(super) fn is_path(argument: &Arg) -> bool {
    let named = argument.get_value_names().unwrap_or_default().iter();
    argument.get_id() == PATHS || named.into_iter().any(|name| matches!(name.as_str(), "FILE" | "DIR"))
}

/// What a file says of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// The argument's name in the program.
    pub(super) id: String,
    /// Its key.
    pub(super) key: String,
    /// What would be typed behind it.
    pub(super) texts: Vec<String>,
    /// Where it is written.
    pub(super) written: WrittenAt,
}

/// Takes a table for options that may stand in `place`.
///
/// # Errors
/// One for the user, when a key is not known or takes something else.
pub(super) fn values(program: &Command, place: KeyPlace, table: &TomlTable) -> Fallible<Vec<Value>> {
    let arguments = arguments(program, place);
    table.iter().map(|(key, (written, item))| value(&arguments, key, written, item)).collect()
}

fn value(arguments: &[Arg], key: &str, written: &WrittenAt, item: &TomlItem) -> Fallible<Value> {
    let Some(argument) = arguments.iter().find(|argument| name(argument) == Some(key)) else {
        return Err(unknown(key, written, arguments.iter().filter_map(name)));
    };
    let wrong = |wanted: &str| written.wrong(format!("{key} takes {wanted}, and this is {}", item.kind()));
    let texts = match (takes(argument), item) {
        (Takes::Bool, TomlItem::Bool(yes)) => vec![yes.to_string()],
        (Takes::Bool, _) => return Err(wrong("true or false")),
        (Takes::One | Takes::Several, TomlItem::Text(text)) => vec![text.clone()],
        (Takes::Several, TomlItem::Texts(texts)) => texts.clone(),
        (Takes::One, _) => return Err(wrong("one value")),
        (Takes::Several, _) => return Err(wrong("one value or a list")),
    };
    refuse_passwords(key, written, &texts)?;
    if is_path(argument)
        && let Some(relative) = texts.iter().find(|text| !text.starts_with('/'))
    {
        let why = "there is no directory that a path in a configuration is relative to";
        return Err(written.wrong(format!("{key}: {relative:?} does not begin with a slash: {why}")));
    }
    Ok(Value { id: argument.get_id().to_string(), key: key.to_owned(), texts, written: written.clone() })
}

/// Makes the error that a key which nobody knows is.
pub(super) fn unknown<'k>(key: &str, written: &WrittenAt, known: impl Iterator<Item = &'k str>) -> Failure {
    let nearest = nearest(key, known);
    let failure = written.wrong(format!("there is no key {key:?} here"));
    match nearest {
        Some(nearest) => failure.hinting(format!("{nearest:?} is like it")),
        None => failure.hinting("`coffre config example` shows what there is"),
    }
}

/// Returns the word that is most like another one, if it may be meant.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let far = |one: &str| strsim::osa_distance(&plain(one), &plain(word));
    let likely = known.map(|one| (far(one), one)).min();
    likely.filter(|(far, one)| *far <= (one.len().max(word.len()) / 3).max(1)).map(|(_, one)| one)
}
