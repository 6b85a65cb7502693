//! A command line that cannot be understood: what is wrong with it and what to try, in the form of every other error.
//!
//! The words are clap's, but where it would only name a placeholder: what a command needs, and what commands of other programs
//! are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Failure;
use crate::cli::report;
use crate::model::outcome::Outcome;

/// Commands of other programs: their name, and what there is in place of them.
const ELSEWHERE: [(&[&str], &str); 19] = [
    (&["check", "fsck", "test", "audit"], "it is called `coffre verify`; with --read-data it reads every byte"),
    (&["list", "snapshot", "archives"], "`coffre snapshots` lists snapshots, `coffre ls SNAPSHOT` what is in one"),
    (
        &["cat", "extract", "get", "export"],
        "`coffre dump SNAPSHOT:PATH` writes a file, `coffre restore` puts back a whole tree",
    ),
    (&["create", "save", "snap", "put", "add"], "it is called `coffre backup`"),
    (&["compare"], "it is called `coffre diff`"),
    (&["search", "locate"], "it is called `coffre find`"),
    (&["info", "du", "size"], "it is called `coffre stats`"),
    (&["unlock", "break-lock", "lock"], "there are no locks: nothing needs to be broken"),
    (&["cache"], "the cache may be removed at any time; --cache-dir says where it is"),
    (&["generate"], "`coffre completions SHELL` and `coffre man` print what it would write"),
    (&["version"], "it is `coffre --version`"),
    (&["self-update", "update", "upgrade"], "coffre comes as a package and does not change itself"),
    (&["gc", "compact", "cleanup"], "it is called `coffre prune`"),
    (&["delete", "rm"], "`coffre forget` forgets snapshots; removing them comes with a later version"),
    (&["copy", "sync", "replicate", "mirror"], "copying between repositories comes with a later version"),
    (
        &["mount", "umount", "webdav"],
        "mounting comes with a later version; `coffre ls`, `find` and `dump` look into snapshots",
    ),
    (
        &["keys", "passwd", "password", "change-passphrase"],
        "`coffre key` lists, adds, changes and removes passphrases and keys",
    ),
    (
        &["tag", "rewrite", "recreate", "rename"],
        "changing snapshots comes with a later version; `coffre backup --tag` sets tags",
    ),
    (
        &["repair", "rebuild-index", "recover", "migrate", "debug"],
        "`coffre verify` tells what is damaged, `coffre restore` gives back all that is whole; repairing comes with a later version",
    ),
];

/// Commands that need something: the command, what it asks for, and how it is typed.
const NEEDED: [(&str, &str, &str); 6] = [
    (
        "restore",
        "what is to be restored? Name a snapshot, and where to",
        "`coffre restore latest --target DIR`, or `coffre restore latest --into-postgres URL`; `coffre snapshots` lists what \
         there is",
    ),
    ("ls", "of which snapshot?", "`coffre ls latest`; `coffre snapshots` lists what there is"),
    (
        "dump",
        "which file, stream or directory is to be written?",
        "`coffre dump latest:PATH`; `coffre ls -R latest` lists what there is",
    ),
    ("find", "what is to be found?", "`coffre find NAME`, or a pattern such as `coffre find '*.conf'`"),
    (
        "diff",
        "which two snapshots are to be compared?",
        "`coffre diff EARLIER LATER`; `coffre snapshots` lists what there is",
    ),
    (
        "completions",
        "for which shell?",
        "`coffre completions bash`, `coffre completions zsh` or `coffre completions fish`",
    ),
];

/// Prints why a command line cannot be understood, or the help that it asked for.
pub fn print(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        // Help and version are output like any other.
        return if error.use_stderr() { Exit::Usage } else { Exit::Done };
    }
    let (message, hint) = told(error);
    report::print_parts(&[message], hint.as_deref(), Outcome::Usage, json)
}

/// Makes the failure that a line which cannot be understood is.
pub fn failure(error: &clap::Error) -> Failure {
    let (message, hint) = told(error);
    let failure = usage(message);
    match hint {
        Some(hint) => failure.hinting(hint),
        None => failure,
    }
}

/// Says what is wrong and what to try.
fn told(error: &clap::Error) -> (String, Option<String>) {
    if let Some((name, instead)) = unknown_command(error).and_then(|name| Some((name, in_place_of(name)?))) {
        return (format!("there is no command `{name}`"), Some(instead.to_owned()));
    }
    if error.kind() == ErrorKind::MissingSubcommand {
        return ("which command?".into(), Some("`coffre help` lists them".into()));
    }
    let command = command_meant(error);
    if let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
        && error.kind() == ErrorKind::MissingRequiredArgument
    {
        let needed = NEEDED.iter().find(|(name, ..)| Some(*name) == command.as_deref());
        match needed.filter(|_| missing.iter().all(|argument| argument.starts_with('<'))) {
            Some((_, question, typed)) => return ((*question).to_owned(), Some((*typed).to_owned())),
            None => return (format!("what is given needs {} as well", missing.join(" and ")), None),
        }
    }
    let (message, tips) = in_words(&error.render().to_string());
    let tips = tips.filter(|_| !is_far_fetched(error));
    (message, tips.or_else(|| command.map(|command| format!("`coffre {command} --help` tells what it takes"))))
}

/// Returns whether the flag that an error suggests is not what a slip of the fingers makes of the one that was typed.
fn is_far_fetched(error: &clap::Error) -> bool {
    let one = |kind| match error.get(kind) {
        Some(ContextValue::String(flag)) => Some(flag.trim_start_matches('-').to_owned()),
        _ => None,
    };
    match (one(ContextKind::InvalidArg), one(ContextKind::SuggestedArg)) {
        (Some(typed), Some(suggested)) => {
            let is_begun = !typed.is_empty() && suggested.starts_with(&typed);
            !is_begun && strsim::osa_distance(&typed, &suggested) > (typed.chars().count() / 3).max(1)
        }
        _ => false,
    }
}

/// Returns the command that the usage line of an error is about.
fn command_meant(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    let usage = usage.to_string();
    let word = usage.split_whitespace().nth(2)?;
    word.starts_with(|first: char| first.is_ascii_lowercase()).then(|| word.to_owned())
}

fn unknown_command(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) if error.kind() == ErrorKind::InvalidSubcommand => Some(name),
        _ => None,
    }
}

fn in_place_of(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(names, _)| names.contains(&name)).map(|(_, instead)| *instead)
}

/// Takes the sentence and the tips out of what clap would show.
fn in_words(shown: &str) -> (String, Option<String>) {
    let lines = || shown.lines().map(str::trim);
    let message: Vec<&str> = lines().take_while(|line| !line.is_empty()).collect();
    let tips: Vec<&str> = lines().filter_map(|line| line.strip_prefix("tip: ")).collect();
    let message = message.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    (message, (!tips.is_empty()).then(|| tips.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clap_says_becomes_a_sentence_and_a_hint() {
        let shown =
            "error: unexpected argument '--wat' found\n\n  tip: a similar argument exists: '--path'\n\nUsage: coffre\n";
        let said = in_words(shown);
        assert_eq!(said.0, "unexpected argument '--wat' found");
        assert_eq!(said.1.as_deref(), Some("a similar argument exists: '--path'"));
        let several = "error: the following arguments were not provided:\n  --a\n  --b\n\nUsage: x\n";
        assert_eq!(in_words(several), ("the following arguments were not provided: --a --b".into(), None));
    }

    #[test]
    fn every_command_that_needs_something_asks_for_it() {
        let command = crate::cli::command();
        for verb in command.get_subcommands().filter(|verb| verb.get_arguments().any(clap::Arg::is_required_set)) {
            let error =
                command.clone().try_get_matches_from(["coffre", verb.get_name()]).expect_err("it lacks something");
            let (message, hint) = told(&error);
            assert!(message.contains('?'), "{message}");
            assert!(hint.is_some_and(|hint| hint.starts_with(&format!("`coffre {} ", verb.get_name()))), "{message}");
        }
        let error = command.clone().try_get_matches_from(["coffre", "restore", "x", "--yes"]).expect_err("not alone");
        assert_eq!(told(&error), ("what is given needs --delete as well".into(), None));
        let error = command.clone().try_get_matches_from(["coffre", "ls", "--wat"]).expect_err("unknown");
        assert_eq!(told(&error).1.as_deref(), Some("`coffre ls --help` tells what it takes"));
        let error = command.clone().try_get_matches_from(["coffre", "ls", "--hots=db1"]).expect_err("mistyped");
        assert_eq!(told(&error).1.as_deref(), Some("a similar argument exists: '--host'"));
    }

    #[test]
    fn no_command_of_another_program_is_told_twice() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(ELSEWHERE.iter().flat_map(|(names, _)| names.iter()).all(|name| seen.insert(name)));
    }
}
