//! Rules of the house that no compiler checks: imports point one way, files stay small, one engine in the
//! lockfile, and nothing outside its room does what only that room may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(under: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(under) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    out.sort();
}

fn files(folders: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut paths);
    }
    let name = |path: &Path| path.strip_prefix(root()).expect("under the root").to_string_lossy().replace('\\', "/");
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).expect("readable source"))).collect()
}

/// The room of a source file: `src/pg/encode.rs` → `pg`, `udfs/core/src/error.rs` → `error`.
fn room<'a>(file: &'a str, source: &str) -> &'a str {
    let inside = file.strip_prefix(source).unwrap_or(file);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// Rooms named by `crate::<room>` or by the library's own name in the code (comments left out).
fn imported_rooms(text: &str, crate_names: &[&str], rooms: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines().map(|line| line.split("//").next().unwrap_or("")) {
        for name in crate_names {
            let needle = format!("{name}::");
            for (at, _) in line.match_indices(&needle) {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let rest = &line[at + needle.len()..];
                if let Some(group) = rest.strip_prefix('{') {
                    for word in group.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                        if rooms.contains(word) {
                            found.insert(word.to_owned());
                        }
                    }
                } else {
                    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if rooms.contains(word.as_str()) {
                        found.insert(word);
                    }
                }
            }
        }
    }
    found
}

fn check_imports(source: &str, crate_names: &[&str], allowed: &[(&str, &[&str])]) {
    let rooms: BTreeSet<&str> = allowed.iter().map(|(name, _)| *name).collect();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = allowed.iter().map(|(name, list)| (*name, list.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (file, text) in files(&[source]) {
        let here = room(&file, &format!("{source}/"));
        let Some(may) = allowed.get(here) else {
            if !matches!(here, "lib" | "main" | "bin") {
                wrong.push(format!("{file}: room \"{here}\" is not in the table of rooms"));
            }
            continue;
        };
        for there in imported_rooms(&text, crate_names, &rooms) {
            if there != here && !may.contains(there.as_str()) {
                wrong.push(format!("{file}: {here} must not import {there}"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point the wrong way:\n{}", wrong.join("\n"));
}

#[test]
fn imports_of_the_server_point_one_way() {
    let leaves = ["config", "error", "telemetry"];
    let with = |rooms: &[&'static str]| -> Vec<&'static str> { leaves.iter().copied().chain(rooms.iter().copied()).collect() };
    let (cli, pg, sql) = (
        with(&["pg", "sql", "engine", "plan", "catalog", "storage", "dist"]),
        with(&["sql", "engine", "plan", "catalog"]),
        with(&["engine", "plan", "catalog", "storage"]),
    );
    let (engine, plan, catalog) = (with(&["plan", "catalog", "storage"]), with(&["storage"]), with(&["storage"]));
    let (storage, dist) = (with(&[]), with(&["engine", "plan"]));
    check_imports(
        "src",
        &["crate", "portrait"],
        &[
            ("cli", &cli),
            ("pg", &pg),
            ("sql", &sql),
            ("engine", &engine),
            ("plan", &plan),
            ("catalog", &catalog),
            ("storage", &storage),
            ("dist", &dist),
            ("config", &["error"]),
            ("telemetry", &["config", "error"]),
            ("error", &[]),
        ],
    );
}

#[test]
fn imports_of_the_functions_point_one_way() {
    check_imports("udfs/src", &["crate", "portrait_udfs"], &[("functions", &["context"]), ("context", &[])]);
}

#[test]
fn imports_of_what_functions_compute_with_point_one_way() {
    check_imports(
        "udfs/core/src",
        &["crate", "portrait_core"],
        &[
            ("registry", &["train", "models", "features", "kernels", "error"]),
            ("train", &["models", "features", "kernels", "error"]),
            ("features", &["kernels", "error"]),
            // `InputShape` and `Inputs` are plain vectors: what a network reads.
            ("models", &["features", "error"]),
            ("kernels", &[]),
            ("error", &[]),
        ],
    );
}

#[test]
fn engine_crates_stay_in_their_rooms() {
    let rules: &[(&str, &str, &[&str])] = &[
        ("udfs/core/src", "datafusion", &[]),
        ("udfs/core/src", "candle_core", &["models/", "error.rs"]),
        ("udfs/core/src", "cudarc", &["models/cuda/"]),
        ("udfs/core/src/models", "arrow", &[]),
        ("src", "pgwire", &["pg/"]),
        ("src", "deltalake_core", &["storage/"]),
    ];
    let mut wrong = Vec::new();
    for (source, library, may) in rules {
        for (file, text) in files(&[source]) {
            let inside = file.strip_prefix(&format!("{source}/")).unwrap_or(&file);
            if may.iter().any(|prefix| inside.starts_with(prefix)) || file.contains("/tests/") {
                continue;
            }
            let used = text.lines().map(|line| line.split("//").next().unwrap_or("")).any(|line| {
                line.match_indices(&format!("{library}::"))
                    .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'))
            });
            if used {
                wrong.push(format!("{file}: {library} belongs to {may:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "libraries used outside their rooms:\n{}", wrong.join("\n"));
}

#[test]
fn functions_never_name_the_server() {
    for (file, text) in files(&["udfs/src", "udfs/core/src"]) {
        assert!(!text.contains("portrait::"), "{file} names the server crate");
    }
}

#[test]
fn no_file_is_longer_than_800_lines() {
    let long: Vec<String> = files(&["src", "udfs/src", "udfs/core/src", "tests", "benches", "examples"])
        .iter()
        .filter(|(_, text)| text.lines().count() > 800)
        .map(|(file, text)| format!("{file}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "files over 800 lines:\n{}", long.join("\n"));
}

#[test]
fn main_is_short() {
    let main = std::fs::read_to_string(root().join("src/main.rs")).expect("src/main.rs");
    assert!(main.lines().count() <= 30, "main.rs only starts things");
}

#[test]
fn every_room_has_a_header() {
    for (file, text) in files(&["src", "udfs/src", "udfs/core/src"]) {
        if file.ends_with("tests.rs") || file.contains("/tests/") {
            continue;
        }
        let header = text.lines().next().is_some_and(|line| line.starts_with("//!"));
        assert!(header, "{file} begins without a `//!` header");
    }
}

#[test]
fn no_leftovers() {
    let words = ["todo!(", "unimplemented!(", "FIXME", "XXX:", "#[ignore"];
    for (file, text) in files(&["src", "udfs/src", "udfs/core/src", "tests", "benches", "examples"]) {
        if file.ends_with("tidy.rs") {
            continue;
        }
        for word in words {
            assert!(!text.contains(word), "{file} contains {word}");
        }
    }
}

#[test]
fn one_engine_in_the_lockfile() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    for name in ["datafusion", "arrow", "arrow-schema", "parquet", "object_store", "sqlparser", "rustls", "candle-core", "pgwire"] {
        let count = lock.lines().filter(|line| *line == format!("name = \"{name}\"")).count();
        assert_eq!(count, 1, "{name} must be in the lockfile exactly once");
    }
}

#[test]
fn only_storage_and_the_model_store_build_object_paths() {
    let allowed = ["src/storage/", "udfs/core/src/registry/store.rs"];
    for (file, text) in files(&["src", "udfs/src", "udfs/core/src"]) {
        if allowed.iter().any(|prefix| file.starts_with(prefix)) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for call in ["Path::from_absolute_path", "Path::from_filesystem_path", "object_store::path::Path::from"] {
            assert!(!code.contains(call), "{file} builds an object path; only storage and registry/store.rs may");
        }
    }
}
