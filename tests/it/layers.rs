//! The architecture: which module may use which. Dependencies point left only.

use std::collections::BTreeMap;
use std::path::Path;

/// For each top-level module, the modules that it may use.
fn allowed() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("model", &[][..]),
        ("progress", &["model"][..]),
        ("cancel", &[][..]),
        ("blocking", &[][..]),
        ("fs", &["model"][..]),
        ("process", &["model"][..]),
        ("database", &["model", "process"][..]),
        ("crypto", &["model"][..]),
        ("format", &["model", "crypto"][..]),
        ("chunker", &["model", "format"][..]),
        ("compress", &["model", "format"][..]),
        ("store", &["model", "progress", "blocking", "cancel"][..]),
        ("source", &["model", "progress", "fs", "process", "database"][..]),
        ("target", &["model", "progress", "fs", "process", "database"][..]),
        ("repository", &["model", "progress", "blocking", "crypto", "format", "chunker", "compress", "store"][..]),
        (
            "ops",
            &[
                "model",
                "progress",
                "cancel",
                "blocking",
                "process",
                "database",
                "crypto",
                "format",
                "chunker",
                "compress",
                "store",
                "source",
                "target",
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
                "crypto",
                "format",
                "store",
                "source",
                "target",
                "repository",
                "ops",
            ][..],
        ),
    ])
}

/// Crates that only one layer may name.
const CONFINED: [(&str, &[&str]); 6] = [
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("aws_sdk_s3", &["store"]),
    ("aws_lc_rs", &["crypto"]),
    ("hpke", &["crypto"]),
    ("fastcdc", &["chunker"]),
];

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

/// Production code: without tests and comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]\nmod tests")
        .next()
        .into_iter()
        .flat_map(str::lines)
        .map(|line| line.split("//").next().unwrap_or(""))
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
            assert!(["lib", "main", "design", "vectors"].contains(&layer), "{name} belongs to no layer");
            continue;
        };
        for line in code(text) {
            for used in line.split("crate::").skip(1) {
                let module: String = used.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if allowed.contains_key(module.as_str()) && module != layer && !may_use.contains(&module.as_str()) {
                    wrong.push(format!("{name}: {layer} uses {module}: {}", line.trim()));
                }
            }
            for (outside, home) in CONFINED {
                if line.contains(&format!("{outside}::")) && !home.contains(&layer) {
                    wrong.push(format!("{name}: {outside} outside {home:?}: {}", line.trim()));
                }
            }
        }
    }
    assert!(files.len() > 40, "the sources were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
