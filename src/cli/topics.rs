//! What belongs to no single command: variables, credentials, files, locations, words. Shown by `coffre help TOPIC` and on
//! the manual page coffre(1).

use std::sync::Arc;

use clap::Command;

use crate::cli::arguments::variables;
use crate::cli::exit;
use crate::cli::page::{Block, Page, Section};
use crate::engine::{Engine, Engines, ServerWords};
use crate::store::s3::provider::PROVIDERS;

/// What the page of the program says first.
pub const DESCRIPTION: [&str; 2] = [
    "It keeps backups of file trees, databases and the output of commands at one place, encrypted before they leave this machine; \
     what is there already is not stored twice. A repository opens with its passphrase, or with the recovery identity that `coffre \
     init` shows once and writes on a page for the safe.",
    "Results go to standard output, everything else to standard error; with --json each result is one object on a line of its own.",
];

/// Examples on the page of the program.
pub const EXAMPLES: [&str; 6] = [
    "export COFFRE_REPO=/mnt/disk/backup COFFRE_PASSWORD_FILE=~/passphrase",
    "coffre init --recovery-kit kit.txt",
    "coffre backup /srv/shop --job nightly --postgres postgresql://backup@db1/shop",
    "coffre snapshots",
    "coffre restore latest:/srv/shop --target /srv/restored",
    "coffre verify --read-data=5%",
];

/// The topics of `coffre help`, and what each is about.
pub const TOPICS: [(&str, &str); 4] = [
    ("environment", "variables, systemd credentials and files"),
    ("locations", "how a repository's place is written, and the providers known by name"),
    ("words", "what a snapshot, a job, a tag and a host are"),
    ("exit-codes", "what the number means with which a command ends"),
];

/// Returns the page of a topic.
pub fn page(topic: &str, program: &Command) -> Option<Page> {
    let sections = match topic {
        "environment" => vec![environment(program), credentials(), files()],
        "locations" => vec![locations()],
        "words" => vec![words()],
        "exit-codes" => vec![exit_status()],
        _ => return None,
    };
    Some(Page { sections })
}

/// Returns what the page of the program has beside its options.
pub fn program_sections(program: &Command) -> Vec<Section> {
    vec![words(), locations(), environment(program), credentials(), files()]
}

/// Returns the engines that have servers: name, label and what is told of their servers.
fn servers() -> impl Iterator<Item = (&'static str, &'static str, &'static ServerWords)> {
    let words = |engine: &Arc<dyn Engine>| Some((engine.name(), engine.words().label, engine.words().server.as_ref()?));
    Engines::default().iter().filter_map(words).collect::<Vec<_>>().into_iter()
}

fn entries(texts: &[(&str, &str)]) -> Vec<Block> {
    texts.iter().map(|(term, meaning)| Block::Entry((*term).to_owned(), (*meaning).to_owned())).collect()
}

fn environment(program: &Command) -> Section {
    let mut blocks =
        vec![Block::Text("An option comes before its variable, a variable before the configuration.".into())];
    // Those of every command, then those of single ones, each once.
    let mut named = variables(program, true);
    named.extend(entries(&[
        (
            "COFFRE_PASSWORD",
            "The passphrase itself. A file is better: other processes of the same user can read an environment.",
        ),
        ("COFFRE_COMPLETION_SECONDS", "Seconds that completion in a shell waits for the store, in place of 3."),
    ]));
    named.extend(servers().map(|(_, label, words)| {
        Block::Entry(words.programs.into(), format!("Directory of the client programs of {label}."))
    }));
    for verb in program.get_subcommands() {
        for block in variables(verb, false) {
            let name = |block: &Block| match block {
                Block::Entry(name, _) => name.clone(),
                _ => String::new(),
            };
            if !named.iter().any(|known| name(known) == name(&block)) {
                named.push(block);
            }
        }
    }
    blocks.extend(named);
    blocks.extend(entries(&[
        (
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
            "Keys to the bucket. Programs that coffre runs do not get them, nor AWS_SECURITY_TOKEN, nor secrets in COFFRE_ variables.",
        ),
        ("AWS_PROFILE", "Profile of the shared credentials file to take them from instead."),
        ("AWS_SHARED_CREDENTIALS_FILE", "That file, in place of ~/.aws/credentials."),
        ("AWS_REGION, AWS_DEFAULT_REGION", "Region to sign for at an endpoint that is not known by name."),
        ("AWS_CA_BUNDLE", "Certificates (PEM) to trust for the store, where --ca-file is not given."),
        (
            "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
            "Proxies to buckets with TLS, without it, or both, and the hosts that are reached without them; also in lower case.",
        ),
        ("CREDENTIALS_DIRECTORY", "Set by systemd: see CREDENTIALS."),
        (
            "CACHE_DIRECTORY, XDG_CACHE_HOME",
            "Where the cache is, the first set by systemd; --cache-dir comes before both.",
        ),
        (
            "STATE_DIRECTORY, XDG_STATE_HOME",
            "Where it is remembered which repository is at which place and how far it was, the first set by systemd; --state-dir comes before both.",
        ),
        ("XDG_CONFIG_HOME", "Where the user's configuration is, in place of ~/.config."),
        ("HOME", "Where ~ is; without it, the home directory in the password file."),
        ("NO_COLOR", "Set to anything, errors have no colours; nor have they where TERM is dumb or not set."),
        ("COLUMNS", "How wide tables are where standard output is no terminal; else they are as wide as they get."),
        ("TMPDIR", "Where files are spooled, in place of /var/tmp; --spool-dir comes before it."),
        ("PATH", "Where client programs of databases and the programs of --command are looked for."),
    ]));
    blocks.extend(servers().flat_map(|(_, _, words)| entries(words.variables)));
    blocks.extend(entries(&[
        ("COFFRE_HOOK, COFFRE_JOB", "Set for hooks of `coffre run`: which hook it is, and of which job."),
        (
            "COFFRE_OUTCOME, COFFRE_EXIT_CODE, COFFRE_SNAPSHOT, COFFRE_ERROR",
            "Set for those behind a job: how it ended, with its snapshot or why it failed.",
        ),
    ]));
    blocks.extend(entries(&[(
        "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
        "Set by systemd: where `coffre run` tells how far it is, and how often that it is alive.",
    )]));
    blocks.extend(entries(&[("LC_ALL", "Set for clients of databases, whose messages are read.")]));
    blocks.push(Block::Text(
        "The passphrase comes from the first of these that is there: --password-file or --password-command; COFFRE_PASSWORD_FILE, \
         COFFRE_PASSWORD_COMMAND or COFFRE_PASSWORD; password-file or password-command of the configuration; the credential \
         coffre-password; the terminal. Two options, or two variables, are refused. Only the first line counts, without its line end. \
         With --identity-file, or COFFRE_IDENTITY_FILE, a private key of age or SSH opens the repository, and the passphrase is the one \
         that protects that key, where one does."
            .into(),
    ));
    blocks.push(Block::Text(
        "The keys to a bucket come from the first of these that is there: --profile or --s3-keys-command; COFFRE_S3_KEYS_COMMAND; profile or \
         s3-keys-command of the configuration; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the credential coffre-s3; the profile of \
         AWS_PROFILE, or default, in ~/.aws/credentials. Two options, or two keys of the configuration, are refused. The command prints the \
         lines aws_access_key_id = … and aws_secret_access_key = …, or the object that AWS calls a credential_process; it is run each time \
         that the bucket is opened, and not to complete a command line."
            .into(),
    ));
    Section::new("ENVIRONMENT", blocks)
}

fn credentials() -> Section {
    let mut blocks = vec![Block::Text(
        "Of a systemd unit, as in LoadCredential=coffre-password:/etc/credstore/coffre-password:".into(),
    )];
    blocks.extend(entries(&[
        ("coffre-password", "The passphrase of the repository, or its recovery identity."),
        ("coffre-s3", "Keys to the bucket: the lines aws_access_key_id = … and aws_secret_access_key = …"),
    ]));
    let passwords: Vec<String> = servers().map(|(name, ..)| format!("coffre-{name}-password")).collect();
    blocks.push(Block::Entry(passwords.join(", "), "The password of the user in the URL of a database.".into()));
    Section::new("CREDENTIALS", blocks)
}

fn files() -> Section {
    let blocks = entries(&[
        (
            "~/.cache/coffre/",
            "Copies of the index and of last trees, one directory for each repository. It can be deleted at any time.",
        ),
        (
            "/var/cache/coffre/, /var/lib/coffre/",
            "Cache and state of units of the system. Root takes them in place of those at home where they are there, so that what is typed and what a timer starts are one machine.",
        ),
        (
            "~/.local/state/coffre/known_repositories",
            "Which repository was at which place, a line each. Another one there is refused; it holds no secret.",
        ),
        ("~/.aws/credentials", "Keys to buckets, by profile."),
        ("/etc/credstore/", "Where systemd finds the files of credentials."),
        (
            "/etc/coffre/coffre.toml, ~/.config/coffre/coffre.toml",
            "The configuration of the machine and of the user, and *.toml in conf.d/ beside each: `coffre config example`.",
        ),
        (
            "/etc/coffre/",
            "coffre.env, where the backups are, and JOB.env, what a job backs up: read by the units of the Debian package.",
        ),
    ]);
    Section::new("FILES", blocks)
}

fn locations() -> Section {
    let mut blocks = entries(&[
        ("/srv/backup", "A directory; also file:///srv/backup, or a relative path."),
        ("s3://PROVIDER/BUCKET/PREFIX", "A bucket at one of the providers below, whose peculiarities are known."),
        ("s3://HOST:PORT/BUCKET/PREFIX", "A bucket at any endpoint, over TLS."),
        ("s3+http://HOST:PORT/BUCKET/PREFIX", "The same without TLS."),
    ]);
    blocks.push(Block::Text("Providers:".into()));
    blocks.extend(PROVIDERS.iter().map(|known| {
        let country = known.country.unwrap_or_default();
        Block::Entry(known.name.into(), format!("{}, {country}, {}", known.label, known.endpoint.unwrap_or_default()))
    }));
    Section::new("LOCATIONS", blocks)
}

fn words() -> Section {
    let blocks = entries(&[
        (
            "snapshot",
            "What one run of `coffre backup` stored. It is named by an id, or by the first digits of it; `latest` is the \
          newest one that is complete, of all or of those that --host, --job, --tag and --path leave.",
        ),
        (
            "job",
            "The name of a backup that is made again and again, such as nightly: --job. A run compares itself with the last one \
          of the same host, job and sources: what has not changed is not read again, what shrank is told. Give each line of a \
          crontab, and each unit, a job of its own.",
        ),
        (
            "tag",
            "A label for people, such as before-upgrade: --tag, as many as wanted. It changes nothing but what can be searched for.",
        ),
        ("host", "The machine that the data came from: its name, unless --host gives another."),
        ("stream", "What standard input, a command or a database gave, stored under a name."),
        (
            "repository",
            "Everything that is stored in one place under one passphrase. Several hosts and jobs can share one; then \
          each of them can read what the others stored.",
        ),
    ]);
    Section::new("WORDS", blocks)
}

/// Returns what the exit codes mean.
pub fn exit_status() -> Section {
    let codes = exit::HELP.trim_start_matches("Exit codes: ").split("; ");
    let entry =
        |code: &str| code.split_once(' ').map(|(number, meaning)| Block::Entry(number.into(), format!("{meaning}.")));
    Section::new("EXIT STATUS", codes.filter_map(entry).collect())
}
