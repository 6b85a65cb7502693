//! Commands that print a secret.

use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::process::environment::withhold_secrets;

/// Runs a shell command and returns what it printed. It finds none of our secrets in its environment, and nobody whom it could ask; what it
/// complains about is shown. `what` names it in errors.
///
/// # Errors
/// One for the user when it fails or does not print text.
pub fn printed_by(command: &str, what: &str) -> Fallible<Zeroizing<String>> {
    let mut shell = Command::new("/bin/sh");
    withhold_secrets(&mut shell);
    let output = shell.arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| usage(format!("{what} could not be started: {error}")))?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(usage(format!("{what} failed with {}", output.status)));
    }
    let text = std::str::from_utf8(&printed).map_err(|_| usage(format!("{what} did not print UTF-8")))?;
    Ok(Zeroizing::new(text.to_owned()))
}
