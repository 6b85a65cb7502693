//! `coffre init`

use std::path::PathBuf;

use crate::cli::connect::GlobalArgs;
use crate::cli::exit::{Exit, usage};
use crate::cli::{output, password, recovery_kit};
use crate::model::time::Clock;
use crate::ops;
use crate::progress::Monitor;
use crate::repository::InitOptions;
use crate::store::OpenMode;

/// Flags of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A repository opens with its passphrase and with the recovery identity, which is shown once: keep it on paper.")]
pub struct Args {
    /// Write the recovery identity and the restore commands to this file, to be printed
    #[arg(long, value_name = "FILE")]
    recovery_kit: Option<PathBuf>,
}

pub async fn run(global: &GlobalArgs, args: Args) -> anyhow::Result<Exit> {
    let location = global.location()?;
    if let Some(kit) = args.recovery_kit.as_deref().filter(|kit| kit.exists()) {
        return Err(usage(format!("{} exists already; the recovery kit needs a new file", kit.display())));
    }
    let monitor = global.monitor();
    let store = global.store(OpenMode::Create, &monitor)?;
    let passphrase = password::get_new(&global.password)?;
    monitor.phase("making the repository");
    let clock = Clock::System;
    let made = ops::init::init(store, passphrase, &InitOptions::default(), clock, global.cache_dir.as_deref()).await?;
    monitor.finish();
    let identity = &made.recovery_identity;
    let kit = args.recovery_kit.as_deref().map(|kit| {
        recovery_kit::write(kit, &made.repository, &location, identity, clock.now()).map(|()| kit.display().to_string())
    });
    // A kit that cannot be written must not cost the only copy of the identity.
    let shown = !matches!(kit, Some(Ok(_)));
    let (kit, kit_error) = match kit.transpose() {
        Ok(kit) => (kit, None),
        Err(error) => (None, Some(error)),
    };
    if global.json {
        output::json(&serde_json::json!({
            "event": "summary",
            "repository": made.repository.id().to_string(),
            "location": location.to_string(),
            "recovery_kit": kit,
            "recovery_identity": shown.then(|| identity.expose()),
        }));
    } else {
        if !global.quiet {
            output::line(&format!("repository {} made at {location}", made.repository.id()));
        }
        match &kit {
            Some(kit) if !global.quiet => {
                output::line(&format!("recovery kit written to {kit}: print it, then delete the file"));
            }
            Some(_) => {}
            None => {
                output::line(&format!("\nrecovery identity: {}\n", identity.expose()));
                output::line("It opens the repository when the passphrase is lost, and is shown only now.");
                output::line("Write it down and keep it apart from the servers.");
            }
        }
    }
    kit_error.map_or(Ok(Exit::Done), Err)
}
