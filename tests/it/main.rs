//! The integration tests, one binary.

mod access;
mod anew;
mod anomalies;
mod backup_cli;
mod backup_run;
mod bad_sectors;
mod cache;
mod ceph;
mod cleanup_model;
mod cleanups;
mod cli;
mod clocks;
mod configuration;
mod crash;
mod damage;
mod damage_or_way;
mod databases;
mod decoders;
mod domains;
mod dump_target;
mod environment;
mod exit_codes;
mod foreign;
mod forget;
mod healing;
mod hostile;
mod identities;
mod index;
mod json;
mod key_slots;
mod keys;
mod kit;
mod known;
mod large_files;
mod layers;
mod leftovers;
mod look;
mod losses;
mod manual;
mod memory;
mod merging;
mod mistyped;
mod moved;
mod nightly;
mod nights;
mod old_repositories;
mod own_engine;
mod own_sources;
mod package;
mod passphrases;
mod phases;
mod pipes;
mod prune;
mod prune_rewriting;
mod pty;
mod python_reader;
mod reading;
mod recipes;
mod removed_meanwhile;
mod replicas;
mod repository;
mod requests;
mod restore;
mod restore_attributes;
mod restore_delete;
mod restore_folding;
mod restore_links;
mod restore_options;
mod restore_race;
mod restore_truth;
mod revoking;
mod run_locks;
mod runs;
mod s3_faults;
mod schedule;
mod screens;
mod series;
mod source_command;
mod source_files;
mod stale_recipes;
mod status;
mod store_contract;
mod store_waits;
mod support;
mod systemd;
mod telling_again;
mod terminal_text;
mod told;
mod too_late;
mod torture;
mod unfinished;
mod verified;
mod versions;
mod vouching;
mod watched;
mod writers;

/// Runs `test` without the rights of root: on Linux each thread has credentials of its own and hands them on to those
/// it starts.
fn as_nobody(test: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        return test();
    }
    std::thread::scope(|scope| {
        let lowered = scope.spawn(|| {
            let (user, group) = (rustix::process::Uid::from_raw(65534), rustix::process::Gid::from_raw(65534));
            rustix::thread::set_thread_groups(&[]).expect("root may");
            rustix::thread::set_thread_res_gid(group, group, group).expect("root may");
            rustix::thread::set_thread_res_uid(user, user, user).expect("root may");
            test();
        });
        if let Err(panic) = lowered.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
