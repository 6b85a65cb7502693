//! Flags that engines of databases have: made from what is known of them, so that an engine that is added has its flags.
//!
//! For each engine `backup` has `--NAME PLACE`, as often as wanted, and flags that only this engine understands; `restore` has
//! `--into-NAME PLACE`, one of all.

use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::engine::dump::{Flag, FlagKind, FlagValues};
use crate::engine::place::Places;
use crate::engine::{Engine, Engines};
use crate::model::units::ByteSize;

/// What is written after a flag that names a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceWritten {
    /// A URL, or `env:NAME`.
    Url(String),
    /// A file.
    File(PathBuf),
}

/// Places that were named to be dumped, by engine.
#[derive(Debug, Clone, Default)]
pub struct DumpPlaces(Vec<(Arc<dyn Engine>, Vec<PlaceWritten>)>);

impl DumpPlaces {
    /// Returns every engine with what was named.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<dyn Engine>, &[PlaceWritten])> {
        self.0.iter().map(|(engine, written)| (engine, written.as_slice()))
    }
}

impl Args for DumpPlaces {
    fn augment_args(command: Command) -> Command {
        Engines::default().iter().fold(command, |command, engine| {
            let flag = place(engine, engine.name().to_owned()).help(engine.words().dump_help);
            command.arg(flag.action(ArgAction::Append))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DumpPlaces {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let engines = Engines::default();
        Ok(Self(engines.iter().map(|engine| (engine.clone(), written(matches, engine, engine.name()))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What was said by flags that only one engine understands.
#[derive(Debug, Clone, Default)]
pub struct EngineFlags(pub FlagValues);

impl Args for EngineFlags {
    fn augment_args(command: Command) -> Command {
        Engines::default()
            .iter()
            .flat_map(|engine| engine.flags())
            .fold(command, |command, flag| command.arg(own(flag)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for EngineFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut values = FlagValues::default();
        for flag in Engines::default().iter().flat_map(|engine| engine.flags()) {
            match flag.kind {
                FlagKind::Switch if matches.get_flag(flag.name) => values.switch_on(flag.name),
                FlagKind::Switch => {}
                FlagKind::Size { .. } => {
                    if let Some(size) = matches.get_one::<ByteSize>(flag.name) {
                        values.set_size(flag.name, size.0);
                    }
                }
            }
        }
        Ok(Self(values))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The place that was named to restore into.
#[derive(Debug, Clone, Default)]
pub struct IntoPlace(pub Option<(Arc<dyn Engine>, PlaceWritten)>);

/// Returns the flag that names a place to restore into, without its dashes.
fn into_flag(engine: &dyn Engine) -> String {
    format!("into-{}", engine.name())
}

/// Returns the flags that name a place to restore into, each with what is written after it.
pub fn into_flags() -> Vec<String> {
    let flag = |engine: &Arc<dyn Engine>| format!("--{} {}", into_flag(&**engine), value_name(&**engine));
    Engines::default().iter().map(flag).collect()
}

/// Returns what is written after a flag that names a place, as help calls it.
fn value_name(engine: &dyn Engine) -> &'static str {
    match engine.places() {
        Places::Urls(_) => "URL",
        Places::Files => "FILE",
    }
}

impl Args for IntoPlace {
    fn augment_args(command: Command) -> Command {
        let mut earlier: Vec<String> = Vec::new();
        Engines::default().iter().fold(command, |command, engine| {
            let name = into_flag(&**engine);
            let flag = place(engine, name.clone()).help(engine.words().restore_help);
            let flag = flag.conflicts_with_all(&earlier).conflicts_with_all(FILE_FLAGS).conflicts_with(TO_DIRECTORY);
            earlier.push(name);
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for IntoPlace {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let engines = Engines::default();
        let named = |engine: &Arc<dyn Engine>| {
            let place = written(matches, engine, &into_flag(&**engine)).pop()?;
            Some((engine.clone(), place))
        };
        Ok(Self(engines.iter().find_map(named)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of `restore` that names a directory for dumps.
const TO_DIRECTORY: &str = "to_directory";

/// Flags of `restore` that only mean something for files.
pub const FILE_FLAGS: [&str; 14] = [
    "target",
    "include",
    "exclude",
    "delete",
    "yes",
    "dry_run",
    "numeric_ids",
    "sparse",
    "trust_times",
    "iinclude",
    "include_file",
    "iexclude",
    "exclude_file",
    "overwrite",
];

/// Makes a flag that names a place of an engine.
fn place(engine: &Arc<dyn Engine>, name: String) -> Arg {
    let parser: ValueParser = match engine.places() {
        Places::Urls(_) => value_parser!(String),
        Places::Files => value_parser!(PathBuf),
    };
    Arg::new(name.clone()).long(name).value_name(value_name(&**engine)).value_parser(parser)
}

/// Makes a flag that only one engine understands.
fn own(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
    match flag.kind {
        FlagKind::Switch => arg.action(ArgAction::SetTrue),
        FlagKind::Size { default } => {
            arg.value_name("SIZE").default_value(default).value_parser(value_parser!(ByteSize))
        }
    }
}

/// Returns what was written after a flag that names places.
fn written(matches: &ArgMatches, engine: &Arc<dyn Engine>, name: &str) -> Vec<PlaceWritten> {
    match engine.places() {
        Places::Urls(_) => {
            matches.get_many::<String>(name).into_iter().flatten().cloned().map(PlaceWritten::Url).collect()
        }
        Places::Files => {
            matches.get_many::<PathBuf>(name).into_iter().flatten().cloned().map(PlaceWritten::File).collect()
        }
    }
}

/// Writes a choice: `a, b or c`.
pub fn or(words: &[String]) -> String {
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_its_flags() {
        let backup = EngineFlags::augment_args(DumpPlaces::augment_args(Command::new("backup")));
        // Flags that conflict must be there.
        let others = FILE_FLAGS.into_iter().chain([TO_DIRECTORY]).map(|name| Arg::new(name).long(name));
        let restore = IntoPlace::augment_args(Command::new("restore").args(others));
        for engine in Engines::default().iter() {
            let value = match engine.places() {
                Places::Urls(kind) => format!("{}://h/a", kind.schemes[0]),
                Places::Files => "file".to_owned(),
            };
            let name = engine.name();
            let line = ["backup".to_owned(), format!("--{name}"), value.clone(), format!("--{name}"), value.clone()];
            let matches = backup.clone().try_get_matches_from(line).expect("known");
            let named = DumpPlaces::from_arg_matches(&matches).expect("read");
            let counts: Vec<_> = named.iter().map(|(engine, written)| (engine.name(), written.len())).collect();
            assert!(counts.iter().all(|(other, count)| *count == if *other == name { 2 } else { 0 }), "{counts:?}");
            for flag in engine.flags().iter().filter(|flag| flag.kind == FlagKind::Switch) {
                let matches = backup.clone().try_get_matches_from(["backup".to_owned(), format!("--{}", flag.name)]);
                let EngineFlags(values) = EngineFlags::from_arg_matches(&matches.expect("known")).expect("read");
                assert!(values.is_on(flag.name));
            }
            let line = ["restore".to_owned(), format!("--{}", into_flag(&**engine)), value];
            let matches = restore.clone().try_get_matches_from(line).expect("known");
            let IntoPlace(place) = IntoPlace::from_arg_matches(&matches).expect("read");
            assert_eq!(place.map(|(engine, _)| engine.name()), Some(name));
        }
    }

    #[test]
    fn a_choice_is_written_with_one_or() {
        let words = |words: &[&str]| or(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            (words(&["a"]), words(&["a", "b"]), words(&["a", "b", "c"])),
            ("a".into(), "a or b".into(), "a, b or c".into())
        );
    }
}
