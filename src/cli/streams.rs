//! `--command NAME -- CMD ARGS…`, as often as wanted: taken out of the command line before clap sees it.
//!
//! A group ends where the next one begins (`--command NAME --`) or with the command line, so it comes last.

use std::ffi::{OsStr, OsString};

/// One stream and the command whose output it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The stream's name.
    pub name: OsString,
    /// The program and its arguments.
    pub arguments: Vec<OsString>,
}

/// Takes all groups out of `arguments`; what is left goes to clap.
///
/// # Errors
/// A sentence for the user when a group has no command, or no `--`.
pub fn split(arguments: Vec<OsString>) -> Result<(Vec<OsString>, Vec<Command>), String> {
    let is_backup = arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|a| a == "backup");
    let Some(first) = (0..arguments.len()).find(|&at| is_backup && flag_at(&arguments, at)) else {
        return Ok((arguments, Vec::new()));
    };
    let mut left = arguments;
    let groups = left.split_off(first);
    let mut commands: Vec<Command> = Vec::new();
    let mut at = 0;
    while at < groups.len() {
        if begins_group(&groups, at) {
            let name = groups[at + 1].clone();
            commands.push(Command { name, arguments: Vec::new() });
            at += 3;
        } else if let Some(command) = commands.last_mut() {
            command.arguments.push(groups[at].clone());
            at += 1;
        } else {
            return Err("write --command NAME -- CMD ARGS…, after all other options".into());
        }
    }
    match commands.iter().find(|command| command.arguments.is_empty()) {
        Some(empty) => Err(format!("--command {} -- needs a command after it", empty.name.display())),
        None => Ok((left, commands)),
    }
}

fn flag_at(arguments: &[OsString], at: usize) -> bool {
    arguments[at] == "--command"
}

fn begins_group(arguments: &[OsString], at: usize) -> bool {
    flag_at(arguments, at) && arguments.get(at + 2).is_some_and(|dashes| dashes == OsStr::new("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_text(text: &str) -> Result<(String, Vec<String>), String> {
        let (left, commands) = split(text.split(' ').map(OsString::from).collect())?;
        let join = |words: &[OsString]| words.join(OsStr::new(" ")).into_string().expect("UTF-8");
        let shown = |c: &Command| format!("{}={}", c.name.display(), join(&c.arguments));
        Ok((join(&left), commands.iter().map(shown).collect()))
    }

    #[test]
    fn several_commands_are_told_apart() {
        let split = split_text("coffre backup --tag x --command a.sql -- pg_dump a --command b -- cat -- --x");
        let commands = vec!["a.sql=pg_dump a".to_owned(), "b=cat -- --x".to_owned()];
        assert_eq!(split, Ok(("coffre backup --tag x".to_owned(), commands)));
        assert_eq!(split_text("coffre ls latest").map(|(left, _)| left), Ok("coffre ls latest".to_owned()));
        assert!(split_text("coffre backup --command a").is_err());
        assert!(split_text("coffre backup --command a --").is_err());
        assert!(split_text("coffre backup --command a cat x").is_err());
    }
}
