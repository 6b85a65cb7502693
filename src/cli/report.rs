//! Printing an error: what failed, why, link by link, and one hint what to try.

use std::io::IsTerminal;

use clap::builder::Styles;
use clap::builder::styling::Style;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::OfRun;
use crate::cli::{events, output};
use crate::model::outcome::Outcome;

/// Prints an error to standard error; with `json`, as an object on standard output instead. Returns how the program ends by it.
pub fn print(failure: &Failure, json: bool) -> Exit {
    print_of(failure, json, None)
}

/// The same, of a run and its job.
pub fn print_of(failure: &Failure, json: bool, of: Option<&OfRun>) -> Exit {
    print_parts_of(failure.told(), failure.hint(), failure.outcome(), json, of)
}

/// Prints what went wrong, link by link, and what to try. Returns how the program ends by it.
pub fn print_parts(told: &[String], hint: Option<&str>, outcome: Outcome, json: bool) -> Exit {
    print_parts_of(told, hint, outcome, json, None)
}

fn print_parts_of(told: &[String], hint: Option<&str>, outcome: Outcome, json: bool, of: Option<&OfRun>) -> Exit {
    let exit = Exit::from(outcome);
    let (message, causes) = told.split_first().expect("an error says something");
    if json {
        let exit_code = exit as u8;
        output::json_of(&events::Error { causes, exit_code, hint, message, outcome: outcome.name() }, of);
        return exit;
    }
    let styles = Styles::default();
    output::say_marked(&coloured(styles.get_error(), "error: "), message);
    for cause in causes {
        output::say(&format!("  caused by: {cause}"));
    }
    if let Some(hint) = hint {
        output::say_marked(&coloured(styles.get_valid(), "hint: "), hint);
    }
    exit
}

/// Returns a mark and the blank behind it in the colours that clap gives its own errors, where standard error takes any.
fn coloured(style: &Style, text: &str) -> String {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    match std::io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb {
        true => format!("{style}{}{style:#} ", text.trim_end()),
        false => text.to_owned(),
    }
}
