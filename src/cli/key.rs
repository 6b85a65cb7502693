//! `coffre key`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::recovery_kit::KIT;
use crate::cli::secret_file::{SecretFile, written};
use crate::cli::settings::Settings;
use crate::cli::table::{self, Column};
use crate::cli::{events, kit, output, password};
use crate::crypto::slot::{
    Opener, OpensWith, SlotLock, check_recovery_identity, new_host_secret, new_recovery_identity,
};
use crate::format::keyring::SlotName;
use crate::format::slot::Role;
use crate::format::writer::WriterName;
use crate::model::id::{SlotId, WriterId};
use crate::model::time::{Clock, Timestamp};
use crate::progress::Monitor;
use crate::repository::key_slots::{KnownSlot, RemovedSlot, SlotState};
use crate::repository::revoking::{RevokedWriter, StillCounting};
use crate::repository::writers::{KnownWriter, NewWriter, SlotPlace};
use crate::repository::{MAIN_DOMAIN, Repository};
use crate::store::OpenMode;

/// Flags of `key`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
A key slot holds the key to everything, or the key of a host that backs up and reads nothing, and opens with a passphrase of its own. \
Whoever gets a slot removed keeps what they know: a copy of the slot that somebody made earlier still opens with its passphrase.

Examples:
  coffre key list
  coffre key add --label 'Alice, operations'
  coffre key add --recovery --recovery-kit kit.txt
  coffre key add --recipient ~/.ssh/id_ed25519.pub --label 'Alice, laptop'
  coffre key add --writer web1 --host web1 --to web1.secret
  coffre key passwd
  coffre key remove 3f9c21d0
  coffre key revoke-writer web1
  coffre key revoke-writer web1 --since '2026-11-24 02:15'"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List key slots and the hosts that back up with keys of their own
    List,
    /// Add a passphrase, a public key, a new recovery identity, or a host that backs up and reads nothing
    Add(AddArgs),
    /// Change the passphrase that the repository was opened with
    Passwd(PasswdArgs),
    /// Remove a key slot: its passphrase opens nothing any more
    Remove(RemoveArgs),
    /// Throw out a host that backs up with a key of its own: its snapshots count as before, what it writes from now on counts for
    /// nothing
    RevokeWriter(RevokeArgs),
}

/// Flags of `key add`.
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// File whose first line is the new passphrase, in place of asking for it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recovery", "to"])]
    new_password_file: Option<PathBuf>,
    /// Public key of age or SSH, or a file that holds one, whose private key is to open the repository: where its fingerprint is known
    #[arg(long, value_name = "KEY", conflicts_with_all = ["recovery", "writer", "new_password_file"])]
    recipient: Option<String>,
    /// What the slot is for, as `coffre key list` shows it
    #[arg(long, value_name = "TEXT", conflicts_with = "recovery")]
    label: Option<String>,
    /// Make a new recovery identity, besides the one that there is
    #[arg(long)]
    recovery: bool,
    /// Write the new recovery identity and the restore commands to this file, to be printed
    #[arg(long, value_name = "FILE", requires = "recovery")]
    recovery_kit: Option<PathBuf>,
    /// Print a new secret although standard output is not a terminal, so that it may end up in a log
    #[arg(long, conflicts_with_all = ["recovery_kit", "to", "new_password_file"])]
    show_identity: bool,
    /// Add a host, or a group of hosts, of this name, which backs up with a key of its own and reads nothing
    #[arg(long, value_name = "NAME", conflicts_with_all = ["recovery", "label"])]
    writer: Option<String>,
    /// Host that its snapshots may be of (repeatable); any without one
    #[arg(long, value_name = "HOST", requires = "writer")]
    host: Vec<String>,
    /// Number of the group of hosts that rely on what each other stored; alone without one
    #[arg(long, value_name = "N", requires = "writer")]
    group: Option<u64>,
    /// Write the secret of the host to this new file, which only you may read, to be carried there
    #[arg(long, value_name = "FILE", requires = "writer")]
    to: Option<PathBuf>,
}

/// Flags of `key passwd`.
#[derive(Debug, clap::Args)]
struct PasswdArgs {
    /// File whose first line is the new passphrase, in place of asking for it
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Flags of `key remove`.
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The slot, or the first digits of it
    slot: String,
}

/// Flags of `key revoke-writer`.
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// The writer's name or id
    writer: String,
    /// Let its snapshots that began at this time or later count for nothing as well, such as '2026-11-24 02:15': since when somebody else
    /// may have been on the host
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Timestamp>,
    /// Let none of its snapshots count any more
    #[arg(long, conflicts_with = "since")]
    none: bool,
}

/// Reads a moment in the past: local time, with or without a clock time, or one that says its zone.
fn parse_since(text: &str) -> Result<Timestamp, String> {
    let since = Timestamp::parse_local(text).ok_or("write it like 2026-11-24 02:15:00, or 2026-11-24T02:15:00Z")?;
    if since > Clock::System.now() { Err("it lies ahead of now".into()) } else { Ok(since) }
}

impl Args {
    /// Tells whether what it prints is all that it does.
    pub fn only_shows(&self) -> bool {
        matches!(self.what, What::List)
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let monitor = global.monitor();
    match args.what {
        What::List => list(global, &monitor).await,
        What::Add(args) => match args.writer.clone() {
            Some(name) => add_writer(global, &monitor, args, name).await,
            None if args.recovery => add_recovery(global, &monitor, args).await,
            None => add(global, &monitor, args).await,
        },
        What::Passwd(args) => passwd(global, &monitor, args).await,
        What::Remove(args) => remove(global, &monitor, &args.slot).await,
        What::RevokeWriter(args) => revoke(global, &monitor, &args).await,
    }
}

fn named(label: &str) -> SlotName {
    SlotName { label: label.to_owned(), made: Clock::System.now() }
}

async fn list(global: &Settings, monitor: &Arc<ConsoleMonitor>) -> Fallible<Exit> {
    let repository = global.repository(OpenMode::Read, monitor).await?;
    monitor.phase("reading key slots");
    let (slots, writers) = (repository.key_slots().await?, repository.writers()?);
    monitor.finish();
    let fingerprint = repository.fingerprint();
    if global.json {
        slots.iter().for_each(|slot| output::json(&slot_event(slot)));
        writers.iter().for_each(|writer| output::json(&writer_event(writer)));
        output::json(&events::Keys {
            fingerprint: fingerprint.to_string(),
            repository: repository.id().to_string(),
            slots: slots.len(),
            writers: writers.len(),
        });
        return Ok(Exit::Done);
    }
    let columns = [
        Column::left("SLOT"),
        Column::left("OPENS WITH"),
        Column::left("MAY"),
        Column::left("MADE"),
        Column::text("LABEL"),
        Column::left("STATE"),
    ];
    let row = |slot: &KnownSlot| {
        let made = if slot.state == SlotState::Unlisted { String::new() } else { slot.name.made.local_minute() };
        let state = if slot.is_own { "opened now".to_owned() } else { state(slot.state).to_owned() };
        let opens = opens(slot).unwrap_or_default().to_owned();
        vec![short(slot.id), opens, may(slot).to_owned(), made, slot.name.label.clone(), state]
    };
    table::print(&columns, &slots.iter().map(row).collect::<Vec<_>>());
    if slots.iter().any(|slot| matches!(slot.opens_with, Some(OpensWith::Identity(_)))) {
        output::line("");
        output::line(NOT_FOR_EVER);
    }
    if !writers.is_empty() {
        output::line("");
        let columns = [
            Column::left("WRITER"),
            Column::text("NAME"),
            Column::text("HOSTS"),
            Column::right("GROUP"),
            Column::left("STATE"),
        ];
        let row = |writer: &KnownWriter| {
            let hosts = if writer.name.hosts.is_empty() { "any".to_owned() } else { writer.name.hosts.join(", ") };
            let group = writer.group.map(|group| group.to_string()).unwrap_or_default();
            let state = if writer.is_revoked { "revoked" } else { "" };
            vec![writer.id.to_string(), writer.name.name.clone(), hosts, group, state.to_owned()]
        };
        table::print(&columns, &writers.iter().map(row).collect::<Vec<_>>());
    }
    output::line("");
    output::line(&format!("fingerprint {fingerprint}"));
    Ok(Exit::Done)
}

/// The first digits of a slot, as tables and commands have them.
fn short(slot: SlotId) -> String {
    slot.to_string()[..8].to_owned()
}

fn opens(slot: &KnownSlot) -> Option<&'static str> {
    Some(match (slot.opens_with.as_ref()?, slot.role) {
        (OpensWith::Passphrase, _) => "passphrase",
        (OpensWith::Random, Some(Role::Writer)) => "secret of a host",
        (OpensWith::Random, _) => "recovery identity",
        (OpensWith::Identity(kind), _) => kind.name(),
    })
}

fn may(slot: &KnownSlot) -> &'static str {
    match (slot.state, slot.role) {
        (SlotState::Unlisted, _) => "",
        (_, Some(Role::Reader)) => "everything",
        (_, Some(Role::Writer)) => "back up",
        (_, None) => "unknown",
    }
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Whole => "",
        SlotState::Missing => "MISSING",
        SlotState::Changed => "DAMAGED",
        SlotState::Unlisted => "not listed: removed, or put there by somebody else",
    }
}

fn slot_event(slot: &KnownSlot) -> events::KeySlot<'_> {
    events::KeySlot {
        id: slot.id.to_string(),
        label: &slot.name.label,
        made: (slot.state != SlotState::Unlisted).then(|| slot.name.made.to_string()),
        opened_now: slot.is_own,
        opens_with: opens(slot),
        role: slot.role.map(|role| match role {
            Role::Reader => "reader",
            Role::Writer => "writer",
        }),
        state: match slot.state {
            SlotState::Whole => "whole",
            SlotState::Missing => "missing",
            SlotState::Changed => "damaged",
            SlotState::Unlisted => "unlisted",
        },
    }
}

fn writer_event(writer: &KnownWriter) -> events::KnownWriter<'_> {
    events::KnownWriter {
        group: writer.group,
        hosts: &writer.name.hosts,
        id: writer.id.to_string(),
        name: &writer.name.name,
        revoked: writer.is_revoked,
    }
}

/// What was done, to be told.
#[derive(Default)]
struct KeyChange<'a> {
    did: &'static str,
    slot: Option<SlotId>,
    writer: Option<WriterId>,
    file: Option<String>,
    secret: Option<&'a str>,
    removed: Option<RemovedSlot>,
    revoked: Option<RevokedWriter>,
    lines: Vec<String>,
}

fn tell(global: &Settings, monitor: &ConsoleMonitor, repository: &Repository, told: KeyChange<'_>) {
    monitor.finish();
    let left = told.removed.as_ref().and_then(|removed| removed.left.as_ref());
    if let Some(error) = left {
        monitor.note(&format!(
            "the slot's object could not be deleted ({}): it is listed no more, and opens with its passphrase as long as it is there",
            error.clause()
        ));
    }
    if global.json {
        return output::json(&events::KeyChanged {
            counting: told.revoked.map(|revoked| revoked.counting),
            did: told.did,
            file: told.file,
            fingerprint: repository.fingerprint().to_string(),
            foreign: told.revoked.map(|revoked| revoked.foreign),
            object_left: left.is_some(),
            repository: repository.id().to_string(),
            secret: told.secret,
            slot: told.slot.map(|slot| slot.to_string()),
            writer: told.writer.map(|writer| writer.to_string()),
        });
    }
    if let Some(secret) = told.secret {
        output::line("");
        output::line(&format!("     {secret}"));
        output::line("");
    }
    if !global.quiet {
        told.lines.iter().for_each(|line| output::line(line));
    }
}

async fn add(global: &Settings, monitor: &Arc<ConsoleMonitor>, args: AddArgs) -> Fallible<Exit> {
    if args.show_identity {
        return Err(usage("--show-identity goes with --recovery or --writer"));
    }
    let recipient = args.recipient.as_deref().map(password::read_recipient).transpose()?;
    let repository = global.repository(OpenMode::Write, monitor).await?;
    let (lock, label) = match recipient {
        Some(recipient) => (SlotLock::Recipient(recipient.clone()), recipient.kind().name()),
        None => {
            let passphrase = password::get_changed(args.new_password_file.as_deref(), monitor).await?;
            (SlotLock::Passphrase(passphrase), "passphrase")
        }
    };
    monitor.phase("adding a key slot");
    let slot = repository.add_slot(&lock, &named(args.label.as_deref().unwrap_or(label))).await?;
    let lines = match lock {
        SlotLock::Recipient(_) => vec![
            format!("key slot {slot} added: the private key opens the repository, with --identity-file FILE"),
            format!(
                "where the repository was not opened before, give --fingerprint {} with it",
                repository.fingerprint()
            ),
            NOT_FOR_EVER.to_owned(),
        ],
        _ => vec![format!("key slot {slot} added: the new passphrase opens the repository, too")],
    };
    tell(global, monitor, &repository, KeyChange { did: "added", slot: Some(slot), lines, ..KeyChange::default() });
    Ok(Exit::Done)
}

const NOT_FOR_EVER: &str =
    "Age and SSH keys are not safe from quantum computers: a copy of such a slot opens with one, some day.";

/// Refuses to print a secret where nobody said that it may end up in a log.
fn may_show(global: &Settings, asked: bool, file: &str) -> Fallible<()> {
    let is_seen = std::io::stdout().is_terminal() && !global.quiet && !global.json;
    if is_seen || asked {
        return Ok(());
    }
    Err(usage(format!(
        "where to with the secret? It is shown only once: give {file} FILE, or --show-identity to have it printed"
    )))
}

async fn add_recovery(global: &Settings, monitor: &Arc<ConsoleMonitor>, args: AddArgs) -> Fallible<Exit> {
    if args.recovery_kit.is_none() {
        may_show(global, args.show_identity, "--recovery-kit")?;
    }
    let location = global.location()?;
    let repository = global.repository(OpenMode::Write, monitor).await?;
    let reserved = args.recovery_kit.as_deref().map(|path| SecretFile::reserve(path, KIT)).transpose()?;
    let identity = new_recovery_identity();
    let lock = SlotLock::Recovery(identity.clone());
    // The page is made first: then nothing but writing it can fail once there is an identity.
    let page = kit::page_for(global, &repository, &location, &identity, monitor).await?;
    monitor.phase("adding a key slot");
    let slot = repository.add_slot(&lock, &named("recovery identity")).await?;
    let (file, written) = written(reserved.map(|file| file.fill(&page)));
    let mut lines = vec![format!("key slot {slot} added: the new recovery identity opens the repository")];
    lines.extend(file.iter().map(|kit| format!("recovery kit written to {kit}: print it, then delete the file")));
    lines.push(
        "Identities printed earlier open it as well; `coffre key list` has them, `coffre key remove SLOT` removes one."
            .into(),
    );
    let secret = file.is_none().then(|| identity.expose());
    tell(
        global,
        monitor,
        &repository,
        KeyChange { did: "added", slot: Some(slot), file, secret, lines, ..KeyChange::default() },
    );
    written.map(|()| Exit::Done)
}

async fn add_writer(global: &Settings, monitor: &Arc<ConsoleMonitor>, args: AddArgs, name: String) -> Fallible<Exit> {
    if args.to.is_none() && args.new_password_file.is_none() {
        may_show(global, args.show_identity, "--to")?;
    }
    if name.is_empty() {
        return Err(usage("--writer needs a name"));
    }
    let repository = global.repository(OpenMode::Write, monitor).await?;
    if repository.writers()?.iter().any(|writer| writer.name.name == name && !writer.is_revoked) {
        return Err(usage(format!("there is a writer {name:?} already; `coffre key list` shows it")));
    }
    let chosen = match &args.new_password_file {
        Some(file) => Some(password::get_changed(Some(file), monitor).await?),
        None => None,
    };
    let reserved = args.to.as_deref().map(|path| SecretFile::reserve(path, "the secret")).transpose()?;
    let secret = chosen.clone().unwrap_or_else(new_host_secret);
    let lock = match chosen {
        Some(passphrase) => SlotLock::Passphrase(passphrase),
        None => SlotLock::Recovery(secret.clone()),
    };
    monitor.phase("adding a writer");
    let new = NewWriter {
        name: WriterName { name: name.clone(), hosts: args.host.clone() },
        domains: vec![MAIN_DOMAIN.to_owned()],
        group: args.group,
        made: Clock::System.now(),
    };
    let added = repository.add_writer(&new, &lock, SlotPlace::Repository).await?;
    let (file, written) = written(reserved.map(|file| file.fill(&Zeroizing::new(format!("{}\n", secret.expose())))));
    let is_shown = file.is_none() && args.new_password_file.is_none();
    let hosts = if args.host.is_empty() { "any host".to_owned() } else { args.host.join(", ") };
    let mut lines = vec![format!("writer {name} added ({}): it backs up {hosts}, and reads nothing", added.id)];
    lines.extend(file.iter().flat_map(|file| {
        [
            format!("its secret is in {file}: carry it to the host, then delete it here"),
            "on the host, COFFRE_PASSWORD_FILE names it; set there as well".to_owned(),
        ]
    }));
    lines.extend(file.is_none().then(|| "on the host, set as well".to_owned()));
    lines.push(format!("  COFFRE_FINGERPRINT={}", repository.fingerprint()));
    let (slot, writer) = (added.slot_id, Some(added.id));
    let secret = is_shown.then(|| secret.expose());
    tell(
        global,
        monitor,
        &repository,
        KeyChange { did: "added", slot, writer, file, secret, lines, ..KeyChange::default() },
    );
    written.map(|()| Exit::Done)
}

async fn passwd(global: &Settings, monitor: &Arc<ConsoleMonitor>, args: PasswdArgs) -> Fallible<Exit> {
    let store = global.store(OpenMode::Write, monitor)?;
    if global.password.identity().is_some() {
        return Err(usage(
            "this changes a passphrase, and the repository was to be opened with a private key: `coffre key add` adds another, `coffre key \
             remove SLOT` removes one",
        ));
    }
    let old = password::get(&global.password, monitor).await?;
    if check_recovery_identity(old.expose()) == Some(true) {
        return Err(usage(
            "this is the recovery identity, which stays: `coffre key add` adds a new passphrase, `coffre key remove SLOT` removes the lost \
             one",
        ));
    }
    let repository = global.open(store, &Opener::Passphrase(old.clone()), monitor).await?;
    let opened_by = repository.opened_by().expect("it was opened, not made");
    let slots = repository.key_slots().await?;
    let label = slots.iter().find(|slot| slot.is_own).map(|slot| slot.name.label.as_str()).unwrap_or_default();
    let label = if label.is_empty() { "passphrase" } else { label };
    let passphrase = password::get_changed(args.new_password_file.as_deref(), monitor).await?;
    if passphrase == old {
        return Err(usage("the new passphrase is the old one"));
    }
    monitor.phase("changing the passphrase");
    let lock = SlotLock::Passphrase(passphrase);
    let (slot, removed) = repository.replace_slot(opened_by, &lock, &named(label)).await?;
    let lines = vec![
        format!(
            "key slot {slot} in place of {opened_by}: the new passphrase opens the repository, the old one does not"
        ),
        COPIES.to_owned(),
    ];
    let told = KeyChange { did: "replaced", slot: Some(slot), removed: Some(removed), lines, ..KeyChange::default() };
    tell(global, monitor, &repository, told);
    Ok(Exit::Done)
}

const COPIES: &str =
    "Whoever copied the old slot earlier can still open that copy with the old passphrase, and read what is stored.";

async fn remove(global: &Settings, monitor: &Arc<ConsoleMonitor>, named: &str) -> Fallible<Exit> {
    let repository = global.repository(OpenMode::Write, monitor).await?;
    let slots = repository.key_slots().await?;
    let wanted = named.trim_end_matches(".age");
    let fitting: Vec<SlotId> = slots
        .iter()
        .map(|slot| slot.id)
        .filter(|id| !wanted.is_empty() && id.to_string().starts_with(wanted))
        .collect();
    let [slot] = fitting[..] else {
        return Err(usage(match fitting.len() {
            0 => format!("there is no key slot {named:?}; `coffre key list` shows them"),
            count => format!("{count} key slots begin with {named:?}; write more digits"),
        }));
    };
    monitor.phase("removing a key slot");
    let removed = repository.remove_slot(slot).await?;
    let lines = vec![format!("key slot {slot} removed: what opened it opens nothing any more"), COPIES.to_owned()];
    let told = KeyChange { did: "removed", slot: Some(slot), removed: Some(removed), lines, ..KeyChange::default() };
    tell(global, monitor, &repository, told);
    Ok(Exit::Done)
}

async fn revoke(global: &Settings, monitor: &Arc<ConsoleMonitor>, args: &RevokeArgs) -> Fallible<Exit> {
    let repository = global.repository(OpenMode::Write, monitor).await?;
    let (writers, named) = (repository.writers()?, &args.writer);
    let by_id: Option<WriterId> = named.parse().ok();
    let fitting = |is_revoked: bool| -> Vec<&KnownWriter> {
        let fits = |writer: &&KnownWriter| {
            Some(writer.id) == by_id || (writer.name.name == *named && writer.is_revoked == is_revoked)
        };
        writers.iter().filter(fits).collect()
    };
    // Of one that was thrown out already, fewer snapshots may be wanted.
    let fitting = Some(fitting(false)).filter(|fitting| !fitting.is_empty()).unwrap_or_else(|| fitting(true));
    let [writer] = fitting[..] else {
        return Err(usage(match fitting.len() {
            0 => format!("there is no writer {named:?}; `coffre key list` shows them"),
            count => format!("{count} writers are called {named:?}; write the id of one"),
        }));
    };
    let still = match args.since {
        Some(since) => StillCounting::Before(since),
        None if args.none => StillCounting::None,
        None => StillCounting::All,
    };
    let slot = repository.slot_of_writer(writer)?;
    monitor.phase("revoking a writer");
    let revoked = repository.revoke_writer(writer.id, still, Clock::System.now()).await?;
    let mut lines = vec![format!("writer {} ({}) revoked", writer.name.name, writer.id)];
    lines.push("What it writes from now on counts for nothing, whatever it is dated.".into());
    lines.push(match (revoked.counting, revoked.foreign) {
        (0, 0) => "It has made no snapshots.".into(),
        (counting, 0) => format!("{} as ever.", made_before(counting)),
        (0, _) => format!("None of its snapshots counts: {FOREIGN}."),
        (counting, foreign) => {
            let others =
                if foreign == 1 { "1 does".to_owned() } else { format!("{} do", output::grouped(foreign as u64)) };
            format!("{} as ever, {others} not: {FOREIGN}.", made_before(counting))
        }
    });
    lines.push("From their next run on, the other hosts back up under keys that it does not have.".into());
    lines.push("Take its access to the store away as well.".into());
    lines.extend(slot.map(|slot| format!("`coffre key remove {}` removes its key slot.", short(slot))));
    let told =
        KeyChange { did: "revoked", writer: Some(writer.id), revoked: Some(revoked), lines, ..KeyChange::default() };
    tell(global, monitor, &repository, told);
    Ok(Exit::Done)
}

const FOREIGN: &str = "`coffre snapshots` has them apart, and their ids restore them";

fn made_before(count: usize) -> String {
    let (snapshots, count_as) = if count == 1 { ("snapshot", "counts") } else { ("snapshots", "count") };
    format!("{} {snapshots} made before {count_as}", output::grouped(count as u64))
}
