//! `coffre help`: the help of a command, or a page on what belongs to none.

use clap::Command;

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::{output, topics};

/// Name of the argument that is a command or a topic.
pub const ARGUMENT: &str = "about";
/// Widest line of a page.
const WIDEST: usize = 100;

/// Flags of `help`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_help())]
pub struct Args {
    /// A command or a topic
    about: Option<String>,
}

/// Returns the list of topics, for those who ask what there is.
pub fn after_help() -> String {
    let topics: Vec<String> = topics::TOPICS.iter().map(|(topic, about)| format!("  {topic:<13} {about}")).collect();
    format!("Topics of `coffre help`:\n{}", topics.join("\n"))
}

/// Prints it.
pub fn run(mut program: Command, args: &Args) -> Fallible<Exit> {
    program.build();
    let Some(about) = args.about.as_deref() else {
        return output::print(&program.render_help().to_string());
    };
    if let Some(page) = topics::page(about, &program) {
        return output::print(&page.text(output::width().min(WIDEST)));
    }
    match program.find_subcommand_mut(about).filter(|verb| !verb.is_hide_set()) {
        Some(verb) => output::print(&verb.render_help().to_string()),
        None => {
            let topics: Vec<&str> = topics::TOPICS.iter().map(|(topic, _)| *topic).collect();
            Err(usage(format!("there is no command {about:?}, nor a topic; topics are {}", topics.join(", "))))
        }
    }
}
