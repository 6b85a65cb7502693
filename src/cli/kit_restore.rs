//! The part of the recovery kit that is typed: the commands for the trees, databases and streams that a repository holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::cli::output::one_line;
use crate::cli::page::{continued, wrap};
use crate::engine::by_hand::DumpedFiles;
use crate::engine::plan::StreamKind;
use crate::engine::{Engines, ServerWords, Words};
use crate::model::facts::fact;
use crate::model::path::display_bytes;
use crate::ops::holdings::{HeldStream, HeldTree, Holding};
use crate::process::shell::{is_typable, shell};

/// Columns of the page.
pub const WIDTH: usize = 79;
/// Backups that are spelled out; the others are counted.
pub const SHOWN: usize = 8;
/// Trees, or streams, of one backup that get a command of their own; the others are listed by `coffre ls`.
const COMMANDS_EACH: usize = 6;

/// Returns steps 3 and the following, for what the repository holds.
pub fn steps(holdings: &[Holding]) -> String {
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
    if holdings.is_empty() {
        text.push_str(GENERAL);
    }
    for (at, holding) in holdings.iter().take(SHOWN).enumerate() {
        let snapshot = &holding.snapshot;
        let job = if snapshot.job.is_empty() { String::new() } else { format!(", job {}", snapshot.job) };
        let named = format!("{}{job}", snapshot.host);
        text.push_str(&wrap(&format!("{}. Restore the backup of {}:", at + 5, one_line(&named)), 0, WIDTH));
        text.push('\n');
        let choice = choice(holding, holdings);
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

/// Writes a paragraph below the number of a step.
fn prose(text: &mut String, words: &str) {
    text.push_str(&wrap(words, 3, WIDTH));
}

fn command(text: &mut String, command: &str) {
    continued(command).iter().for_each(|line| {
        let _ = writeln!(text, "     {line}");
    });
}

fn trees(text: &mut String, holding: &Holding, choice: &str) {
    for tree in holding.trees.iter().take(COMMANDS_EACH) {
        let from = shell(&format!("latest:{}", display_bytes(&tree.path)));
        let target = shell(&format!("/srv/restored{}", display_bytes(target_of(tree))));
        command(text, &format!("coffre restore {from}{choice} --target {target}"));
    }
    if holding.trees.len() > COMMANDS_EACH {
        command(text, &format!("coffre restore latest{choice} --target /srv/restored"));
    }
    if !holding.trees.is_empty() {
        text.push('\n');
    }
}

/// Returns the directory below the target that a tree is restored into: its own, or of a file or link the one that it is in.
fn target_of(tree: &HeldTree) -> &[u8] {
    let path = tree.path.strip_suffix(b"/").unwrap_or(&tree.path);
    match (tree.is_directory, path.iter().rposition(|&byte| byte == b'/')) {
        (false, Some(slash)) => &path[..slash],
        _ => path,
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
    let by = if engine.clients.is_empty() { String::new() } else { format!(" by {}", list(&engine.clients)) };
    prose(
        text,
        &format!(
            "{label}: a server, and the client programs (package {package}) of the same version or newer. It was dumped from {}{by}.",
            list(&engine.servers)
        ),
    );
    text.push('\n');
    if engine.globals {
        command(text, &format!("{into} --globals"));
    }
    if engine.databases.len() > 1 || !engine.databases.keys().all(|name| is_typable(name)) {
        command(text, &format!("{into} --all-databases --plan"));
        command(text, &format!("{into} --all-databases"));
    }
    for database in engine.databases.keys().filter(|name| is_typable(name)).take(COMMANDS_EACH) {
        if engine.databases.len() == 1 {
            command(text, &format!("{into} --database {} --plan", shell(database)));
        }
        command(text, &format!("{into} --database {}", shell(database)));
    }
    text.push('\n');
    prose(
        text,
        &match engine.globals {
            true => format!("`--globals` brings {people} with their passwords, also that of the user who connects."),
            false => format!(
                "The {people} of the server are not in this backup: `--plan` names those that are missing. Make them first, or add \
                 --no-owner."
            ),
        },
    );
    prose(text, "Passwords: `coffre help environment`.");
    text.push('\n');
    by_hand(text, label, engine, choice);
}

/// Says how a dump is restored without coffre, by the example of the first one that is a single file.
fn by_hand(text: &mut String, label: &str, dumped: &Dumped<'_>, choice: &str) {
    let engines = Engines::default();
    let commands = dumped.databases.iter().find_map(|(database, stream)| {
        let path = stream.path.to_string();
        let file = path.rsplit('/').next().unwrap_or_default();
        let dumped = DumpedFiles { facts: &stream.facts, database, file, tables: &[] };
        let typed = engines.of(&stream.facts)?.by_hand(&dumped);
        let dump = format!("coffre dump {}{choice} > {}", shell(&format!("latest:{path}")), shell(file));
        (!typed.is_empty()).then(|| std::iter::once(dump).chain(typed).collect::<Vec<_>>())
    });
    let Some(commands) = commands else { return };
    let whose = if label.ends_with('s') { "'" } else { "'s" };
    prose(text, &format!("A dump that stands there as a file goes in with {label}{whose} own programs, too:"));
    text.push('\n');
    commands.iter().for_each(|line| command(text, line));
    text.push('\n');
}

fn files(text: &mut String, name: &str, label: &str, engine: &Dumped<'_>, choice: &str) {
    prose(text, &format!("{label}, into the directory where you are:"));
    text.push('\n');
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
