//! The arguments of a command as blocks of its page: how each is written, and what it is for.

use clap::builder::StyledStr;
use clap::{Arg, Command};

use crate::cli::page::Block;

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
pub(super) fn options(command: &Command, is_program: bool) -> Vec<Block> {
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

/// Returns what a command of a command takes beside what every command does.
pub(super) fn own_options(command: &Command) -> Vec<Block> {
    let own = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !argument.is_global_set() && !is_common(argument));
    own.map(|argument| Block::Entry(term(argument), meaning(argument))).collect()
}

/// Returns help as plain text.
pub(super) fn plain(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_written_as_it_is_typed() {
        let flag = Arg::new("dry").long("dry-run").short('n').action(clap::ArgAction::SetTrue);
        let command =
            Command::new("x").arg(flag).arg(Arg::new("part").long("read-data").num_args(0..=1).value_name("PART"));
        let terms: Vec<String> = command.get_arguments().map(term).collect();
        assert_eq!(terms, ["-n, --dry-run", "--read-data[=PART]"]);
    }
}
