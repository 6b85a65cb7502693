//! Tables of a repository that are named like commands: what these do to it, and how often `coffre run` does them.
//!
//! Their keys are the options of the command, like those of a job. So what `coffre run` does is what somebody who types the command
//! gets, who may add `--dry-run` to see it.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::cli::config::file::{TomlItem, TomlTable, WrittenAt};
use crate::cli::config::keys::{self, KeyPlace, Value};
use crate::cli::config::{put, take_text};
use crate::cli::failure::Fallible;
use crate::cli::flags::days;
use crate::model::due::Every;

/// Says how often a command is to be done.
pub(super) const EVERY: &str = "every";
/// Commands that have a table, in the order in which `coffre run` does them; the last is done by whoever asks.
pub(super) const VERBS: [&str; 4] = ["forget", "prune", "verify", "status"];
/// Those that are done every so often.
pub(super) const DONE: [&str; 3] = ["forget", "prune", "verify"];
/// The command of which jobs may have rules of their own.
pub(super) const FORGET: &str = "forget";
/// How the options of `forget` begin that say what stays.
const RULE: &str = "keep-";
/// The option of `forget` that says where days begin.
pub(super) const TIME_ZONE: &str = "time-zone";
/// Arguments of `forget` that say what goes in another way than rules.
const OTHER_WAYS: [&str; 3] = ["snapshots", "undo", "accept_missing_records"];

/// What a repository's table says of one command.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfiguredVerb {
    /// How often it is to be done, and where that is said.
    pub(super) every: Option<(Every, WrittenAt)>,
    /// Its options.
    pub(super) values: Vec<Value>,
}

/// Takes the tables of commands out of a repository's.
///
/// # Errors
/// One for the user, with its place.
pub(super) fn take(program: &Command, table: &mut TomlTable) -> Fallible<BTreeMap<&'static str, ConfiguredVerb>> {
    let mut verbs = BTreeMap::new();
    for verb in VERBS {
        let Some((written, item)) = table.remove(verb) else { continue };
        let TomlItem::Table(mut table) = item else {
            let example = if DONE.contains(&verb) { "every = \"1d\"" } else { "max-age = \"26h\"" };
            return Err(written.wrong(format!("{verb} takes a table, such as {{ {example} }}")));
        };
        let every = if DONE.contains(&verb) { take_text(&mut table, EVERY)? } else { None };
        let every = every.map(|(text, written)| match days(&text) {
            Ok(every) if !every.is_zero() => Ok((Every(every), written)),
            Ok(_) => Err(written.wrong(format!("{EVERY}: that is no time"))),
            Err(why) => Err(written.wrong(format!("{EVERY}: {why}"))),
        });
        let values = keys::values(program, KeyPlace::Verb(verb), &table)?;
        verbs.insert(verb, ConfiguredVerb { every: every.transpose()?, values });
    }
    Ok(verbs)
}

/// Tells whether a job may have an option of `forget` of its own.
pub(super) fn is_of_jobs(key: &str) -> bool {
    key.starts_with(RULE) || key == TIME_ZONE
}

/// Takes what is to be kept of a job out of its table.
///
/// # Errors
/// One for the user, with its place.
pub(super) fn take_rules(program: &Command, table: &mut TomlTable) -> Fallible<Vec<Value>> {
    let Some((written, item)) = table.remove(FORGET) else { return Ok(Vec::new()) };
    let TomlItem::Table(table) = item else {
        return Err(written.wrong("forget takes a table, such as { keep-daily = 7 }"));
    };
    let place = KeyPlace::Verb(FORGET);
    if let Some((key, (written, _))) = table.iter().find(|(key, _)| !is_of_jobs(key)) {
        let arguments = keys::arguments(program, place);
        let known = arguments.iter().filter_map(keys::name).filter(|key| is_of_jobs(key));
        return Err(keys::unknown(key, written, known));
    }
    let values = keys::values(program, place, &table)?;
    match values.first() {
        Some(first) if !values.iter().any(|value| value.key.starts_with(RULE)) => {
            let failure = first.written.wrong("no rule beside it says what is to be kept");
            Err(failure.hinting("add one such as keep-daily = 7"))
        }
        _ => Ok(values),
    }
}

impl ConfiguredVerb {
    /// Takes what a later file says in the place of what this one does.
    pub(super) fn update(&mut self, later: Self) {
        self.every = later.every.or(self.every.take());
        put(&mut self.values, later.values);
    }

    /// Makes sure that it can be done every so often.
    pub(super) fn check(&self, verb: &str) -> Fallible<()> {
        let has_rule = self.values.iter().any(|value| value.key.starts_with(RULE));
        match &self.every {
            Some((_, written)) if verb == "forget" && !has_rule => {
                let failure = written.wrong("no rule beside it says what is to be kept");
                Err(failure.hinting("add one such as keep-daily = 7"))
            }
            _ => Ok(()),
        }
    }
}

/// Tells whether a command line leaves to the table of its command what that says: `forget` does where it names no snapshots and no
/// rule of its own.
pub(super) fn leaves_it_to_the_table(verb: &str, matches: &ArgMatches) -> bool {
    let is_typed = |id: &clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    let is_other_way = |id: &clap::Id| OTHER_WAYS.contains(&id.as_str()) || id.as_str().starts_with("keep_");
    verb != FORGET || !matches.ids().any(|id| is_other_way(id) && is_typed(id))
}
