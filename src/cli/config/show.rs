//! What the configuration says, as text: each value with its place, and no password.

use std::ffi::OsString;

use crate::cli::config::file::WrittenAt;
use crate::cli::config::keys::Value;
use crate::cli::config::secrets::hidden;
use crate::cli::config::verbs::{EVERY, FORGET};
use crate::cli::config::{COMMANDS, Configuration, HOOKS, MAX_AGE, TIME_LIMIT};
use crate::cli::output;
use crate::cli::run::watchers::Watchers;

/// One value of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownValue {
    /// The key with the tables that it stands in: `jobs.nightly.paths`.
    pub key: String,
    /// What it says.
    pub value: String,
    /// Where.
    pub written: WrittenAt,
}

impl Configuration {
    /// Returns all that the files say together, in order: what a value of an earlier file said and a later one says otherwise is left out.
    pub fn rows(&self) -> Vec<ShownValue> {
        let mut rows = Vec::new();
        let row = |key: String, value: String, written: &WrittenAt| ShownValue { key, value, written: written.clone() };
        rows.extend(self.repository.iter().map(|(name, written)| row("repository".into(), name.clone(), written)));
        rows.extend(of_values("options", &self.options));
        rows.extend(of_values("run", &self.of_runs));
        rows.extend(of_watchers("watch", &self.watchers));
        for (name, repository) in &self.repositories {
            let at = format!("repositories.{name}");
            rows.push(row(format!("{at}.location"), repository.location.clone(), &repository.written));
            rows.extend(of_values(&at, &repository.values));
            for (verb, said) in &repository.verbs {
                let at = format!("{at}.{verb}");
                let every = said
                    .every
                    .iter()
                    .map(|(every, written)| row(format!("{at}.{EVERY}"), output::span(every.0), written));
                rows.extend(every);
                rows.extend(of_values(&at, &said.values));
            }
        }
        for (name, job) in &self.jobs {
            let at = format!("jobs.{name}");
            let named = job.repository.iter();
            rows.extend(named.map(|(name, written)| row(format!("{at}.repository"), name.clone(), written)));
            rows.extend(of_values(&at, &job.values));
            let max_age = job.max_age.iter();
            rows.extend(max_age.map(|(age, written)| row(format!("{at}.{MAX_AGE}"), output::span(*age), written)));
            rows.extend(of_watchers(&format!("{at}.watch"), &job.watchers));
            rows.extend(of_values(&format!("{at}.{FORGET}"), &job.forget));
            let words = |words: &[OsString]| {
                let words: Vec<String> = words.iter().map(|word| hidden(&word.display().to_string())).collect();
                words.join(" ")
            };
            let streams = job.commands.iter();
            let streams = streams.map(|it| (format!("{COMMANDS}.{}", it.name.display()), words(&it.arguments)));
            let hooks = job.hooks.commands.iter();
            let hooks = hooks.map(|(time, command)| (format!("{HOOKS}.{}", time.name()), words(command)));
            let limit = job.hooks.time_limit.iter();
            let limit = limit.map(|limit| (format!("{HOOKS}.{TIME_LIMIT}"), output::span(*limit)));
            for (key, value) in streams.chain(hooks).chain(limit) {
                let written = job.places.get(&key).unwrap_or(&job.written);
                rows.push(row(format!("{at}.{key}"), value, written));
            }
        }
        rows
    }
}

/// Shows who is told, and of their URLs no more than the hosts.
fn of_watchers(at: &str, watchers: &Watchers) -> Vec<ShownValue> {
    watchers.rows().map(|(key, value, written)| ShownValue { key: format!("{at}.{key}"), value, written }).collect()
}

fn of_values(at: &str, values: &[Value]) -> Vec<ShownValue> {
    let row = |value: &Value| {
        let texts: Vec<String> = value.texts.iter().map(|text| hidden(text)).collect();
        ShownValue { key: format!("{at}.{}", value.key), value: texts.join(", "), written: value.written.clone() }
    };
    values.iter().map(row).collect()
}
