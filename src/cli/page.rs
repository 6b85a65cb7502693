//! A page of documentation: titled sections of text, entries and examples, made from the commands themselves.
//!
//! What `coffre help` shows on a terminal and what a manual page has is the same page, written in two ways
//! ([`Page::text`] here, roff in `manual`). Nothing in it is kept by hand beside what clap knows, but for `topics`.

use clap::builder::StyledStr;
use clap::{Arg, Command};

use crate::cli::topics;

/// The end of the help of every command. Pages have sections for that.
pub const ELSEWHERE: &str = "Variables, credentials and files: `coffre help environment`.";
/// Longest line of an example, in columns: a manual page at 80 columns indents by 7.
const CODE_WIDTH: usize = 70;

/// A page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Its sections, in order.
    pub sections: Vec<Section>,
}

/// A section with its title.
#[derive(Debug, Clone)]
pub struct Section {
    /// The title, in capitals as manual pages have it, or as clap's headings are written.
    pub title: String,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Debug, Clone)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Something and what it means.
    Entry(String, String),
    /// Lines to be typed, as they are.
    Code(Vec<String>),
    /// A heading within the section.
    Heading(String),
}

impl Section {
    /// Makes a section.
    pub fn new(title: &str, blocks: Vec<Block>) -> Self {
        Self { title: title.to_owned(), blocks }
    }
}

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

    /// Writes the page for a terminal of `width` columns.
    pub fn text(&self, width: usize) -> String {
        let mut text = String::new();
        for section in &self.sections {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{}\n", section.title));
            for (at, block) in section.blocks.iter().enumerate() {
                let parts_before = at > 0 && !matches!(block, Block::Entry(..));
                if parts_before {
                    text.push('\n');
                }
                match block {
                    Block::Text(words) => text.push_str(&wrap(words, 2, width)),
                    Block::Heading(title) => text.push_str(&format!("  {title}:\n")),
                    Block::Code(lines) => lines.iter().for_each(|line| text.push_str(&format!("  {line}\n"))),
                    Block::Entry(term, meaning) => {
                        text.push_str(&format!("  {term}\n"));
                        text.push_str(&wrap(meaning, 6, width));
                    }
                }
            }
        }
        text
    }
}

/// Returns the variables that stand for options of a command; with `global`, for those of every command.
pub fn variables(command: &Command, global: bool) -> Vec<Block> {
    let arguments = command.get_arguments().filter(|argument| argument.is_global_set() == global);
    let named = arguments.filter_map(|argument| Some((argument.get_env()?.to_string_lossy().into_owned(), argument)));
    let entry = |(variable, argument): (String, &Arg)| {
        let option = argument.get_long().map(|long| format!(" (--{long})")).unwrap_or_default();
        Block::Entry(variable, format!("{}{option}.", plain(argument.get_help())))
    };
    named.map(entry).collect()
}

/// Returns the options under their headings. Those of every command are on the page of the program alone.
fn options(command: &Command, is_program: bool) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut headings: Vec<Option<&str>> = Vec::new();
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| {
            !argument.is_hide_set() && (is_program || !(argument.is_global_set() || is_common(argument)))
        })
        .collect();
    for argument in &shown {
        if !headings.contains(&argument.get_help_heading()) {
            headings.push(argument.get_help_heading());
        }
    }
    // What belongs to the command itself before what has a heading of its own.
    headings.sort_by_key(Option::is_some);
    for heading in headings {
        blocks.extend(heading.map(|heading| Block::Heading(heading.to_owned())));
        let under = shown.iter().filter(|argument| argument.get_help_heading() == heading);
        blocks.extend(under.map(|argument| Block::Entry(term(argument), meaning(argument))));
    }
    if !is_program {
        let rest =
            "The options of every command, such as --repo, --password-file, --json and --quiet, are in coffre(1).";
        blocks.push(Block::Text(rest.into()));
    }
    blocks
}

/// Tells whether it is one of those that clap gives to every command.
fn is_common(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

/// Returns how an argument is written: `-e, --exclude PATTERN`.
fn term(argument: &Arg) -> String {
    let takes_values = argument.get_action().takes_values();
    let names = argument.get_value_names().unwrap_or_default();
    let mut value: String = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    if value.is_empty() {
        value = argument.get_id().as_str().to_uppercase();
    }
    let spellings =
        [argument.get_short().map(|short| format!("-{short}")), argument.get_long().map(|long| format!("--{long}"))];
    let spellings: Vec<String> = spellings.into_iter().flatten().collect();
    let is_optional = argument.get_num_args().is_some_and(|range| range.min_values() == 0);
    match (spellings.is_empty(), takes_values) {
        (true, _) => value,
        (false, false) => spellings.join(", "),
        (false, true) if is_optional => format!("{}[={value}]", spellings.join(", ")),
        (false, true) => format!("{} {value}", spellings.join(", ")),
    }
}

/// Returns what an argument is for, with its default, its possible values and its variable.
fn meaning(argument: &Arg) -> String {
    let mut text = plain(argument.get_long_help().or(argument.get_help()));
    let defaults: Vec<String> = argument
        .get_default_values()
        .iter()
        .filter(|value| !value.is_empty() && !argument.is_hide_default_value_set())
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    let takes_values = argument.get_action().takes_values();
    if takes_values && !defaults.is_empty() {
        text.push_str(&format!(" [default: {}]", defaults.join(", ")));
    }
    let possible: Vec<String> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if takes_values && !possible.is_empty() {
        text.push_str(&format!(" [one of: {}]", possible.join(", ")));
    }
    if let Some(variable) = argument.get_env() {
        text.push_str(&format!(" [variable: {}]", variable.to_string_lossy()));
    }
    text
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

/// Breaks a command into lines that the shell reads as one.
pub fn continued(command: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in units(command) {
        let line = lines.last_mut().expect("one was made");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > CODE_WIDTH {
            line.push_str(" \\");
            lines.push(format!("    {word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(&word);
        }
    }
    lines
}

/// Splits a command where a line may end: not within quotes, nor between an option and its value.
fn units(command: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    for word in command.split(' ') {
        match units.last_mut() {
            Some(last) if last.matches('\'').count() % 2 == 1 => *last = format!("{last} {word}"),
            Some(last) if last.starts_with("--") && !last.contains(' ') && !word.starts_with('-') => {
                *last = format!("{last} {word}");
            }
            _ => units.push(word.to_owned()),
        }
    }
    units
}

/// Tells whether this is the program itself, and not one of its commands.
fn is_program(command: &Command) -> bool {
    name(command) == "coffre"
}

/// Returns what a command of a command takes beside what every command does.
fn own_options(command: &Command) -> Vec<Block> {
    let own = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !argument.is_global_set() && !is_common(argument));
    own.map(|argument| Block::Entry(term(argument), meaning(argument))).collect()
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

fn plain(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

fn begin_small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Breaks words into lines of at most `width` columns, indented by `indent`.
pub fn wrap(words: &str, indent: usize, width: usize) -> String {
    let mut text = String::new();
    let mut line = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if line > 0 && indent + line + 1 + length > width {
            text.push('\n');
            line = 0;
        }
        match line {
            0 => text.push_str(&" ".repeat(indent)),
            _ => text.push(' '),
        }
        line += length + usize::from(line > 0);
        text.push_str(word);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_never_longer() {
        assert_eq!(wrap("one two three", 2, 9), "  one two\n  three\n");
        assert_eq!(wrap("one two three", 2, 10), "  one two\n  three\n");
        assert_eq!(wrap("  a  verylongword b", 0, 4), "a\nverylongword\nb\n");
    }

    #[test]
    fn examples_and_notes_are_told_apart() {
        let after =
            "Examples:\n  coffre ls latest\n  coffre ls 3f9c:/etc\n\nA note\nof two lines.\n\nExit codes: 0 done";
        let (notes, examples) = notes(after);
        assert_eq!(notes, ["A note of two lines."]);
        assert_eq!(examples, ["coffre ls latest", "coffre ls 3f9c:/etc"]);
    }

    #[test]
    fn a_long_example_can_still_be_typed() {
        let long = format!("coffre backup {}", "--exclude '*.tmp' ".repeat(8).trim_end());
        let lines = continued(&long);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= CODE_WIDTH + 2), "{lines:?}");
        let rest: Vec<&str> = lines.iter().map(|line| line.trim_start().trim_end_matches(" \\")).collect();
        assert_eq!(rest.join(" "), long);
        let units = units("coffre restore 'latest:/my  files' --path 'a b' --yes --target /x");
        assert_eq!(units, ["coffre", "restore", "'latest:/my  files'", "--path 'a b'", "--yes", "--target /x"]);
    }

    #[test]
    fn an_argument_is_written_as_it_is_typed() {
        let flag = Arg::new("dry").long("dry-run").short('n').action(clap::ArgAction::SetTrue);
        let command =
            Command::new("x").arg(flag).arg(Arg::new("part").long("read-data").num_args(0..=1).value_name("PART"));
        let terms: Vec<String> = command.get_arguments().map(term).collect();
        assert_eq!(terms, ["-n, --dry-run", "--read-data[=PART]"]);
    }
}
