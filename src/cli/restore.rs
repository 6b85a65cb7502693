//! `coffre restore`

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::engines::{self, or};
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::restore_database::{self, IntoDatabaseArgs};
use crate::cli::restore_report;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::to_directory;
use crate::model::outcome::Ended;
use crate::ops::restore::{Overwrite, PatternError, RestoreOptions, Selection, count_extras, remove_extras, restore};
use crate::progress::Tally;
use crate::sink::choice::AttributeChoice;
use crate::sink::target::TargetOptions;
use crate::store::OpenMode;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre restore latest --target /srv/restored
  coffre restore latest:/etc/nginx --target /etc/nginx --dry-run
  coffre restore 3f9c21d0 --target / --include /srv/www
  coffre restore latest --into-postgres postgresql://postgres@db1/ --plan
  coffre restore latest --into-postgres postgresql://db1/ --database shop=old
  coffre restore latest --into-mysql mysql://root@localhost/shop --in-place
  coffre restore latest --to-directory /srv/dumps

With SNAPSHOT:PATH the contents of PATH stand directly in the target. Files that are right already are not written; \
an interrupted restore goes on when run again. A file that cannot be had whole is left as NAME.damaged.

--to-directory is for pg_restore, psql, mariadb and whatever else takes an engine's own dumps. README.txt in the directory says what \
each file is, and what to type. A file that is there is whole.")]
pub struct Args {
    /// ID or ID:PATH; an id may be cut short, `latest` is the newest
    snapshot: String,
    /// Directory to restore into; / for the places where everything was
    #[arg(long, short, value_name = "DIR")]
    target: Option<PathBuf>,
    /// Restore only what matches, as in .gitignore (repeatable)
    #[arg(long, short, value_name = "PATTERN")]
    include: Vec<String>,
    /// The same, upper and lower case being one (repeatable)
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<String>,
    /// Read such patterns from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    include_file: Vec<PathBuf>,
    /// Leave out what matches (repeatable)
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, upper and lower case being one (repeatable)
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Read such patterns from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Restore only extended attributes that match, such as 'user.*' (repeatable)
    #[arg(long, value_name = "PATTERN")]
    include_xattr: Vec<String>,
    /// Leave out extended attributes that match; the target keeps what it has of them (repeatable)
    #[arg(long, value_name = "PATTERN")]
    exclude_xattr: Vec<String>,
    /// When what is in the target is replaced
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::IfChanged)]
    overwrite: When,
    /// Remove what is in the target and not in the snapshot, after showing it; what --exclude names stays
    #[arg(long)]
    delete: bool,
    /// Do not ask before removing
    #[arg(long, requires = "delete")]
    yes: bool,
    /// Only tell what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Restore owners by number, not by name
    #[arg(long)]
    numeric_ids: bool,
    /// Leave long runs of zeros out of files, so that they take no space
    #[arg(long)]
    sparse: bool,
    /// Take files with the right size and time for right, without reading them
    #[arg(long)]
    trust_times: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    database: IntoDatabaseArgs,
}

/// When what is in the target is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// Where its content differs
    IfChanged,
    /// Always, without a look at its content
    Always,
    /// Where it is older than in the snapshot
    IfNewer,
    /// Never: what is there stays as it is
    Never,
}

impl From<When> for Overwrite {
    fn from(when: When) -> Self {
        match when {
            When::IfChanged => Overwrite::IfChanged,
            When::Always => Overwrite::Always,
            When::IfNewer => Overwrite::IfNewer,
            When::Never => Overwrite::Never,
        }
    }
}

impl Args {
    fn selection(&self) -> Result<Selection, PatternError> {
        Selection::default()
            .including(&self.include, &self.include_file, false)?
            .including(&self.iinclude, &[], true)?
            .excluding(&self.exclude, &self.exclude_file, false)?
            .excluding(&self.iexclude, &[], true)
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let (wanted, within) = select::parse(&args.snapshot)?;
    let selection = args.selection();
    let Some(target) = args.target else {
        if let Some((directory, dumps)) = args.database.to_directory() {
            return to_directory::run(global, directory, dumps, (&wanted, within), &args.filter).await;
        }
        if !args.database.names_a_target() {
            let flags = or(&engines::into_flags());
            return Err(usage(format!("where to? Name a directory with --target DIR, or a database with {flags}")));
        }
        return restore_database::run(global, args.database, (&wanted, within), &args.filter).await;
    };
    let selection = selection?;
    let attributes = AttributeChoice::new(&args.include_xattr, &args.exclude_xattr);
    let attributes = attributes.map_err(|error| usage(error.to_string()))?;
    if args.delete && selection.has_includes() {
        return Err(usage("--delete does not go with --include: what it leaves out would be removed"));
    }
    if args.delete && !args.yes && !args.dry_run && !std::io::stdin().is_terminal() {
        return Err(usage("--delete asks before it removes anything; without a terminal add --yes, or try --dry-run"));
    }
    let memory_bytes = global.memory_bytes;
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, &wanted, &args.filter.filter(), &monitor).await?;
    monitor.note(&format!("snapshot {} of {}, {}", snapshot.id, snapshot.host, snapshot.started.local_zoned()));
    let options = RestoreOptions {
        snapshot,
        within,
        selection,
        only: None,
        overwrite: args.overwrite.into(),
        target: target.clone(),
        target_options: TargetOptions { numeric_ids: args.numeric_ids, sparse: args.sparse, attributes },
        trust_times: args.trust_times,
        find_extras: args.delete,
        dry_run: args.dry_run,
        memory_bytes,
    };
    let report = restore(repository.clone(), options.clone(), monitor.clone(), cancel.clone()).await;
    monitor.finish();
    let mut report = report?;
    let mut removed = 0;
    if !report.extras.is_empty() {
        restore_report::show_extras(&report, args.dry_run, global.json);
        restore_report::tell_of_excludes(global.json);
        let files = count_extras(&target, &report.extras)?;
        if !args.dry_run && (args.yes || restore_report::confirmed(&monitor, report.extras.len(), files).await?) {
            let tally = Tally::over(monitor.clone());
            removed = remove_extras(&target, &report.extras, &*tally)?;
            report.problems.extend(tally.take());
        }
    }
    if removed > 0 && !report.blocked.is_empty() {
        // What stood in the way is gone.
        let only = Some(std::mem::take(&mut report.blocked).into_iter().collect());
        let further = RestoreOptions { only, find_extras: false, ..options };
        report.add(restore(repository, further, monitor.clone(), cancel).await?);
    }
    monitor.finish();
    if global.json {
        output::json(&restore_report::summary(&report, removed, monitor.elapsed()));
    } else if !global.quiet {
        restore_report::print(&report, removed, args.dry_run, monitor.elapsed());
    }
    Ok(report.outcome().into())
}
