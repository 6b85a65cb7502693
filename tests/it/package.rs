//! What is packaged: the files named in Cargo.toml are there, and the pages tell the version of Rust that is asked for.

use std::fs;
use std::path::Path;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

#[test]
fn every_file_of_the_debian_package_is_there_or_is_made() {
    let manifest = read("Cargo.toml");
    let assets = manifest.split("\nassets = [").nth(1).and_then(|rest| rest.split("\n]").next()).expect("a list");
    let sources: Vec<&str> = assets.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert!(sources.len() >= 10, "{sources:?}");
    let script = read(".ci/package");
    for source in sources {
        if let Some(made) = source.strip_prefix("target/package/") {
            let made = made.trim_end_matches("/*.1");
            assert!(script.contains(&format!("$out/{made}\"")), "{source} is made by .ci/package");
            continue;
        }
        if source.starts_with("target/") {
            continue;
        }
        let (directory, pattern) = source.rsplit_once('/').unwrap_or((".", source));
        let ending = pattern.trim_start_matches('*');
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let names = fs::read_dir(&directory).expect(source).map(|item| item.expect("readable").file_name());
        assert!(names.into_iter().any(|name| name.to_string_lossy().ends_with(ending)), "{source}");
    }
    for file in manifest.lines().find_map(|line| line.strip_prefix("conf-files = ")).expect("a list").split('"') {
        if let Some(name) = file.strip_prefix("/etc/coffre/") {
            assert!(read(&format!("examples/systemd/{name}")).contains("COFFRE_"), "{name}");
        }
    }
}

#[test]
fn the_pages_ask_for_the_rust_that_is_needed() {
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("named");
    let rust = format!("Rust {}", rust.trim_end_matches('"'));
    for page in ["README.md", "docs/install.md"] {
        assert!(read(page).contains(&rust), "{page} does not say {rust}");
    }
}
