//! `coffre dump`

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use crate::cli::connect::GlobalArgs;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::select::{self, FilterArgs};
use crate::cli::signals::cancel_on_signals;
use crate::model::outcome::Ended;
use crate::ops::dump::{DumpError, dump};
use crate::ops::open_reader;
use crate::process::widen_pipe;
use crate::progress::Monitor;
use crate::store::OpenMode;

/// Flags of `dump`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre dump latest:shop.sql | psql shop
  coffre dump latest:/srv/www | tar -x -C /srv/www

A snapshot of one single stream needs no path. If anything is damaged, dump ends with an error before the first wrong \
byte: check its exit code (`set -o pipefail` in a shell).")]
pub struct Args {
    /// ID:PATH; `latest` is the newest
    snapshot: String,
    #[command(flatten)]
    filter: FilterArgs,
}

pub async fn run(global: &GlobalArgs, args: Args) -> Fallible<Exit> {
    let (wanted, path) = select::parse(&args.snapshot)?;
    if global.json {
        return Err(usage("dump writes data to standard output, so it has no --json"));
    }
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, &wanted, &args.filter.filter(), &monitor).await?;
    let reader = open_reader(repository, global.memory_bytes()?, monitor.clone()).await?;
    if io::stdout().is_terminal() {
        // A bar would tear what is shown; and what is binary should not be.
        monitor.finish();
    }
    monitor.phase("dumping");
    let report = dump(reader, &snapshot, path, Box::new(unbuffered_stdout()?), monitor.clone(), cancel).await;
    monitor.finish();
    match report {
        // The next program had enough, or failed, which its own exit code tells.
        Err(DumpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::ReaderGone),
        Err(error) => Err(error.into()),
        Ok(report) => Ok(report.outcome().into()),
    }
}

/// Returns standard output without the line buffer of the standard library, and with a larger pipe where it is one.
fn unbuffered_stdout() -> io::Result<impl Write + Send> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    widen_pipe(&stdout);
    Ok(stdout)
}
