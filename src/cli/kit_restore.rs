//! The part of the recovery kit that is typed: the commands for the trees, databases and streams that a repository holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::cli::page::continued;
use crate::cli::recovery_kit::{Kit, SHOWN};
use crate::engine::plan::StreamKind;
use crate::engine::{Engines, ServerWords, Words};
use crate::model::facts::fact;
use crate::model::path::display_bytes;
use crate::ops::holdings::{HeldStream, Holding};

/// Trees, or streams, of one backup that get a command of their own; the others are listed by `coffre ls`.
const COMMANDS_EACH: usize = 6;

/// Returns steps 3 and the following.
pub fn steps(kit: &Kit<'_>) -> String {
    let mut text = String::from(
        "
3. Type the recovery identity once, into a file of your own. Enter and Ctrl-D
   end it. (Without the file coffre asks for it every time.)

     (umask 077; cat > identity)
     export COFFRE_PASSWORD_FILE=\"$PWD/identity\"

4. See what there is, all of it and the newest:

     coffre snapshots
     coffre ls latest

",
    );
    if kit.holdings.is_empty() {
        text.push_str(GENERAL);
    }
    for (at, holding) in kit.holdings.iter().take(SHOWN).enumerate() {
        let snapshot = &holding.snapshot;
        let job = if snapshot.job.is_empty() { String::new() } else { format!(", job {}", snapshot.job) };
        let _ = writeln!(text, "{}. Restore the backup of {}{job}:\n", at + 5, snapshot.host);
        let choice = choice(holding, kit.holdings);
        trees(&mut text, holding, &choice);
        databases(&mut text, holding, &choice);
        streams(&mut text, holding, &choice);
    }
    text.push_str(
        "   `latest` can be the id of an older snapshot instead. A restore can be
   interrupted and run again; it goes on where it was. At the end it says
   whether anything could not be restored, and what. `coffre help restore` has
   the rest.

",
    );
    text
}

/// What stands there as long as nothing is stored.
const GENERAL: &str = "\
5. Restore files below /srv/restored, or databases into a server (`--plan` shows
   what would be done, `--globals` brings roles or users, first):

     coffre restore latest --target /srv/restored
     coffre restore latest --plan --into-postgres \\
       postgresql://postgres@localhost/

";

/// Returns the flags that make `latest` mean this backup among all.
fn choice(holding: &Holding, all: &[Holding]) -> String {
    let snapshot = &holding.snapshot;
    let mut flags = String::new();
    if all.iter().any(|other| other.snapshot.host != snapshot.host) {
        let _ = write!(flags, " --host {}", shell(&snapshot.host));
    }
    if !snapshot.job.is_empty() && all.iter().any(|other| other.snapshot.job != snapshot.job) {
        let _ = write!(flags, " --job {}", shell(&snapshot.job));
    }
    // Backups without a job are told apart by what they are of.
    if snapshot.job.is_empty() && all.len() > 1 {
        for source in &snapshot.sources {
            let _ = write!(flags, " --path {}", shell(&display_bytes(source).to_string()));
        }
    }
    flags
}

fn command(text: &mut String, command: &str) {
    continued(command).iter().for_each(|line| {
        let _ = writeln!(text, "     {line}");
    });
}

fn trees(text: &mut String, holding: &Holding, choice: &str) {
    for tree in holding.trees.iter().take(COMMANDS_EACH) {
        let tree = display_bytes(tree).to_string();
        let target = shell(&format!("/srv/restored{}", tree.trim_end_matches('/')));
        command(text, &format!("coffre restore {}{choice} --target {target}", shell(&format!("latest:{tree}"))));
    }
    if holding.trees.len() > COMMANDS_EACH {
        command(text, &format!("coffre restore latest{choice} --target /srv/restored"));
    }
    if !holding.trees.is_empty() {
        text.push('\n');
    }
}

/// The streams of one engine.
#[derive(Default)]
struct Dumped<'a> {
    databases: BTreeMap<String, &'a HeldStream>,
    globals: bool,
    servers: BTreeSet<String>,
    clients: BTreeSet<String>,
}

fn databases(text: &mut String, holding: &Holding, choice: &str) {
    let engines = Engines::default();
    let mut dumped: BTreeMap<&str, (&Words, Dumped<'_>)> = BTreeMap::new();
    for stream in &holding.streams {
        let facts = &stream.facts;
        let Some(engine) = engines.of(facts) else { continue };
        let (_, of_engine) = dumped.entry(engine.name()).or_insert_with(|| (engine.words(), Dumped::default()));
        of_engine.servers.extend(facts.get(fact::SERVER_VERSION));
        of_engine.clients.extend(facts.get(fact::CLIENT_VERSION));
        match engine.kind(facts) {
            Some(StreamKind::Globals) => of_engine.globals = true,
            Some(StreamKind::Database) => {
                let database = facts.get(fact::DATABASE).or_else(|| facts.get(fact::FILE)).unwrap_or_default();
                of_engine.databases.insert(database, stream);
            }
            Some(StreamKind::Table) | None => {}
        }
    }
    for (name, (words, of_engine)) in dumped {
        match &words.server {
            Some(words_of_server) => server(text, name, words.label, words_of_server, &of_engine, choice),
            None => files(text, name, words.label, &of_engine, choice),
        }
    }
}

fn server(text: &mut String, name: &str, label: &str, words: &ServerWords, engine: &Dumped<'_>, choice: &str) {
    let ServerWords { example, package, people, .. } = words;
    let list = |versions: &BTreeSet<String>| versions.iter().cloned().collect::<Vec<_>>().join(", ");
    let into = format!("coffre restore latest{choice} --into-{name} {example}");
    let _ = writeln!(text, "   {label}: a server, and the client programs (package {package}) of the same");
    let _ = writeln!(text, "   version or newer.\n   It was dumped from {}", list(&engine.servers));
    if !engine.clients.is_empty() {
        let _ = writeln!(text, "   by {}.", list(&engine.clients));
    }
    text.push('\n');
    if engine.globals {
        command(text, &format!("{into} --globals"));
    }
    if engine.databases.len() > 1 {
        command(text, &format!("{into} --all-databases --plan"));
        command(text, &format!("{into} --all-databases"));
    }
    for database in engine.databases.keys().take(COMMANDS_EACH) {
        if engine.databases.len() == 1 {
            command(text, &format!("{into} --database {} --plan", shell(database)));
        }
        command(text, &format!("{into} --database {}", shell(database)));
    }
    text.push('\n');
    match engine.globals {
        true => {
            let _ = writeln!(
                text,
                "   `--globals` brings {people} with their passwords, also that of the user who connects."
            );
        }
        false => {
            let _ =
                writeln!(text, "   The {people} of the server are not in this backup: `--plan` names those that are");
            let _ = writeln!(text, "   missing. Make them first, or add --no-owner.");
        }
    }
    let _ = writeln!(text, "   Passwords: `coffre help environment`.\n");
}

fn files(text: &mut String, name: &str, label: &str, engine: &Dumped<'_>, choice: &str) {
    let _ = writeln!(text, "   {label}, into the directory where you are:\n");
    for (file, stream) in engine.databases.iter().take(COMMANDS_EACH) {
        let file_name = file.rsplit('/').next().unwrap_or_default();
        let (from, to) = (shell(&format!("latest:{}", stream.path)), shell(&format!("restored-{file_name}")));
        command(text, &format!("coffre restore {from}{choice} --into-{name} {to}"));
    }
    text.push('\n');
}

fn streams(text: &mut String, holding: &Holding, choice: &str) {
    let engines = Engines::default();
    let plain: Vec<&HeldStream> = holding.streams.iter().filter(|stream| engines.of(&stream.facts).is_none()).collect();
    for stream in plain.iter().take(COMMANDS_EACH) {
        let path = stream.path.to_string();
        let name = path.rsplit('/').next().unwrap_or_default();
        command(text, &format!("coffre dump {}{choice} > {}", shell(&format!("latest:{path}")), shell(name)));
    }
    if !plain.is_empty() {
        text.push('\n');
    }
}

/// Quotes a word for a shell, where it needs that.
pub fn shell(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./:=@%+,-".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are() {
        for (word, quoted) in [
            ("latest:/srv/shop", "latest:/srv/shop"),
            ("/srv/my files", "'/srv/my files'"),
            ("it's", r"'it'\''s'"),
            ("$HOME;x", "'$HOME;x'"),
            ("", "''"),
        ] {
            assert_eq!(shell(word), quoted);
        }
    }
}
