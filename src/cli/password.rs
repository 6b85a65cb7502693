//! Where the passphrase comes from: a file, a command, the environment, a systemd credential, or the terminal.
//!
//! Never from an argument, which every user of the machine can read. An option comes before a variable, a variable
//! before the configuration, that before a credential, a credential before the terminal. Two options, variables or keys of the
//! configuration are refused: one of them would be wrong, and nobody would see which was taken.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use zeroize::Zeroizing;

use crate::blocking::blocking;
use crate::cli::environment::Environment;
use crate::cli::exit::usage;
use crate::cli::failure::{Failure, Fallible};
use crate::cli::given_options::GivenOptions;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::question;
use crate::cli::secret_command::printed_by;
use crate::crypto::identity::{IdentityError, IdentityFile, Recipient};
use crate::crypto::secret::Passphrase;
use crate::crypto::slot::{Opener, check_recovery_identity, resembles_recovery_identity};

/// Name of the systemd credential (`LoadCredential=coffre-password:…`).
const CREDENTIAL: &str = "coffre-password";
/// Variable that holds the passphrase itself.
const VARIABLE: &str = "COFFRE_PASSWORD";
/// What is wanted where nobody can be asked for the passphrase of a private key.
const FOR_KEY: &str = "set COFFRE_PASSWORD_FILE, COFFRE_PASSWORD_COMMAND or COFFRE_PASSWORD to it, or use a terminal";
/// What is wanted where nothing is.
const EMPTY: &str = "the passphrase, or the recovery identity, is the first line, and nothing else";
/// Characters below which a new passphrase is called short. Five words of a list of 7776 have 20 and more, and 64 bits.
const SHORT: usize = 16;
/// Different characters below which a new passphrase is called monotonous.
const MONOTONOUS: usize = 6;

/// Flags that say where the passphrase is, or what is used in its place.
#[derive(Debug, clap::Args)]
pub struct PasswordArgs {
    /// File with a private key of age or SSH, for a repository whose fingerprint is known; the passphrase is then the one that protects
    /// the key, if one does
    #[arg(long, global = true, env = "COFFRE_IDENTITY_FILE", value_name = "FILE")]
    identity_file: Option<PathBuf>,
    /// File whose first line is the passphrase, or the recovery identity
    #[arg(long, global = true, env = "COFFRE_PASSWORD_FILE", value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Shell command whose first line of output is the passphrase
    #[arg(long, global = true, env = "COFFRE_PASSWORD_COMMAND", value_name = "COMMAND")]
    password_command: Option<String>,
    /// Where file and command were said, in this order.
    #[arg(skip)]
    said: [Option<ValueSource>; 2],
}

impl PasswordArgs {
    /// Notes which of the two were typed, which come from variables, and which from the configuration.
    pub fn note_sources(&mut self, matches: &ArgMatches) {
        self.said = ["password_file", "password_command"].map(|id| matches.value_source(id));
    }
}

/// One place where a passphrase can be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PasswordSource {
    File(PathBuf),
    Command(String),
    Text(Passphrase),
    /// A variable that holds something else than text.
    NotText,
}

/// Everything that was given, before one of it is chosen. No secret was read yet but one that a variable holds.
#[derive(Default, PartialEq, Eq)]
pub struct PasswordsGiven {
    /// What flags and variables say.
    said: GivenOptions<PasswordSource>,
    /// The file of the systemd credential.
    credential: Option<PathBuf>,
    /// The file of a private key.
    identity: Option<PathBuf>,
}

impl std::fmt::Debug for PasswordsGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.said, f)
    }
}

impl PasswordsGiven {
    /// Gathers what flags and environment say.
    pub fn of(args: PasswordArgs, environment: &Environment) -> Self {
        let identity = args.identity_file.filter(|path| !path.as_os_str().is_empty());
        let (file, command) =
            (args.password_file.map(PasswordSource::File), args.password_command.map(PasswordSource::Command));
        let [file_from, command_from] = args.said;
        let mut said = GivenOptions::of([
            (file, ["--password-file", "COFFRE_PASSWORD_FILE"], file_from),
            (command, ["--password-command", "COFFRE_PASSWORD_COMMAND"], command_from),
        ]);
        if let Some(value) = environment.var_os(VARIABLE) {
            let text = value.into_string().map(Passphrase::new);
            said.variables.push((VARIABLE, text.map_or(PasswordSource::NotText, PasswordSource::Text)));
        }
        Self { said, credential: environment.credential(CREDENTIAL), identity }
    }

    /// Returns the file that holds the passphrase, if one was named.
    pub fn file(&self) -> Option<&Path> {
        self.said.iter().find_map(|source| match source {
            PasswordSource::File(path) => Some(path.as_path()),
            PasswordSource::Command(_) | PasswordSource::Text(_) | PasswordSource::NotText => None,
        })
    }

    /// Returns the file of the private key, if one was named.
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// Chooses the source that counts, or says which two contradict each other.
    fn choose(&self) -> Result<Option<PasswordSource>, String> {
        let chosen = self.said.choose()?.cloned();
        Ok(chosen.or_else(|| self.credential.clone().map(PasswordSource::File)))
    }
}

/// Returns what opens an existing repository: a private key if one was named, else a passphrase.
pub async fn opener(given: &PasswordsGiven, monitor: &ConsoleMonitor) -> Fallible<Opener> {
    let Some(path) = &given.identity else {
        return Ok(Opener::Passphrase(get(given, monitor).await?));
    };
    let protected = match read_identity(path)? {
        IdentityFile::Open(identities) => return Ok(Opener::Identities(identities)),
        IdentityFile::Protected(protected) => protected,
    };
    let passphrase = match read(given)? {
        Some(passphrase) => passphrase,
        None if !can_ask() => {
            let message = format!("a passphrase protects the private key in {}", path.display());
            return Err(usage(message).hinting(FOR_KEY));
        }
        None => prompt(monitor, &format!("passphrase of {}: ", path.display())).await?,
    };
    let opened = blocking(move || protected.open(&passphrase)).await;
    match opened.map_err(|error| no_identity(path, &error))? {
        Some(identities) => Ok(Opener::Identities(identities)),
        None => Err(usage(format!("the passphrase does not open the private key in {}", path.display()))),
    }
}

fn read_identity(path: &Path) -> Fallible<IdentityFile> {
    let content = std::fs::read(path).map(Zeroizing::new);
    let content = content
        .map_err(|error| usage(format!("the private key could not be read from {}: {error}", path.display())))?;
    IdentityFile::read(&content).map_err(|error| no_identity(path, &error))
}

fn no_identity(path: &Path, error: &IdentityError) -> Failure {
    usage(format!("{} cannot be used as a private key: {error}", path.display()))
}

/// Reads a public key, or the file that holds one, such as `id_ed25519.pub`.
pub fn read_recipient(given: &str) -> Fallible<Recipient> {
    let wrong = |error: IdentityError| usage(format!("{given:?} cannot be used as a public key: {error}"));
    if given.starts_with("age1") || given.starts_with("ssh-") || !Path::new(given).exists() {
        return Recipient::parse(given).map_err(wrong);
    }
    let text = std::fs::read_to_string(given)
        .map_err(|error| usage(format!("the public key could not be read from {given}: {error}")))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = Recipient::parse(lines.next().unwrap_or_default()).map_err(wrong)?;
    match lines.next() {
        None => Ok(key),
        Some(_) => Err(usage(format!("{given} has more than one public key: give each by itself"))),
    }
}

/// Returns the passphrase of an existing repository.
pub async fn get(given: &PasswordsGiven, monitor: &ConsoleMonitor) -> Fallible<Passphrase> {
    match read(given)? {
        Some(passphrase) => Ok(passphrase),
        None => prompt(monitor, "passphrase or recovery identity: ").await,
    }
}

/// Returns the recovery identity that somebody holds: from the sources of a passphrase if that is what they have, else
/// asked for.
pub async fn get_identity(given: &PasswordsGiven, monitor: &ConsoleMonitor) -> Fallible<Passphrase> {
    match read(given) {
        Ok(Some(found)) if check_recovery_identity(found.expose()).is_some() => Ok(found),
        // One with typing errors, which is told when it opens nothing.
        Ok(Some(found)) if resembles_recovery_identity(found.expose()) => Ok(found),
        _ if !can_ask() => {
            Err(usage("no recovery identity: use a terminal, or put it into the file of COFFRE_PASSWORD_FILE"))
        }
        _ => prompt(monitor, "recovery identity: ").await,
    }
}

/// Returns the passphrase for a new repository; one that is typed is asked for twice.
pub async fn get_new(given: &PasswordsGiven, monitor: &ConsoleMonitor) -> Fallible<Passphrase> {
    if given.identity.is_some() {
        return Err(usage("a private key opens no repository before `coffre key add --recipient` made a slot for it")
            .hinting("make the repository with a passphrase, without --identity-file and COFFRE_IDENTITY_FILE"));
    }
    new(read(given)?, monitor).await
}

/// Returns a new passphrase for a repository that there is: from a file, or typed twice. Says when it is weak.
pub async fn get_changed(file: Option<&Path>, monitor: &ConsoleMonitor) -> Fallible<Passphrase> {
    if file.is_none() && !can_ask() {
        return Err(usage("no new passphrase: use a terminal, or give --new-password-file FILE"));
    }
    let passphrase = new(file.map(from_file).transpose()?, monitor).await?;
    if let Some(weakness) = weakness(&passphrase) {
        monitor.note(&weakness);
    }
    Ok(passphrase)
}

async fn new(given: Option<Passphrase>, monitor: &ConsoleMonitor) -> Fallible<Passphrase> {
    let passphrase = match given {
        Some(passphrase) => passphrase,
        None => {
            let first = prompt(monitor, "new passphrase: ").await?;
            let again = prompt(monitor, "the same again: ").await?;
            if first != again {
                return Err(usage("the two passphrases differ"));
            }
            first
        }
    };
    if check_recovery_identity(passphrase.expose()).is_some() {
        return Err(usage(
            "this looks like a recovery identity; a new repository gets one of its own: choose a passphrase",
        ));
    }
    Ok(passphrase)
}

/// Says what makes a new passphrase easy to guess, as far as its length and its characters tell.
pub fn weakness(passphrase: &Passphrase) -> Option<String> {
    let text = passphrase.expose();
    let length = text.chars().count();
    let different = text.chars().collect::<std::collections::BTreeSet<_>>().len();
    let what = match (length, different) {
        (1, _) => "one character".to_owned(),
        (..SHORT, _) => format!("{length} characters"),
        (_, ..MONOTONOUS) => "so few different characters".to_owned(),
        _ => return None,
    };
    Some(format!(
        "a passphrase of {what} is weak: whoever gets at the store can guess as often as they like; five words or more are strong"
    ))
}

/// Returns what opens a repository if a file, a variable or a credential has it: asks nobody and runs nothing.
pub fn at_hand(given: &PasswordsGiven) -> Option<Opener> {
    if let Some(path) = &given.identity {
        return match read_identity(path).ok()? {
            IdentityFile::Open(identities) => Some(Opener::Identities(identities)),
            IdentityFile::Protected(_) => None,
        };
    }
    match given.choose().ok()?? {
        PasswordSource::Command(_) => None,
        source => from(source).ok().map(Opener::Passphrase),
    }
}

fn read(given: &PasswordsGiven) -> Fallible<Option<Passphrase>> {
    given.choose().map_err(usage)?.map(from).transpose()
}

fn from(source: PasswordSource) -> Fallible<Passphrase> {
    match source {
        PasswordSource::File(path) => from_file(&path),
        PasswordSource::Command(command) => from_command(&command),
        PasswordSource::Text(text) => checked(text.expose(), VARIABLE),
        PasswordSource::NotText => Err(usage(format!("{VARIABLE} is not UTF-8"))),
    }
}

/// Reads the first line of a file that holds a secret.
///
/// # Errors
/// One for the user when it cannot be read, or is not text.
pub fn read_secret(path: &Path, what: &str) -> Fallible<Zeroizing<String>> {
    let content = std::fs::read(path).map(Zeroizing::new);
    let content =
        content.map_err(|error| usage(format!("{what} could not be read from {}: {error}", path.display())))?;
    let text = std::str::from_utf8(&content)
        .map_err(|_| usage(format!("{what} in {} is not UTF-8; save the file as UTF-8", path.display())))?;
    Ok(Zeroizing::new(first_line(text).to_owned()))
}

/// Returns the first line, without the byte order mark that editors of Windows put before it, nor its line end.
fn first_line(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines().next().unwrap_or_default()
}

fn from_file(path: &Path) -> Fallible<Passphrase> {
    checked(&read_secret(path, "the passphrase")?, &path.display().to_string())
}

fn from_command(command: &str) -> Fallible<Passphrase> {
    checked(&printed_by(command, "the password command")?, "what the password command printed")
}

fn can_ask() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}

async fn prompt(monitor: &ConsoleMonitor, question: &str) -> Fallible<Passphrase> {
    if !can_ask() {
        return Err(usage(
            "no passphrase: set COFFRE_PASSWORD_FILE, COFFRE_PASSWORD_COMMAND or COFFRE_PASSWORD, or use a terminal",
        ));
    }
    let typed = question::ask_secret(monitor, question).await?;
    checked(&typed, "the passphrase")
}

fn checked(text: &str, origin: &str) -> Fallible<Passphrase> {
    let passphrase = Passphrase::new(first_line(text).to_owned());
    if passphrase.is_empty() {
        return Err(usage(format!("{origin} is empty")).hinting(EMPTY));
    }
    Ok(passphrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> PasswordSource {
        PasswordSource::Text(Passphrase::new(name.to_owned()))
    }

    #[test]
    fn an_option_beats_a_variable_and_two_of_a_kind_are_refused() {
        let (file, command) = (("--password-file", source("f")), ("--password-command", source("c")));
        let (vfile, vtext) = (("COFFRE_PASSWORD_FILE", source("vf")), ("COFFRE_PASSWORD", source("vt")));
        let credential = Some(PathBuf::from("/run/c"));
        let choose =
            |options: &[&(&'static str, PasswordSource)], variables: &[&(&'static str, PasswordSource)], credential| {
                let owned =
                    |named: &[&(&'static str, PasswordSource)]| named.iter().map(|&it| it.clone()).collect::<Vec<_>>();
                let (options, variables) = (owned(options), owned(variables));
                let said = GivenOptions { options, variables, configured: Vec::new() };
                PasswordsGiven { said, credential, identity: None }.choose()
            };
        assert_eq!(choose(&[], &[], None), Ok(None));
        assert_eq!(choose(&[], &[], credential.clone()), Ok(Some(PasswordSource::File("/run/c".into()))));
        assert_eq!(choose(&[], &[&vtext], credential.clone()), Ok(Some(source("vt"))));
        assert_eq!(choose(&[&command], &[&vfile], None), Ok(Some(source("c"))));
        // An option settles what the variables leave open.
        assert_eq!(choose(&[&file], &[&vfile, &vtext], credential), Ok(Some(source("f"))));
        let refused = choose(&[&file, &command], &[], None).expect_err("two options");
        assert_eq!(refused, "--password-file and --password-command are both given; keep the one that is meant");
        let refused = choose(&[], &[&vfile, &vtext], None).expect_err("two variables");
        assert!(refused.starts_with("COFFRE_PASSWORD_FILE and COFFRE_PASSWORD are"), "{refused}");

        let credential = Some(PathBuf::from("/run/c"));
        let said = GivenOptions { configured: vec![("password-file", source("k"))], ..Default::default() };
        let mut given = PasswordsGiven { said, credential, identity: None };
        assert_eq!(given.choose(), Ok(Some(source("k"))), "the configuration comes before a credential");
        given.said.variables.push(vfile);
        assert_eq!(given.choose(), Ok(Some(source("vf"))), "and behind a variable");
    }

    #[test]
    fn a_passphrase_is_not_shown_with_where_it_comes_from() {
        let said = GivenOptions { variables: vec![(VARIABLE, source("hunter2"))], ..Default::default() };
        let given = PasswordsGiven { said, ..Default::default() };
        let shown = format!("{given:?}");
        assert!(shown.contains(VARIABLE) && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn a_secret_is_the_first_line_without_what_editors_put_around_it() {
        for text in ["word", "word\n", "word\r\n", "\u{feff}word\r\n", "word\nsecond line\n"] {
            assert_eq!(first_line(text), "word", "{text:?}");
        }
        assert_eq!(first_line(" two words "), " two words ");
        assert_eq!((first_line(""), first_line("\u{feff}"), first_line("\nx")), ("", "", ""));
    }

    #[test]
    fn what_is_easily_guessed_is_told() {
        let weakness = |text: &str| weakness(&Passphrase::new(text.to_owned()));
        for (text, said) in [
            ("p", "of one character is weak"),
            ("hunter2", "of 7 characters is weak"),
            ("aaaaaaaaaaaaaaaaaaaaaaaa", "of so few different characters is weak"),
        ] {
            assert!(weakness(text).is_some_and(|told| told.contains(said)), "{text}");
        }
        assert_eq!(weakness("correct horse battery staple"), None);
        assert_eq!(weakness("crème brûlée, süß"), None);
    }
}
