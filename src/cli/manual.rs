//! `coffre man`: manual pages, written as roff for `man`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::cli::command_page;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Context, Fallible};
use crate::cli::output;
use crate::cli::page::{Block, Page};

/// Flags of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre man backup | man -l -
  coffre man --all /usr/local/share/man/man1")]
pub struct Args {
    /// The command; without one, the page of coffre itself
    command: Option<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    all: Option<PathBuf>,
}

/// Prints a page, or writes all of them.
pub fn run(mut program: Command, args: &Args) -> Fallible<Exit> {
    program.build();
    if let Some(directory) = &args.all {
        return write_all(&program, directory);
    }
    let command = match args.command.as_deref() {
        None => &program,
        Some(name) => program
            .get_subcommands()
            .find(|verb| verb.get_name() == name && !verb.is_hide_set())
            .ok_or_else(|| usage(format!("there is no command {name:?}")))?,
    };
    if std::io::stdout().is_terminal() {
        let which = args.command.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        return output::print(&format!(
            "This is the source of a manual page. To read it:  coffre man{which} | man -l -\n\
             To install all of them:  coffre man --all /usr/local/share/man/man1\n"
        ));
    }
    output::print(&roff(command))
}

fn write_all(program: &Command, directory: &Path) -> Fallible<Exit> {
    let failed = || format!("writing manual pages into {}", directory.display());
    std::fs::create_dir_all(directory).context(failed())?;
    let verbs = program.get_subcommands().filter(|verb| !verb.is_hide_set());
    for command in std::iter::once(program).chain(verbs) {
        let path = directory.join(format!("{}.1", command_page::name(command)));
        std::fs::write(path, roff(command)).context(failed())?;
    }
    Ok(Exit::Done)
}

/// Returns the manual page of a command as roff with the macros of man(7).
fn roff(command: &Command) -> String {
    let version = env!("CARGO_PKG_VERSION");
    // Left-aligned and unhyphenated: what is typed is copied from here.
    let title = command_page::name(command).to_uppercase();
    let mut text = format!(".TH \"{title}\" \"1\" \"\" \"coffre {version}\" \"Manual of coffre\"\n.nh\n.ad l\n");
    for section in Page::of(command).sections {
        text.push_str(&format!(".SH \"{}\"\n", section.title));
        for (at, block) in section.blocks.iter().enumerate() {
            match block {
                // The mark between name and purpose is roff already.
                Block::Text(words) if section.title == "NAME" => {
                    let (name, purpose) = words.split_once(" \\- ").unwrap_or((words, ""));
                    text.push_str(&format!("{} \\- {}\n", escape(name), escape(purpose)));
                }
                Block::Text(words) => {
                    text.push_str(if at > 0 { ".PP\n" } else { "" });
                    text.push_str(&line(words));
                }
                Block::Heading(heading) => text.push_str(&format!(".SS \"{}\"\n", escape(heading))),
                Block::Entry(term, meaning) => {
                    text.push_str(&format!(".TP\n\\fB{}\\fR\n{}", escape(term), line(meaning)));
                }
                Block::Code(lines) => {
                    text.push_str(".nf\n");
                    lines.iter().for_each(|words| text.push_str(&line(words)));
                    text.push_str(".fi\n");
                }
            }
        }
    }
    text
}

/// Returns one line of text; one that begins like a request is protected.
fn line(words: &str) -> String {
    let escaped = escape(words);
    let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("{guard}{escaped}\n")
}

/// Escapes what roff would take for its own, and keeps hyphens and quotes as they are typed.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '…' => escaped.push_str("..."),
            '"' => escaped.push_str("\\(dq"),
            '\n' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_survives_roff() {
        assert_eq!(escape("--exclude '*.tmp' ~/x\\y"), "\\-\\-exclude \\(aq*.tmp\\(aq \\(ti/x\\ey");
        assert_eq!(line(".gitignore"), "\\&.gitignore\n");
    }
}
