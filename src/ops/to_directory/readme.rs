//! The page beside the dumps: what each file is, and the commands of the engine's own programs that restore it.

use std::fmt::Write as _;

use crate::engine::Engine;
use crate::engine::by_hand::DumpedFiles;
use crate::engine::plan::StreamKind;
use crate::model::facts::{StreamFacts, fact};
use crate::model::path::{display_bytes, is_hidden, push_hidden};
use crate::model::snapshot::Snapshot;
use crate::model::units::ByteSize;

/// A dump all of whose files are there.
pub struct WholeDump<'a> {
    /// Whose it is.
    pub engine: &'a dyn Engine,
    /// What it is.
    pub kind: StreamKind,
    /// The database; nothing for what belongs to the server.
    pub database: &'a str,
    /// The facts of its main stream.
    pub facts: &'a StreamFacts,
    /// The file of its main stream.
    pub file: &'a str,
    /// Those of single tables.
    pub tables: Vec<String>,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Writes the page. `missing` are files that could not be written, or were not begun.
///
/// Commands stand behind four blanks, and nothing else does: texts of others are written so that none begins a line.
pub fn readme(snapshot: &Snapshot, dumps: &[WholeDump<'_>], missing: &[String]) -> String {
    let (host, started) = (shown(&snapshot.host), snapshot.started.local_zoned());
    let mut page = format!(
        "\
Dumps of databases of {host}, from snapshot {}, backed up {started}.

These files are what the programs of each kind of database take. All that is
here is whole and was checked as it was written; only you can read it.

Type the commands in this directory, from the first to the last, with host,
port and user of your server in place of those that stand here. What begins
with # is a remark.
",
        snapshot.id
    );
    if !missing.is_empty() {
        page.push_str("\nNOT HERE, because they could not be read or written:\n\n");
        missing.iter().for_each(|file| line(&mut page, &format!("- {file}")));
    }
    let mut label = "";
    for dump in dumps {
        let words = dump.engine.words();
        if words.label != label {
            label = words.label;
            line(&mut page, &format!("\n\n{label}\n{}", "=".repeat(label.chars().count())));
            if let Some(server) = &words.server {
                line(&mut page, &format!("\nThe programs: package {}, of the same version or newer.", server.package));
            }
        }
        one(&mut page, dump);
    }
    page
}

fn one(page: &mut String, dump: &WholeDump<'_>) {
    let WholeDump { engine, database, facts, file, tables, bytes, .. } = dump;
    let what = match (dump.kind, &engine.words().server) {
        (StreamKind::Globals, Some(server)) => format!("The {} of the server", server.people),
        (StreamKind::Globals, None) => "What belongs to the server".to_owned(),
        _ => format!("Database {}", shown(database)),
    };
    let version = facts.text(fact::SERVER_VERSION).map(|version| format!(", from version {}", shown(version)));
    let parts = match tables.len() {
        0 => String::new(),
        1 => " and 1 table".to_owned(),
        count => format!(" and {count} tables"),
    };
    let version = version.unwrap_or_default();
    line(page, &format!("\n{what}{version}: {file}{parts}, {}", ByteSize(*bytes)));
    for (told, lacking) in
        [(fact::LEFT_OUT_TABLES, "The dump was made without"), (fact::CHANGED, "The dump changes columns:")]
    {
        if let Some(text) = facts.text(told) {
            line(page, &format!("{lacking} {}", shown(text)));
        }
    }
    page.push('\n');
    let commands = engine.by_hand(&DumpedFiles { facts, database, file, tables });
    if commands.is_empty() {
        line(page, "No commands can be given for it here; it is restored by coffre itself.");
    }
    commands.iter().for_each(|command| line(page, &format!("    {command}")));
}

/// Writes a text of others on one line.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in display_bytes(text.as_bytes()).to_string().chars() {
        if is_hidden(c) { push_hidden(&mut shown, c) } else { shown.push(c) }
    }
    shown
}

fn line(page: &mut String, text: &str) {
    let _ = writeln!(page, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_begin_no_line_and_turn_no_direction() {
        for (text, expected) in [
            ("grüße", "grüße"),
            ("a\n    rm", r"a\x0a    rm"),
            ("a\u{2028}b\u{2029}", r"a\xe2\x80\xa8b\xe2\x80\xa9"),
            ("\u{202e}x\u{2066}", r"\xe2\x80\xaex\xe2\x81\xa6"),
            (r"\x", r"\\x"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
