//! `coffre dump`

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::blocking::blocking;
use crate::cli::events;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::salvage::{self, Gaps};
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::model::outcome::{Ended, Outcome};
use crate::model::path::display_bytes;
use crate::model::units::ByteSize;
use crate::ops;
use crate::ops::dump::{DumpError, DumpReport, dump};
use crate::ops::open_reader;
use crate::ops::salvage::SalvageReport;
use crate::process::widen_pipe;
use crate::progress::Monitor;
use crate::sink::one_file::OneFile;
use crate::sink::partial::IfTaken;
use crate::store::OpenMode;

/// Flags of `dump`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre dump latest:shop.sql | psql shop
  coffre dump latest:/srv/www | tar -x -C /srv/www
  coffre dump latest:postgres/shop.dump --target shop.dump
  coffre dump --salvage latest:postgres/shop.dump | pg_restore --dbname=salvaged

A snapshot of one single stream needs no path. If anything is damaged, dump ends with an error before the first wrong \
byte: check its exit code (`set -o pipefail` in a shell). With --target the file has its name only when it is whole, \
and only you can read it.

--salvage writes one file or stream of which something is lost, names every gap, and ends with exit code 4. `rows` leaves out \
what is lost and the lines that are hit: text dumps stay readable, and an archive of PostgreSQL does through a pipe, since \
what its directory says of places is not so any more. `zeros` keeps everything where it stood: images, databases in \
files. Constraints and foreign keys may miss the rows that are gone.")]
pub struct Args {
    /// ID:PATH; `latest` is the newest
    snapshot: String,
    /// Write into this file, which is not there before it is whole
    #[arg(long, short, value_name = "FILE")]
    target: Option<PathBuf>,
    /// Replace the file that is there
    #[arg(long, requires = "target")]
    force: bool,
    /// Write what there is of a file or stream of which something is lost
    #[arg(long, value_name = "GAPS", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    salvage: Option<Gaps>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What was written: all, or what there was.
enum AnyDump {
    Whole(DumpReport),
    Salvaged(SalvageReport),
}

impl Ended for AnyDump {
    fn outcome(&self) -> Outcome {
        match self {
            AnyDump::Whole(report) => report.outcome(),
            AnyDump::Salvaged(report) => report.outcome(),
        }
    }
}

impl Args {
    /// Tells whether what is dumped goes into a file, and not to standard output.
    pub fn has_target(&self) -> bool {
        self.target.is_some()
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let (wanted, path) = select::parse(&args.snapshot)?;
    if global.json && args.target.is_none() {
        return Err(usage("dump writes data to standard output, so it has no --json without --target"));
    }
    let file = args.target.as_deref().map(|target| begin(target, args.force)).transpose()?;
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, &wanted, &args.filter.filter(), &monitor).await?;
    let reader = open_reader(repository, global.memory_bytes, monitor.clone()).await?;
    if file.is_none() && io::stdout().is_terminal() {
        // A bar would tear what is shown; and what is binary should not be.
        monitor.finish();
    }
    let is_redirected = file.is_none() && !io::stdout().is_terminal() && !global.quiet;
    monitor.phase("dumping");
    let output: Box<dyn Write + Send> = match &file {
        Some(file) => Box::new(file.writer()?),
        None => Box::new(unbuffered_stdout()?),
    };
    let report = match args.salvage {
        None => dump(reader, &snapshot, path, output, monitor.clone(), cancel).await.map(AnyDump::Whole),
        Some(gaps) => {
            let fill = gaps.into();
            ops::salvage::salvage(reader, &snapshot, path, fill, output, monitor.clone(), cancel)
                .await
                .map(AnyDump::Salvaged)
        }
    };
    let report = match (report, file) {
        (Ok(report), Some(file)) => {
            let if_taken = if args.force { IfTaken::Replace } else { IfTaken::Refuse };
            blocking(move || file.finish(if_taken)).await?;
            Ok(report)
        }
        (Err(error), Some(file)) => {
            drop(file);
            if error.began_writing() {
                monitor.note("what was written is removed again, because it is not whole");
            }
            Err(error)
        }
        (report, None) => report,
    };
    monitor.finish();
    if let Err(error) = &report
        && is_redirected
        && !error.began_writing()
    {
        output::say("nothing was written: a file that the shell has made for the output is empty");
    }
    if let (Ok(AnyDump::Salvaged(report)), false) = (&report, global.json) {
        salvage::say(report, global.verbose > 0);
    }
    if let (Ok(written), Some(target)) = (&report, &args.target) {
        tell(global, written, target, monitor.elapsed());
    }
    match report {
        // The next program had enough, or failed, which its own exit code tells.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::ReaderGone),
        Err(error) => Err(error.into()),
        Ok(report) => Ok(report.outcome().into()),
    }
}

/// Makes the file that becomes `target`, before anything is asked of the store.
fn begin(target: &Path, force: bool) -> Fallible<OneFile> {
    match target.symlink_metadata() {
        Ok(there) if !there.is_file() => {
            return Err(usage(format!("{} is there and is no regular file", target.display())));
        }
        Ok(_) if !force => {
            return Err(usage(format!("{} is there already; --force replaces it", target.display())));
        }
        _ => {}
    }
    OneFile::create(target).map_err(|error| usage(format!("{} cannot be written: {}", target.display(), error.source)))
}

/// Says what is in the file now.
fn tell(global: &Settings, written: &AnyDump, target: &Path, elapsed: Duration) {
    let name = display_bytes(target.as_os_str().as_bytes()).to_string();
    let (bytes, entries, skipped) = match written {
        AnyDump::Whole(report) => (report.bytes, report.entries, report.skipped),
        AnyDump::Salvaged(report) => (report.bytes, 1, 0),
    };
    let (gaps, left_out_bytes, lost_bytes) = match written {
        AnyDump::Whole(_) => (0, 0, 0),
        AnyDump::Salvaged(report) => (report.gap_count, report.left_out_bytes, report.lost_bytes),
    };
    if global.json {
        if let AnyDump::Salvaged(report) = written {
            salvage::tell(report);
        }
        let seconds = elapsed.as_secs_f64();
        let target = &*name;
        output::json(&events::Dumped { bytes, entries, gaps, left_out_bytes, lost_bytes, seconds, skipped, target });
    } else if !global.quiet {
        output::line(&format!("{name} written: {}, {}", output::count(entries, "entry"), ByteSize(bytes)));
    }
}

/// Returns standard output without the line buffer of the standard library, and with a larger pipe where it is one.
fn unbuffered_stdout() -> io::Result<impl Write + Send> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    widen_pipe(&stdout);
    Ok(stdout)
}
