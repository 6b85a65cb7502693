//! A JSON schema of configuration files, for editors: made of the same arguments as everything else.

use clap::{Arg, Command};
use serde_json::{Map, Value as Json, json};

use crate::cli::config::keys::{self, KeyPlace, Takes};
use crate::cli::config::verbs::{DONE, EVERY, FORGET, VERBS, is_of_jobs};
use crate::cli::config::watch::{self, MAIL_TO};
use crate::cli::config::{COMMANDS, HOOKS, LOCATION, MAX_AGE, REPOSITORY, TIME_LIMIT, WATCH};
use crate::cli::run::hooks::HookTime;

/// Returns the schema (draft 2020-12).
pub fn schema(program: &Command) -> Json {
    let of_every = properties(&keys::arguments(program, KeyPlace::Everywhere));
    let mut repository = of_every.clone();
    repository
        .insert(LOCATION.into(), text("Where it is: /path, s3://ENDPOINT/BUCKET/PREFIX, or s3+http://… without TLS"));
    let mut job = properties(&keys::arguments(program, KeyPlace::Job));
    job.insert(REPOSITORY.into(), text("The repository, by its name here"));
    job.insert(
        MAX_AGE.into(),
        text("How old its last backup may be, such as 26h; `coffre status` says when it is older"),
    );
    let mut rules = properties(&keys::arguments(program, KeyPlace::Verb(FORGET)));
    rules.retain(|key, _| is_of_jobs(key));
    job.insert(FORGET.into(), table(rules, "What is kept of it, in place of what its repository says"));
    let words = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
    let commands = json!({"type": "object", "description": "Streams by name, each the output of a command", "additionalProperties": words.clone()});
    job.insert(COMMANDS.into(), commands);
    let mut hooks: Map<String, Json> =
        HookTime::ALL.map(|time| (time.name().to_owned(), words.clone())).into_iter().collect();
    hooks.insert(TIME_LIMIT.into(), text("How long each may take, such as 5min"));
    job.insert(HOOKS.into(), table(hooks, "Commands that run before the job, after it, and by how it ended"));
    for verb in VERBS {
        let mut properties = properties(&keys::arguments(program, KeyPlace::Verb(verb)));
        if DONE.contains(&verb) {
            properties
                .insert(EVERY.into(), text("How often `coffre run` does it, such as 1d or 7d; without it, never"));
        }
        let about = program.find_subcommand(verb).and_then(Command::get_about).map(ToString::to_string);
        repository.insert(verb.into(), table(properties, &about.unwrap_or_default()));
    }
    let watch = || {
        let text_or_list = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
        let property = |(key, meaning): (String, &str)| {
            let mut property = if key == MAIL_TO { text_or_list.clone() } else { json!({"type": "string"}) };
            property["description"] = meaning.into();
            (key, property)
        };
        table(watch::explained().into_iter().map(property).collect(), "Who is told how it ended")
    };
    job.insert(WATCH.into(), watch());
    let mut repository = table(repository, "A repository");
    repository["required"] = json!([LOCATION]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of coffre",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "repository": text("The repository of commands that name none"),
            "options": table(of_every, "Options of every command"),
            "run": table(properties(&keys::arguments(program, KeyPlace::Run)), "Options of coffre run"),
            "watch": watch(),
            "repositories": {"type": "object", "description": "Repositories by name", "additionalProperties": repository},
            "jobs": {"type": "object", "description": "Jobs by name", "additionalProperties": table(job, "A job")},
        },
    })
}

fn properties(arguments: &[Arg]) -> Map<String, Json> {
    arguments.iter().filter_map(|argument| Some((keys::name(argument)?.to_owned(), property(argument)))).collect()
}

fn property(argument: &Arg) -> Json {
    let one = json!({"type": ["string", "number"]});
    let mut property = match keys::takes(argument) {
        Takes::Bool => json!({"type": "boolean"}),
        Takes::One => one,
        Takes::Several => json!({"anyOf": [one, {"type": "array", "items": one}]}),
    };
    let values = argument.get_possible_values();
    if keys::takes(argument) == Takes::One && !values.is_empty() {
        property = json!({"enum": values.iter().map(|value| value.get_name()).collect::<Vec<_>>()});
    }
    property["description"] = keys::help(argument).into();
    property
}

fn text(description: &str) -> Json {
    json!({"type": "string", "description": description})
}

fn table(properties: Map<String, Json>, description: &str) -> Json {
    json!({"type": "object", "description": description, "additionalProperties": false, "properties": properties})
}

#[cfg(test)]
mod tests {
    use toml::de::{DeTable, DeValue};

    use super::*;
    use crate::cli;
    use crate::cli::config::example;

    /// Makes sure that a value is what the schema says, with all that is in it.
    fn fits(schema: &Json, value: &DeValue<'_>, at: &str) -> Result<(), String> {
        if let Some(choices) = schema["anyOf"].as_array() {
            return match choices.iter().any(|choice| fits(choice, value, at).is_ok()) {
                true => Ok(()),
                false => Err(format!("{at} is none of {choices:?}")),
            };
        }
        let kind = match value {
            DeValue::String(_) => "string",
            DeValue::Integer(_) | DeValue::Float(_) => "number",
            DeValue::Boolean(_) => "boolean",
            DeValue::Datetime(_) => "date",
            DeValue::Array(_) => "array",
            DeValue::Table(_) => "object",
        };
        let is_right = match (schema["enum"].as_array(), value) {
            (Some(words), DeValue::String(text)) => words.iter().any(|word| word.as_str() == Some(&**text)),
            (Some(_), _) => false,
            (None, _) => match &schema["type"] {
                Json::Array(kinds) => kinds.iter().any(|one| one.as_str() == Some(kind)),
                one => one.as_str() == Some(kind),
            },
        };
        if !is_right {
            return Err(format!("{at} is a {kind}, and not {schema}"));
        }
        match value {
            DeValue::Array(values) => values.iter().try_for_each(|it| fits(&schema["items"], it.get_ref(), at)),
            DeValue::Table(table) => table.iter().try_for_each(|(key, value)| {
                let key: &str = key.get_ref();
                let known = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
                match known.is_object() {
                    true => fits(known, value.get_ref(), &format!("{at}.{key}")),
                    false => Err(format!("{at}.{key} is not known")),
                }
            }),
            _ => Ok(()),
        }
    }

    fn fitting(text: &str) -> Result<(), String> {
        let table = DeTable::parse(text).expect("TOML").into_inner();
        fits(&schema(&cli::command()), &DeValue::Table(table), "")
    }

    #[test]
    fn the_example_is_as_the_schema_says_and_what_is_mistyped_is_not() {
        assert_eq!(fitting(example()), Ok(()));
        for (right, wrong, at) in [
            ("[options]", "[options]\nmemery = 1", ".options.memery is not known"),
            ("[run]", "[run]\nnames = \"x\"", ".run.names is not known"),
            ("[jobs.nightly]", "[jobs.nightly]\ndry-run = true", ".jobs.nightly.dry-run is not known"),
            ("[jobs.nightly.hooks]", "[jobs.nightly.hooks]\nbefor = [\"x\"]", ".jobs.nightly.hooks.befor is not known"),
            ("[repositories.archive.prune]", "[repositories.archive.prune]\nundo = true", ".prune.undo is not known"),
            ("one-file-system = true", "one-file-system = \"yes\"", ".one-file-system is a string"),
            ("ionice = \"idle\"", "ionice = \"lazy\"", ".run.ionice is a string"),
            ("location = \"/srv/backup\"", "location = 5", ".near.location is a number"),
            ("tag = [\"nightly\"]", "tag = [true]", ".jobs.nightly.tag is none of"),
            ("before = [\"/usr/local/bin/flush-caches\"]", "before = \"x\"", ".hooks.before is a string"),
        ] {
            assert!(example().contains(right), "{right}");
            let told = fitting(&example().replacen(right, wrong, 1)).expect_err(wrong);
            assert!(told.contains(at), "{wrong}: {told}");
        }
    }

    #[test]
    fn every_key_that_is_understood_is_in_it_and_no_other() {
        let program = cli::command();
        let schema = schema(&program);
        let job = &schema["properties"]["jobs"]["additionalProperties"]["properties"];
        for key in
            ["repository", "commands", "hooks", "watch", "paths", "exclude", "postgres", "memory", "one-file-system"]
        {
            assert!(job[key]["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
        let rules = job["forget"]["properties"].as_object().expect("a table");
        assert!(rules.contains_key("keep-daily") && rules.contains_key("time-zone") && !rules.contains_key("every"));
        for key in ["dry-run", "stdin", "repo", "job", "help", "accept-anomalies"] {
            assert!(job[key].is_null(), "{key}");
        }
        let repository = &schema["properties"]["repositories"]["additionalProperties"]["properties"];
        for (verb, key) in [("forget", "keep-daily"), ("forget", "every"), ("prune", "wait"), ("verify", "read-data")] {
            assert!(repository[verb]["properties"][key].is_object(), "{verb} {key}");
        }
        assert!(
            repository["forget"]["properties"]["undo"].is_null()
                && repository["status"]["properties"]["every"].is_null()
        );
        let options = &schema["properties"]["options"]["properties"];
        assert_eq!(options["no-cache"]["type"], "boolean");
        assert_eq!(options["progress"]["enum"][0], "auto");
        assert!(options["exclude"].is_null());
    }
}
