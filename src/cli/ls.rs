//! `coffre ls`

use std::collections::BTreeMap;

use crate::cli::events;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::lines::Lines;
use crate::cli::ncdu::Export;
use crate::cli::output;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::engine::Engines;
use crate::model::entry::{Entry, EntryKind};
use crate::model::facts::StreamFacts;
use crate::model::outcome::Ended;
use crate::model::path::display_bytes;
use crate::model::units::ByteSize;
use crate::ops::ls::ls;
use crate::ops::open_reader;
use crate::store::OpenMode;

/// Flags of `ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre ls latest
  coffre ls -l latest:/etc/nginx
  coffre ls -R -l --sort size --reverse 3f9c21d0:/srv
  coffre ls --json latest:postgres        # what is known of dumps
  coffre ls --ncdu latest:/srv | ncdu -f-

Times are those of this machine's zone. Sorting keeps the list in memory.")]
pub struct Args {
    /// ID or ID:PATH; `latest` is the newest
    snapshot: String,
    /// List everything below, not only what is directly there
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Show mode, owner, size and time
    #[arg(long, short)]
    long: bool,
    /// Order of the list
    #[arg(long, short, value_name = "BY", value_enum, default_value = "name")]
    sort: SortBy,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Write everything below in the format of `ncdu`, to look for what is large
    #[arg(long, conflicts_with_all = ["recursive", "long", "sort", "reverse"])]
    ncdu: bool,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SortBy {
    /// The path, directories before what is in them
    Name,
    /// The size, smallest first
    Size,
    /// The time of modification, oldest first
    #[value(alias = "mtime")]
    Time,
    /// The extension of the name
    Extension,
}

impl SortBy {
    fn key(self, entry: &Entry) -> (i128, Vec<u8>) {
        match self {
            SortBy::Name => (0, Vec::new()),
            SortBy::Size => (i128::from(entry.size()), Vec::new()),
            SortBy::Time => {
                let mtime = entry.metadata.mtime;
                (i128::from(mtime.seconds) * 1_000_000_000 + i128::from(mtime.nanos), Vec::new())
            }
            SortBy::Extension => {
                let name = entry.path.name();
                let dot = name.iter().rposition(|&byte| byte == b'.');
                (0, dot.map_or(&[][..], |dot| &name[dot..]).to_vec())
            }
        }
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let (wanted, within) = select::parse(&args.snapshot)?;
    if global.json && args.ncdu {
        return Err(usage("--ncdu has a format of its own: leave --json away"));
    }
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, &wanted, &args.filter.filter(), &monitor).await?;
    let reader = open_reader(repository, global.memory_bytes, monitor.clone()).await?;
    let lines = Lines::beside(&monitor);
    if args.ncdu {
        let mut export = Export::new(within.as_ref(), snapshot.started);
        let listing = ls(&reader, &snapshot, within.as_ref(), true, &*monitor, |entry| lines.add(&export.entry(entry)));
        let Some(lost) = lines.while_read(listing).await else { return Ok(Exit::ReaderGone) };
        let lost = lost?;
        lines.add(&export.end());
        lines.finish();
        return Ok(lost.outcome().into());
    }
    let (json, long) = (global.json, args.long);
    let is_sorted = args.sort != SortBy::Name || args.reverse;
    let mut gathered = Vec::new();
    let listing = ls(&reader, &snapshot, within.as_ref(), args.recursive, &*monitor, |entry| {
        let line = match json {
            true => output::object(&event(entry)),
            false if long => long_line(entry),
            false => path_line(entry),
        };
        match is_sorted {
            true => gathered.push((args.sort.key(entry), line)),
            false => lines.push(&line),
        }
    });
    let Some(lost) = lines.while_read(listing).await else { return Ok(Exit::ReaderGone) };
    // What is equal stays in the order of paths.
    gathered.sort_by(|(one, _), (other, _)| one.cmp(other));
    if args.reverse {
        gathered.reverse();
    }
    gathered.iter().for_each(|(_, line)| lines.push(line));
    lines.finish();
    Ok(lost?.outcome().into())
}

/// Returns an entry's path, with a slash behind a directory's.
pub fn path_line(entry: &Entry) -> String {
    let slash = if entry.is_directory() { "/" } else { "" };
    format!("/{}{slash}", entry.path)
}

/// Returns an entry as `ls -l` would show it.
pub fn long_line(entry: &Entry) -> String {
    let m = &entry.metadata;
    let owner = |name: &Option<Vec<u8>>, id: u32| match name {
        Some(name) => display_bytes(name).to_string(),
        None => id.to_string(),
    };
    let size = match entry.content() {
        Some(content) => ByteSize(content.size).to_string(),
        None => "-".to_owned(),
    };
    let link = match &entry.kind {
        EntryKind::Symlink(to) => format!(" -> {}", display_bytes(to)),
        _ => String::new(),
    };
    format!(
        "{} {:<8} {:<8} {size:>9} {} {}{link}",
        output::mode_text(entry),
        owner(&m.user, m.uid),
        owner(&m.group, m.gid),
        m.mtime.local(),
        path_line(entry)
    )
}

/// Returns an entry for programs.
pub fn event(entry: &Entry) -> events::Entry {
    let m = &entry.metadata;
    let text = |bytes: &Vec<u8>| display_bytes(bytes).to_string();
    let detail = match &entry.kind {
        EntryKind::Stream(_, detail) => Some(detail),
        _ => None,
    };
    events::Entry {
        command: detail.map(|detail| detail.command.iter().map(text).collect()),
        facts: detail.map(|detail| facts(&detail.facts)),
        gid: m.gid,
        group: m.group.as_ref().map(text),
        kind: output::kind_name(entry),
        mode: format!("{:04o}", m.mode),
        mtime: m.mtime.to_string(),
        path: format!("/{}", entry.path),
        size: entry.size(),
        snapshot: None,
        target: match &entry.kind {
            EntryKind::Symlink(to) => Some(text(to)),
            _ => None,
        },
        uid: m.uid,
        user: m.user.as_ref().map(text),
    }
}

/// Returns facts as JSON: those that are numbers as numbers, the others as text.
fn facts(facts: &StreamFacts) -> BTreeMap<String, serde_json::Value> {
    let engines = Engines::default();
    let value = |(name, text): (&String, &String)| {
        let number = text.parse::<u64>().ok().filter(|_| engines.is_number(facts, name));
        (name.clone(), number.map_or_else(|| text.as_str().into(), Into::into))
    };
    facts.texts().iter().map(value).collect()
}
