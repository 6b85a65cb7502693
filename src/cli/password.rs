//! Where the passphrase comes from: a file, a command, the environment, a systemd credential, or the terminal.
//!
//! Never from an argument, which every user of the machine can read.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::cli::exit::usage;
use crate::crypto::secret::Passphrase;

/// Name of the systemd credential (`LoadCredential=coffre-password:…`).
const CREDENTIAL: &str = "coffre-password";

/// Flags that say where the passphrase is.
#[derive(Debug, clap::Args)]
pub struct PasswordArgs {
    /// File whose first line is the passphrase, or the recovery identity
    #[arg(long, global = true, env = "COFFRE_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Shell command that prints the passphrase
    #[arg(long, global = true, env = "COFFRE_PASSWORD_COMMAND", value_name = "COMMAND")]
    password_command: Option<String>,
}

/// Returns the passphrase of an existing repository.
pub fn get(args: &PasswordArgs) -> anyhow::Result<Passphrase> {
    match given(args)? {
        Some(passphrase) => Ok(passphrase),
        None => prompt("passphrase or recovery identity: "),
    }
}

/// Returns the passphrase for a new repository; one that is typed is asked for twice.
pub fn get_new(args: &PasswordArgs) -> anyhow::Result<Passphrase> {
    if let Some(passphrase) = given(args)? {
        return Ok(passphrase);
    }
    let first = prompt("new passphrase: ")?;
    let again = prompt("the same again: ")?;
    if first.expose() != again.expose() {
        return Err(usage("the two passphrases differ"));
    }
    Ok(first)
}

fn given(args: &PasswordArgs) -> anyhow::Result<Option<Passphrase>> {
    if let Some(path) = &args.password_file {
        return from_file(path).map(Some);
    }
    if let Some(command) = &args.password_command {
        return from_command(command).map(Some);
    }
    if let Some(value) = std::env::var_os("COFFRE_PASSWORD") {
        let value = value.into_string().map_err(|_| usage("COFFRE_PASSWORD is not UTF-8"))?;
        return checked(value, "COFFRE_PASSWORD").map(Some);
    }
    match credential(CREDENTIAL) {
        Some(path) => from_file(&path).map(Some),
        None => Ok(None),
    }
}

/// Returns the file of a systemd credential, if there is one of this name.
pub fn credential(name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    Some(Path::new(&directory).join(name)).filter(|path| path.exists())
}

fn from_file(path: &Path) -> anyhow::Result<Passphrase> {
    let content = std::fs::read_to_string(path).map(Zeroizing::new);
    let content = content.with_context(|| format!("reading the passphrase from {}", path.display()))?;
    checked(content.lines().next().unwrap_or_default().to_owned(), &path.display().to_string())
}

fn from_command(command: &str) -> anyhow::Result<Passphrase> {
    let output = Command::new("/bin/sh").arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("starting the password command")?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        bail!("the password command failed with {}", output.status);
    }
    let text = std::str::from_utf8(&printed).map_err(|_| usage("the password command did not print UTF-8"))?;
    checked(text.lines().next().unwrap_or_default().to_owned(), "the password command")
}

fn prompt(question: &str) -> anyhow::Result<Passphrase> {
    if !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
        return Err(usage(
            "no passphrase: set COFFRE_PASSWORD_FILE, COFFRE_PASSWORD_COMMAND or COFFRE_PASSWORD, or use a terminal",
        ));
    }
    checked(rpassword::prompt_password(question).context("asking for the passphrase")?, "the passphrase")
}

fn checked(text: String, origin: &str) -> anyhow::Result<Passphrase> {
    let passphrase = Passphrase::new(text);
    if passphrase.is_empty() {
        return Err(usage(format!("{origin} is empty")));
    }
    Ok(passphrase)
}
