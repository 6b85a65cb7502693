//! A command line that cannot be understood: clap's words, as an object where that is wanted, and for commands that other
//! programs have, what they are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::exit::Exit;
use crate::cli::report;

/// Commands of other programs: their name, and what there is in place of them.
const ELSEWHERE: [(&[&str], &str); 18] = [
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
    (&["forget", "prune", "delete", "rm", "gc", "compact", "cleanup"], "removing snapshots comes with a later version"),
    (&["copy", "sync", "replicate", "mirror"], "copying between repositories comes with a later version"),
    (
        &["mount", "umount", "webdav"],
        "mounting comes with a later version; `coffre ls`, `find` and `dump` look into snapshots",
    ),
    (&["key", "passwd", "password", "change-passphrase"], "changing keys and passphrases comes with a later version"),
    (
        &["tag", "rewrite", "recreate", "rename"],
        "changing snapshots comes with a later version; `coffre backup --tag` sets tags",
    ),
    (
        &["repair", "rebuild-index", "recover", "migrate", "debug"],
        "`coffre verify` tells what is damaged, `coffre restore` gives back all that is whole; repairing comes with a later version",
    ),
];

/// Prints why a command line cannot be understood, or the help that it asked for.
pub fn print(error: &clap::Error, json: bool) -> Exit {
    if !error.use_stderr() {
        // Help and version are output like any other.
        let _ = error.print();
        return Exit::Done;
    }
    let known = unknown_command(error).and_then(|name| Some((name, in_place_of(name)?)));
    match known {
        Some((name, instead)) => {
            report::print_parts(&[format!("there is no command `{name}`")], Some(instead), Exit::Usage, json)
        }
        None if json => {
            let (message, hint) = in_words(&error.render().to_string());
            report::print_parts(&[message], hint.as_deref(), Exit::Usage, json);
        }
        None => {
            let _ = error.print();
        }
    }
    Exit::Usage
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
    fn no_command_of_another_program_is_told_twice() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(ELSEWHERE.iter().flat_map(|(names, _)| names.iter()).all(|name| seen.insert(name)));
    }
}
