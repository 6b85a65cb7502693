//! `coffre` on the command line: arguments, runtime, exit code. Everything else is in the library.

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::io::Write;

use coffre::cli::{self, Exit};

fn main() -> Exit {
    cli::allocator::give_back_large_blocks();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: the runtime could not be started: {error}");
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(cli::run(std::env::args_os().collect()));
    // A read of standard input that was interrupted would be waited for.
    runtime.shutdown_background();
    exit
}
