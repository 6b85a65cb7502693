//! `--json` prints what `docs/json.md` says: every field of every verb, with its type, and none besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::configuration::{configured, run, write};
use crate::support::desk::Desk;

/// Section, event and field, with the type that the page gives it.
pub type Fields = BTreeMap<(String, String), BTreeMap<String, String>>;

pub fn documented() -> Fields {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md")).expect("there");
    let mut fields = Fields::new();
    let (mut section, mut event) = (String::new(), String::new());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        } else if let Some(name) = line.strip_prefix("### `") {
            event = name.trim_end_matches('`').to_owned();
            fields.entry((section.clone(), event.clone())).or_default();
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.split(" | ").collect();
            let of_event = fields.get_mut(&(section.clone(), event.clone())).expect("below a heading");
            of_event.insert(cells[0].trim_end_matches('`').to_owned(), cells[1].to_owned());
        }
    }
    fields
}

/// The keys of an object in the order in which they came.
struct Keys(Vec<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, Value>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Every field that was ever promised is still there, with its type: `tests/data/json/fields.txt` only grows.
///
/// `COFFRE_SCREENS=write` adds what is new; a line that is to go has to be taken out by hand, and by somebody who knows why.
#[test]
fn what_was_once_promised_is_still_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json/fields.txt");
    let line = |section: &str, event: &str, field: &str, said: &str| format!("{section} | {event} | {field} | {said}");
    let now: BTreeSet<String> = documented()
        .iter()
        .flat_map(|((section, event), fields)| {
            fields.iter().map(move |(field, said)| line(section, event, field, said))
        })
        .collect();
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let promised: BTreeSet<String> = kept.lines().map(str::to_owned).collect();
    let lost: Vec<_> = promised.difference(&now).collect();
    assert!(lost.is_empty(), "docs/json.md no longer has, or has with another type: {lost:#?}");
    if std::env::var_os("COFFRE_SCREENS").is_some_and(|value| value == "write") {
        let lines: Vec<&str> = now.iter().map(String::as_str).collect();
        return fs::write(&path, lines.join("\n") + "\n").expect("written");
    }
    let new: Vec<_> = now.difference(&promised).collect();
    assert!(new.is_empty(), "to be added to {}: {new:#?}", path.display());
}

/// All that a run of jobs tells names the run, and its job where it belongs to one, beside what the page says.
#[test]
fn what_a_run_tells_names_it_and_its_job() {
    let desk = configured();
    let file = desk.at("coffre.toml");
    let right = fs::read_to_string(&file).expect("there");
    let gone = desk.at("gone").display().to_string();
    write(
        &file,
        &format!(
            "{right}[jobs.nightly.hooks]\nafter = [\"false\"]\n[jobs.other]\nrepository = \"archive\"\npaths = [\"{gone}\"]\n"
        ),
    );
    let told = run(&desk, &["--json", "run", "--jobs", "2"]);
    assert_eq!(told.code, 1, "{told:?}");
    let fields = documented();
    let (mut ids, mut of_jobs) = (BTreeSet::new(), BTreeMap::<String, Vec<String>>::new());
    for line in told.out.lines() {
        let Keys(keys) = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(keys[0] == "event" && keys[1..].is_sorted(), "{line}");
        let mut object: Value = serde_json::from_str(line).expect("an object");
        let object = object.as_object_mut().expect("an object");
        let event = object["event"].as_str().expect("an event").to_owned();
        ids.insert(object["run"].as_str().expect("the run").to_owned());
        if event == "run" {
            assert_eq!(object["jobs"], serde_json::json!(["nightly", "other"]), "{line}");
            compare(&fields, "coffre run", line);
            continue;
        }
        let job = object["job"].as_str().expect("a job").to_owned();
        of_jobs.entry(job).or_default().push(event.clone());
        object.remove("run");
        let section = if event == "job" { "coffre run" } else { "coffre backup" };
        if event != "job" {
            object.remove("job");
        }
        let mut rest = serde_json::json!({});
        std::mem::swap(rest.as_object_mut().expect("an object"), object);
        let Value::Object(rest) = rest else { unreachable!("an object") };
        let others: BTreeMap<&String, &Value> = rest.iter().filter(|(name, _)| *name != "event").collect();
        let others = serde_json::to_string(&others).expect("text");
        compare(&fields, section, &format!("{{\"event\":\"{event}\",{}", &others[1..]));
    }
    assert_eq!(ids.len(), 1, "{told:?}");
    assert_eq!(of_jobs["nightly"], ["summary", "error", "job"], "{told:?}");
    assert_eq!(of_jobs["other"].last().map(String::as_str), Some("job"), "{told:?}");
    assert!(of_jobs["other"].iter().any(|event| event == "problem" || event == "error"), "{told:?}");
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Compares objects with a section of the page; returns the events that came.
pub fn compare(fields: &Fields, section: &str, text: &str) -> BTreeSet<String> {
    let mut events = BTreeSet::new();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let Keys(keys) = serde_json::from_str(line).unwrap_or_else(|error| panic!("{section}: {error}: {line}"));
        assert!(keys[1..].is_sorted(), "{section}: the fields behind `event` are in alphabetical order: {line}");
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{section}: {error}: {line}"));
        let event = object["event"].as_str().expect("an event").to_owned();
        assert!(line.starts_with(&format!("{{\"event\":\"{event}\"")), "{section}: the event comes first: {line}");
        let known = fields
            .get(&(section.to_owned(), event.clone()))
            .or_else(|| fields.get(&("Every command".to_owned(), event.clone())))
            .unwrap_or_else(|| panic!("docs/json.md has no `{event}` in {section}: {line}"));
        for (name, value) in object.as_object().expect("an object").iter().filter(|(name, _)| *name != "event") {
            let said =
                known.get(name).unwrap_or_else(|| panic!("docs/json.md lacks `{name}` of `{event}` in {section}"));
            assert!(said.contains(type_of(value)), "{section}: `{event}.{name}` is said to be {said}: {value}");
            seen.entry(event.clone()).or_default().insert(name.clone());
        }
        events.insert(event);
    }
    for (event, names) in seen {
        let known = fields.get(&(section.to_owned(), event.clone()));
        for (name, said) in known.into_iter().flatten().filter(|(_, said)| !said.contains(", of ")) {
            assert!(names.contains(name), "{section}: `{event}` has no `{name}` ({said}), which docs/json.md promises");
        }
    }
    events
}

#[test]
fn every_field_of_every_verb_is_documented_and_there() {
    let fields = documented();
    let desk = Desk::new();
    fs::create_dir_all(desk.at("source/sub")).expect("made");
    for name in ["a", "b", "c", "d"] {
        fs::write(desk.at(&format!("source/{name}")), "one").expect("written");
    }
    std::os::unix::fs::symlink("a", desk.at("source/link")).expect("linked");
    rusqlite::Connection::open(desk.at("app.db")).expect("opened").execute_batch("CREATE TABLE t (x);").expect("run");
    fs::create_dir_all(desk.at("out")).expect("made");
    fs::write(desk.at("out/extra"), "").expect("written");
    let spot = format!("latest:{}", desk.at("source").display());
    let steps: [(&str, &[&str], i32, &[&str]); 30] = [
        ("coffre init", &["init", "--recovery-kit", "kit"], 0, &["summary"]),
        ("coffre backup", &["backup", "source"], 0, &["summary"]),
        ("coffre backup", &["backup", "source", "--sqlite", "app.db", "--dry-run"], 0, &["summary"]),
        ("coffre backup", &["backup", "source", "--sqlite", "app.db", "--exclude", "a"], 0, &["summary"]),
        ("coffre snapshots", &["snapshots"], 0, &["snapshot"]),
        ("coffre ls", &["ls", "-R", "latest"], 0, &["entry"]),
        ("coffre find", &["find", "sub"], 0, &["entry"]),
        ("coffre find", &["find", "nothing-of-this-name"], 1, &[]),
        ("coffre stats", &["stats"], 0, &["summary"]),
        ("coffre stats SNAPSHOT", &["stats", "latest"], 0, &["summary"]),
        ("coffre stats SNAPSHOT", &["stats", "latest", "--reach"], 0, &["reach", "summary"]),
        ("coffre dump", &["dump", "latest", "--target", "dump.tar"], 0, &["summary"]),
        ("coffre verify", &["verify", "--read-data"], 0, &["summary"]),
        ("coffre status", &["status"], 0, &["series", "work", "summary"]),
        ("coffre prune", &["prune", "--dry-run"], 0, &["summary"]),
        ("coffre restore", &["restore", &spot, "--target", "out", "--delete", "--yes"], 0, &["extra", "summary"]),
        ("coffre restore --into-…", &["restore", "latest", "--into-sqlite", "new.db", "--plan"], 0, &["plan"]),
        ("coffre restore --into-…", &["restore", "latest", "--into-sqlite", "new.db"], 0, &["summary"]),
        ("coffre restore --to-directory", &["restore", "latest", "--to-directory", "dumps"], 0, &["summary"]),
        ("coffre forget", &["forget", "latest", "--allow-empty"], 0, &["decision", "summary"]),
        ("coffre snapshots", &["snapshots", "--forgotten"], 0, &["snapshot"]),
        ("coffre forget --undo", &["forget", "--undo", "last"], 0, &["summary"]),
        ("coffre forget --accept-missing-records", &["forget", "--accept-missing-records"], 0, &["summary"]),
        ("coffre hold add, remove", &["hold", "add", "latest", "--until", "2999-01-01"], 0, &["summary"]),
        ("coffre hold list", &["hold", "list"], 0, &["hold"]),
        ("coffre kit", &["kit"], 0, &["summary"]),
        (
            "coffre key add, passwd, remove, revoke-writer",
            &["key", "add", "--writer", "web", "--host", "web1", "--group", "7", "--show-identity"],
            0,
            &["summary"],
        ),
        ("coffre key list", &["key", "list"], 0, &["slot", "writer", "summary"]),
        ("Every command", &["ls", "ffff"], 1, &["error"]),
        ("Every command", &["wat"], 2, &["error"]),
    ];
    for (section, arguments, code, events) in steps {
        let run = desk.run(&[arguments, &["--json"]].concat());
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        let came = compare(&fields, section, &run.out);
        assert_eq!(came, events.iter().map(|event| (*event).to_owned()).collect(), "{arguments:?}: {run:?}");
    }
    let all = desk.run(&["snapshots", "--json"]).out;
    let first: Value = serde_json::from_str(all.lines().next().expect("one")).expect("JSON");
    let diff = desk.run(&["diff", first["id"].as_str().expect("an id"), "latest", "--json"]);
    assert_eq!(compare(&fields, "coffre diff", &diff.out), ["change", "summary"].map(String::from).into());

    for pack in crate::support::files_in(&desk.at("repository/packs")).keys() {
        let path = desk.at("repository/packs").join(pack);
        let mut bytes = fs::read(&path).expect("read");
        bytes[40] ^= 1;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        fs::write(&path, bytes).expect("written");
    }
    let damaged = desk.run(&["verify", "--read-data", "--json"]);
    assert_eq!(damaged.code, 4, "{damaged:?}");
    assert!(compare(&fields, "coffre verify", &damaged.out).contains("finding"), "{damaged:?}");
}

#[test]
fn progress_is_never_among_the_results_and_objects_only_when_wanted() {
    let desk = Desk::with_passphrase();
    let fields = documented();
    // Long enough for several objects, however slow the machine is: it waits for them.
    let script = "echo begun; while [ ! -e go ]; do sleep 0.05; done";
    let arguments = ["backup", "--json", "--progress", "json", "--command", "slow", "--", "sh", "-c", script];
    let mut child = desk
        .command(&arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("piped")));
    let first = lines.next().expect("an object").expect("text");
    assert!(compare(&fields, "On standard error with --progress json", &first).contains("progress"), "{first}");
    fs::write(desk.at("go"), "").expect("written");
    for line in lines {
        compare(&fields, "On standard error with --progress json", &line.expect("text"));
    }
    let run: crate::support::desk::Run = child.wait_with_output().expect("ends").into();
    assert_eq!((run.code, compare(&fields, "coffre backup", &run.out)), (0, BTreeSet::from(["summary".to_owned()])));
}
