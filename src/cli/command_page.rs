//! The page of a command, made from the command itself: nothing in it is kept by hand beside what clap knows, but for `topics`.

use clap::Command;

use crate::cli::arguments::{options, own_options, plain, variables};
use crate::cli::page::{Block, Page, Section, continued};
use crate::cli::topics;

/// The end of the help of every command. Pages have sections for that.
pub const ELSEWHERE: &str = "Variables, credentials and files: `coffre help environment`.";

impl Page {
    /// Makes the page of the program itself, or of one of its commands.
    pub fn of(command: &Command) -> Self {
        let is_program = is_program(command);
        let usage = command.clone().render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
        let usage: Vec<String> = usage.lines().map(|line| line.trim().to_owned()).collect();
        let about = plain(command.get_about());
        let (notes, examples) = notes(&plain(command.get_after_help()));
        let mut description = vec![Block::Text(format!("{}.", about.trim_end_matches('.')))];
        description
            .extend(topics::DESCRIPTION.iter().filter(|_| is_program).map(|text| Block::Text((*text).to_owned())));
        description.extend(notes.into_iter().map(Block::Text));
        let mut page = Self::default();
        let mut add = |title: &str, blocks: Vec<Block>| {
            if !blocks.is_empty() {
                page.sections.push(Section::new(title, blocks));
            }
        };
        add("NAME", vec![Block::Text(format!("{} \\- {}", name(command), begin_small(&about)))]);
        add("SYNOPSIS", vec![Block::Code(usage)]);
        add("DESCRIPTION", description);
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        add("COMMANDS", shown.map(|verb| Block::Entry(verb.get_name().into(), plain(verb.get_about()))).collect());
        let mut all = Vec::new();
        if !is_program {
            // The page of a command has what each of its own commands takes.
            for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
                let of_inner = own_options(inner);
                if !of_inner.is_empty() {
                    all.push(Block::Heading(inner.get_bin_name().unwrap_or(inner.get_name()).to_owned()));
                    all.extend(of_inner);
                }
            }
        }
        all.extend(options(command, is_program));
        add("OPTIONS", all);
        if is_program {
            page.sections.extend(topics::program_sections(command));
            page.sections.push(topics::exit_status());
        } else {
            let mut variables = variables(command, false);
            variables.push(Block::Text(
                "Those of every command are in coffre(1), with where passwords and keys come from.".into(),
            ));
            add("ENVIRONMENT", variables);
            add("EXIT STATUS", vec![Block::Text("0 when everything was done. All codes are in coffre(1).".into())]);
        }
        let mut add = |title: &str, blocks: Vec<Block>| {
            if !blocks.is_empty() {
                page.sections.push(Section::new(title, blocks));
            }
        };
        let examples =
            if is_program { topics::EXAMPLES.iter().flat_map(|line| continued(line)).collect() } else { examples };
        add("EXAMPLES", if examples.is_empty() { Vec::new() } else { vec![Block::Code(examples)] });
        add("SEE ALSO", vec![Block::Text(see_also(command))]);
        page
    }
}

/// Splits what stands after the options into paragraphs and examples.
fn notes(after_help: &str) -> (Vec<String>, Vec<String>) {
    let (mut notes, mut examples) = (Vec::new(), Vec::new());
    for paragraph in after_help.split("\n\n").map(str::trim_end).filter(|paragraph| !paragraph.trim().is_empty()) {
        // They have sections of their own.
        let is_elsewhere = paragraph == ELSEWHERE || paragraph.starts_with("Topics of");
        if is_elsewhere || paragraph.starts_with("Exit codes:") {
            continue;
        }
        let (lines, words): (Vec<&str>, Vec<&str>) = paragraph.lines().partition(|line| line.starts_with("  "));
        examples.extend(lines.iter().flat_map(|line| continued(line.trim())));
        let words = words.join(" ");
        if !words.is_empty() && words != "Examples:" {
            notes.push(words);
        }
    }
    (notes, examples)
}

/// Tells whether this is the program itself, and not one of its commands.
fn is_program(command: &Command) -> bool {
    name(command) == "coffre"
}

fn see_also(command: &Command) -> String {
    if is_program(command) {
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let pages: Vec<String> = verbs.map(|verb| format!("coffre-{}(1)", verb.get_name())).collect();
        return pages.join(", ");
    }
    "coffre(1)".to_owned()
}

/// Returns the name of the page: `coffre`, `coffre-backup`.
pub fn name(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).replace(' ', "-")
}

fn begin_small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_and_notes_are_told_apart() {
        let after =
            "Examples:\n  coffre ls latest\n  coffre ls 3f9c:/etc\n\nA note\nof two lines.\n\nExit codes: 0 done";
        let (notes, examples) = notes(after);
        assert_eq!(notes, ["A note of two lines."]);
        assert_eq!(examples, ["coffre ls latest", "coffre ls 3f9c:/etc"]);
    }
}
