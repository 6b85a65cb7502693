//! The architecture: which module may use which. Dependencies point left only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// For each top-level module, the modules that it may use.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("model", &[][..]),
        ("progress", &["model"][..]),
        ("cancel", &[][..]),
        ("blocking", &[][..]),
        ("fs", &["model"][..]),
        ("web", &[][..]),
        ("process", &["model", "cancel"][..]),
        ("database", &["model", "process"][..]),
        ("crypto", &["model"][..]),
        ("format", &["model", "crypto"][..]),
        ("chunker", &["model", "format"][..]),
        ("windows", &["model", "format", "chunker"][..]),
        ("compress", &["model", "format"][..]),
        ("store", &["model", "progress", "blocking", "cancel"][..]),
        ("source", &["model", "progress", "cancel", "fs", "process", "database"][..]),
        ("sink", &["model", "progress", "cancel", "fs", "process"][..]),
        ("engine", &["model", "progress", "cancel", "blocking", "process", "database", "source", "sink"][..]),
        (
            "repository",
            &["model", "progress", "blocking", "crypto", "format", "chunker", "windows", "compress", "store"][..],
        ),
        (
            "ops",
            &[
                "model",
                "progress",
                "cancel",
                "blocking",
                "process",
                "database",
                "chunker",
                "windows",
                "compress",
                "source",
                "sink",
                "engine",
                "repository",
            ][..],
        ),
        (
            "cli",
            &[
                "model",
                "progress",
                "cancel",
                "blocking",
                "process",
                "database",
                "web",
                "crypto",
                "format",
                "store",
                "source",
                "sink",
                "engine",
                "repository",
                "ops",
            ][..],
        ),
    ])
}

/// Crates that only some files may name, given by how their paths begin.
const CONFINED: [(&str, &[&str]); 12] = [
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("aws_sdk_s3", &["store/"]),
    ("aws_lc_rs", &["crypto/"]),
    ("hpke", &["crypto/"]),
    ("age", &["crypto/identity.rs", "crypto/slot.rs"]),
    ("fastcdc", &["chunker.rs"]),
    ("siphasher", &["windows/pieces.rs"]),
    ("tar", &["sink/tar.rs"]),
    ("rusqlite", &["database/mod.rs", "engine/sqlite/"]),
    // What is printed, what servers are asked, and the figures that one run leaves the next.
    ("serde_json", &["cli/", "engine/", "ops/backup/remembered.rs"]),
    ("toml", &["cli/config/file.rs"]),
];

/// Names that a layer may take from another and no more: of stores, the command line opens them and tells their errors.
const NARROW: [(&str, &str, &[&str]); 1] =
    [("cli", "store", &["open", "location", "OpenMode", "OpenOptions", "Store", "StoreError", "StoreErrorKind", "s3"])];

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for item in std::fs::read_dir(directory).expect("src is readable") {
        let path = item.expect("src is readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("src is readable");
            found.push((path.strip_prefix("src").expect("below src").display().to_string(), text));
        }
    }
}

/// Tells whether a file is a module of tests alone, by how its parent declares it.
fn is_of_tests(name: &str, files: &[(String, String)]) -> bool {
    let path = Path::new(name);
    let module = path.file_stem().unwrap_or_default().display();
    let parent = path.parent().expect("it has a name").join("mod.rs").display().to_string();
    let declared = format!("#[cfg(test)]\nmod {module};");
    files.iter().any(|(other, text)| *other == parent && text.contains(&declared))
}

/// Production code: without tests and comments.
fn code(text: &str) -> String {
    let production = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    production.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the paths that follow `crate::` in code, those in braces one by one.
fn own_paths(code: &str) -> Vec<String> {
    code.split("crate::").skip(1).flat_map(paths).collect()
}

/// Returns the paths that some text begins with: one, or as many as its braces hold.
fn paths(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (head, rest) = text.split_at(end);
    let Some(inside) = rest.strip_prefix('{') else { return vec![head.trim_end_matches(':').to_owned()] };
    let mut depth = 0usize;
    let mut parts = vec![String::new()];
    for c in inside.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth = depth + usize::from(c == '{') - usize::from(c == '}');
                parts.last_mut().expect("there is one").push(c);
            }
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(paths).map(|path| format!("{head}{path}")).collect()
}

/// Tells whether code names a crate: its name stands alone, before `::` or behind `use`, and is no part of another path.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let stands_alone = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let is_imported = before.ends_with("use ") && after.starts_with([';', ' ']);
        stands_alone && (after.starts_with("::") || is_imported)
    })
}

#[test]
fn every_arrow_points_left() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let allowed = allowed();
    let mut wrong = Vec::new();
    for (name, text) in &files {
        let layer = name.split(['/', '.']).next().unwrap_or_default();
        let Some(may_use) = allowed.get(layer) else {
            assert!(["lib", "main", "design", "limits", "vectors"].contains(&layer), "{name} belongs to no layer");
            continue;
        };
        if is_of_tests(name, &files) {
            continue;
        }
        let code = code(text);
        for path in own_paths(&code) {
            let (module, item) = path.split_once("::").unwrap_or((&path, ""));
            if allowed.contains_key(module) && module != layer && !may_use.contains(&module) {
                wrong.push(format!("{name}: {layer} uses {path}"));
            }
            let narrow = NARROW.iter().find(|(user, used, _)| (*user, *used) == (layer, module));
            if narrow.is_some_and(|(_, _, items)| !items.iter().any(|allowed| is_below(item, allowed))) {
                wrong.push(format!("{name}: {layer} uses {path}"));
            }
        }
        for (outside, homes) in CONFINED {
            if names_crate(&code, outside) && !homes.iter().any(|home| name.starts_with(home)) {
                wrong.push(format!("{name}: {outside} outside {homes:?}"));
            }
        }
    }
    assert!(files.len() > 40, "the sources were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_below(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn names_are_found_however_they_are_imported() {
    let cases: [(&str, &[&str]); 6] = [
        ("use crate::store::Store;", &["store::Store"]),
        ("use crate::{format::{pack, tree::Node}, crypto};", &["format::pack", "format::tree::Node", "crypto"]),
        ("use crate::{\n    store,\n    model::id::ChunkId as Id,\n};", &["store", "model::id::ChunkId"]),
        ("let x = crate::crypto::random();", &["crypto::random"]),
        ("pub(crate) fn f() {}", &[]),
        ("fn g(a: crate::store::Store, b: crate::model::X)", &["store::Store", "model::X"]),
    ];
    for (code, paths) in cases {
        assert_eq!(own_paths(code), paths, "{code}");
    }
    for code in ["use tar::Builder;", "use tar;", "let x = tar::Header::new_gnu();", "use tar as archive;"] {
        assert!(names_crate(code, "tar"), "{code}");
    }
    for code in ["use crate::sink::tar::Put;", "mod tar;", "start::now()", "let tar = 1;", "avatar::new()"] {
        assert!(!names_crate(code, "tar"), "{code}");
    }
}

/// What is known of an engine of databases is in its folder; one line of `engine/mod.rs` beside its `pub mod` makes it known.
#[test]
fn an_engine_is_named_in_its_folder_and_registered_once() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let engines: Vec<&str> =
        files.iter().filter_map(|(name, _)| name.strip_prefix("engine/")?.strip_suffix("/mod.rs")).collect();
    assert!(engines.len() >= 3, "{engines:?}");
    for engine in engines {
        let own = format!("engine/{engine}/");
        let (module, name) = (format!("engine::{engine}"), format!("\"{engine}\""));
        // Commands of the user's own are known there by their names, to hide passwords in them.
        let knows_programs = |file: &str| file == "source/secrets.rs";
        for (file, text) in files.iter().filter(|(file, _)| !file.starts_with(&own) && !knows_programs(file)) {
            let text = code(text);
            let naming: Vec<&str> =
                text.lines().filter(|line| line.contains(&module) || line.contains(&name)).collect();
            assert!(naming.is_empty(), "{file} knows {engine}: {naming:?}");
        }
        let (_, registry) = files.iter().find(|(file, _)| file == "engine/mod.rs").expect("there");
        let registry = code(registry);
        let lines: Vec<&str> = registry.lines().filter(|line| line.contains(engine)).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
}

/// Files that may look into the environment of the process besides the command line, and what for.
const LOOK_INTO_THE_ENVIRONMENT: [(&str, &str); 5] = [
    ("process/environment.rs", "what programs that are run inherit"),
    ("vectors.rs", "a test that writes files"),
    ("cli/environment.rs", "here it is read, once"),
    ("cli/output.rs", "how wide a terminal is"),
    ("cli/report.rs", "whether errors have colours, also before there are settings"),
];

/// Settings are made before anything is opened: the command line reads the environment, and whoever uses the library says what
/// it should do. So two jobs in one process can differ.
#[test]
fn nothing_but_the_settings_reads_the_environment() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let looks = ["env::var", "env::vars", "temp_dir(", "home_dir(", "from_env("];
    let mut wrong = Vec::new();
    for (name, text) in &files {
        let code = code(text);
        if LOOK_INTO_THE_ENVIRONMENT.iter().any(|(file, _)| name == file) {
            assert!(looks.iter().any(|look| code.contains(look)), "{name} reads nothing any more");
            continue;
        }
        wrong.extend(looks.iter().filter(|look| code.contains(**look)).map(|look| format!("{name}: {look}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where text may be written to a terminal or whoever reads in its place, and why there: what stands in the code, and in which files.
const WRITE_TO_A_TERMINAL: [(&str, &[(&str, &str)]); 5] = [
    (
        "stdout()",
        &[
            ("cli/output.rs", "the one place, where text is made harmless"),
            ("cli/dump.rs", "bytes that somebody asked for, as they are"),
        ],
    ),
    (
        "stderr()",
        &[
            ("cli/output.rs", "the one place, where text is made harmless"),
            ("process/stderr.rs", "what a program of the user's says, as it says it"),
            ("process/mod.rs", "a program's own two outputs are joined"),
            ("main.rs", "nothing but what the system says"),
        ],
    ),
    ("/dev/tty", &[("cli/question.rs", "questions, made harmless there")]),
    ("set_message(", &[("cli/progress.rs", "the bar, made harmless there")]),
    ("error.print()", &[("cli/mistakes.rs", "help, which is ours")]),
];

/// Names of hosts, jobs, streams and objects, and what stores and servers say, come from others: whatever is written to a terminal
/// passes the place where that is made harmless.
#[test]
fn text_reaches_a_terminal_in_one_place() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut seen = BTreeSet::new();
    for (name, text) in &files {
        if is_of_tests(name, &files) {
            continue;
        }
        for line in code(text).lines() {
            // Whether it is a terminal, and how wide, may be asked anywhere.
            let asks = [
                "use_stderr()",
                "stdout().is_terminal()",
                "stderr().is_terminal()",
                "columns(io::stdout())",
                "wanted(io::std",
            ];
            let rest = asks.iter().fold(line.to_owned(), |line, ask| line.replace(ask, ""));
            for (writes, places) in WRITE_TO_A_TERMINAL.iter().filter(|(writes, _)| rest.contains(writes)) {
                assert!(places.iter().any(|(place, _)| place == name), "{name} writes past cli/output.rs: {line}");
                seen.insert((writes, name.as_str()));
            }
        }
    }
    let named: usize = WRITE_TO_A_TERMINAL.iter().map(|(_, places)| places.len()).sum();
    assert_eq!(seen.len(), named, "each place that is named is one: {seen:?}");
    for (file, harmless) in
        [("cli/question.rs", "output::visible(question)"), ("cli/progress.rs", "output::one_line(&message)")]
    {
        assert!(files.iter().any(|(name, text)| name == file && code(text).contains(harmless)), "{file}");
    }
}

/// The file whose types may have the names of others: an object of `--json` is called as what it tells.
const EVENTS: &str = "cli/events.rs";
/// The name that many types have: the arguments of each verb.
const ARGUMENTS: &str = "Args";

/// A type that other files can see has a name of its own, so whoever meets the name knows what is meant without looking where it
/// comes from. Names that are private in all their files may be the same.
/// What a layer over a store leaves out, the trait would answer for: for a bucket with versions wrongly.
#[test]
fn every_layer_hands_on_every_call() {
    let root = Path::new("src/store");
    let port = std::fs::read_to_string(root.join("mod.rs")).expect("there");
    let port = port.split("pub trait Store").nth(1).and_then(|rest| rest.split("\n}\n").next()).expect("the trait");
    let calls = code(port);
    let calls = calls.split("fn ").skip(1).map(|rest| rest.split('(').next().expect("a name"));
    // These call those that tell how far they are.
    let calls: Vec<&str> = calls.filter(|name| !["put", "get", "get_range"].contains(name)).collect();
    assert!(calls.len() >= 9 && calls.contains(&"look_back"), "{calls:?}");
    let mut files = Vec::new();
    sources(&root.join("layer"), &mut files);
    let layers: Vec<_> =
        files.iter().filter_map(|(name, text)| Some((name, text.split("impl Store for").nth(1)?))).collect();
    assert_eq!(layers.len(), 4);
    for (name, text) in layers {
        let missing = calls.iter().find(|call| !text.contains(&format!("fn {call}(")));
        assert_eq!(missing, None, "{name}");
    }
}

#[test]
fn one_meaning_per_type_name() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut homes: BTreeMap<String, Vec<(&str, bool)>> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| file != EVENTS && file != "vectors.rs") {
        if is_of_tests(file, &files) {
            continue;
        }
        for (name, is_visible) in types(&code(text)) {
            homes.entry(name).or_default().push((file, is_visible));
        }
    }
    assert!(homes.len() > 500, "the types were found");
    let is_ambiguous = |name: &String, homes: &Vec<(&str, bool)>| {
        name != ARGUMENTS && homes.len() > 1 && homes.iter().any(|(_, is_visible)| *is_visible)
    };
    let ambiguous: Vec<_> = homes.iter().filter(|(name, homes)| is_ambiguous(name, homes)).collect();
    assert!(ambiguous.is_empty(), "these names mean several things: {ambiguous:#?}");
}

/// Returns the names of the types that code defines, and whether other files can see them.
fn types(code: &str) -> Vec<(String, bool)> {
    let defined = |line: &str| {
        let (is_visible, rest) = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => (true, rest.split_once(") ")?.1),
            Some(rest) => (true, rest.strip_prefix(' ')?),
            None => (false, line),
        };
        let (keyword, rest) = rest.split_once(' ')?;
        let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&keyword);
        is_type.then(|| (name.to_owned(), is_visible))
    };
    code.lines().filter_map(defined).collect()
}

#[test]
fn types_are_found_where_they_are_defined() {
    let code = "pub struct One<T> {\n    two: Two,\n}\nenum Two {}\npub(super) type Three = u8;\nimpl One<u8> {\n    \
                type Four = u8;\n}\nfn five() {}\npub trait Six: Five {}";
    let found = types(code);
    let expected = [("One", true), ("Two", false), ("Three", true), ("Six", true)];
    assert_eq!(found, expected.map(|(name, is_visible)| (name.to_owned(), is_visible)));
}

/// Within a layer no two files need each other, directly or through more. What both need has a file of its own.
///
/// A file needs another when its production code names something there by a path that begins with `crate`. A `mod.rs` is the face of
/// its folder: what it imports and re-exports counts as named where it is defined, and what it defines itself ties nobody,
/// because whoever is in a folder may know its face.
#[test]
fn no_circle_of_imports() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let found = circles(&needs(&files));
    assert!(found.is_empty(), "these files need each other: {found:#?}");
}

/// Tells whether a file is the face of its folder.
fn is_face(name: &str) -> bool {
    name.ends_with("/mod.rs")
}

/// Returns the paths from `crate` that the production code of each file names. Those that a face names from its folder are
/// completed.
fn named(files: &[(String, String)]) -> BTreeMap<&str, Vec<String>> {
    let of = |(name, text): &(String, String)| {
        let code = code(text);
        let mut named = own_paths(&code);
        if let Some(folder) = name.strip_suffix("/mod.rs") {
            let here = |path: &String| {
                let child = format!("{folder}/{}", path.split("::").next().unwrap_or_default());
                files.iter().any(|(other, _)| [format!("{child}.rs"), format!("{child}/mod.rs")].contains(other))
            };
            let imports = code.split("use ").skip(1).flat_map(paths).filter(here);
            named.extend(imports.map(|path| format!("{}::{path}", folder.replace('/', "::"))));
        }
        named
    };
    files.iter().map(|file| (file.0.as_str(), of(file))).collect()
}

/// Returns the file in which a path leads to something, seen through faces.
fn home<'a>(path: &str, named: &BTreeMap<&'a str, Vec<String>>, passed: usize) -> Option<&'a str> {
    let parts: Vec<&str> = path.split("::").collect();
    for length in (1..=parts.len()).rev() {
        let place = parts[..length].join("/");
        if let Some((file, _)) = named.get_key_value(format!("{place}.rs").as_str()) {
            return Some(file);
        }
        let Some((face, behind)) = named.get_key_value(format!("{place}/mod.rs").as_str()) else { continue };
        let behind = parts.get(length).and_then(|name| {
            let is_it = |other: &&String| other.rsplit("::").next() == Some(name) && other.as_str() != path;
            behind.iter().find(is_it).filter(|_| passed < 8)
        });
        return behind.and_then(|other| home(other, named, passed + 1)).or(Some(face));
    }
    None
}

/// Returns which files each file needs in its own layer.
fn needs(files: &[(String, String)]) -> BTreeMap<&str, BTreeSet<&str>> {
    let named = named(files);
    let layer = |name: &str| name.split(['/', '.']).next().unwrap_or_default().to_owned();
    let mut needs = BTreeMap::new();
    for (name, paths) in named.iter().filter(|(name, _)| !is_face(name) && !is_of_tests(name, files)) {
        let homes = paths.iter().filter_map(|path| home(path, &named, 0));
        let others = homes.filter(|other| other != name && !is_face(other) && layer(other) == layer(name));
        needs.insert(*name, others.collect());
    }
    needs
}

/// Returns the sets of files of which each needs all others, directly or through more.
fn circles(needs: &BTreeMap<&str, BTreeSet<&str>>) -> BTreeSet<Vec<String>> {
    let reach = |from: &str| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(at) = todo.pop() {
            for &next in needs.get(at).into_iter().flatten() {
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = needs.keys().map(|&name| (name, reach(name))).collect();
    let circle = |name: &str| -> Vec<String> {
        let back = |other: &&&str| reached.get(**other).is_some_and(|from| from.contains(name));
        reached[name].iter().filter(back).map(|other| (*other).to_owned()).collect()
    };
    reached.keys().map(|name| circle(name)).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn circles_are_found_through_faces_and_only_in_production_code() {
    let files: Vec<(String, String)> = [
        ("a/mod.rs", "mod one; mod two; mod three;\npub use two::Two;\npub use crate::a::three::{Three, Other};"),
        ("a/one.rs", "use crate::a::Two;\nuse crate::a::own_fact;"),
        ("a/two.rs", "fn f(x: crate::a::Three) {}\n// crate::a::one::One"),
        ("a/three.rs", "use crate::{a::one::{One, Else}, b::four::Four};"),
        ("a/five.rs", "use crate::a::one::One;\n#[cfg(test)]\nmod tests { use crate::a::six::Six; }"),
        ("a/six.rs", "use crate::a::five::Five;"),
        ("b/four.rs", "use crate::a::one::One;"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .to_vec();
    let expected = vec!["a/one.rs".to_owned(), "a/three.rs".to_owned(), "a/two.rs".to_owned()];
    assert_eq!(circles(&needs(&files)), BTreeSet::from([expected]));
}
