//! The shape of the source, kept by a test: who may import whom, who may spawn, who may be unsafe.

mod circles;
mod outline;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use circles::Graph;
use source::{Source, collect, sources, strip, test_modules};

/// The layer of each module at the top. A module imports only what lies lower, and never its
/// neighbour on the same layer: what decides touches no socket, what touches a socket decides
/// nothing.
const LAYERS: &[(&str, u32)] = &[
    ("base", 0),
    ("sys", 0),
    ("threads", 1),
    ("http", 1),
    ("fault", 1),
    ("proto", 2),
    ("route", 2),
    ("balance", 2),
    ("health", 2),
    ("retry", 2),
    ("plan", 3),
    ("filter", 4),
    ("net", 4),
    ("observe", 4),
    ("state", 4),
    ("exchange", 5),
    ("session", 6),
    ("upstream", 6),
    ("pipeline", 7),
    ("config", 8),
    ("app", 9),
    ("cli", 10),
];

/// Longer files than this are several files.
const MOST_LINES: usize = 800;

#[test]
fn a_module_imports_only_lower_layers() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut problems = Vec::new();
    for source in sources() {
        if matches!(source.module.as_str(), "lib" | "main" | "bin") {
            continue;
        }
        let Some(own) = layers.get(source.module.as_str()) else {
            problems.push(format!(
                "{}: the module `{}` has no layer yet; give it one in tests/it/layers.rs and in \
                 docs/architecture.md",
                source.path.display(),
                source.module
            ));
            continue;
        };
        for (line, name) in imports(&source) {
            let at = format!("src/{}:{line}", source.path.display());
            match layers.get(name.as_str()) {
                _ if name == source.module => {}
                Some(other) if other < own => {}
                Some(other) => {
                    problems.push(format!(
                        "{at}: `{}` (layer {own}) imports `{name}` (layer {other})",
                        source.module
                    ));
                }
                None => problems.push(format!(
                    "{at}: `crate::{name}` is no module that has a layer"
                )),
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn layers_are_those_of_modules_that_exist() {
    let modules: BTreeSet<_> = sources().into_iter().map(|source| source.module).collect();
    let missing: Vec<_> = LAYERS
        .iter()
        .map(|(module, _)| *module)
        .filter(|module| !modules.contains(*module))
        .collect();
    assert!(missing.is_empty(), "no such module: {missing:?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let sources: BTreeMap<_, _> = sources()
        .into_iter()
        .map(|source| (source.path.to_string_lossy().into_owned(), source.code))
        .collect();
    let graph = Graph::new(&sources);
    let known: BTreeSet<_> = graph.files().collect();
    let unknown: Vec<_> = sources
        .keys()
        .filter(|file| !known.contains(file.as_str()))
        .collect();
    assert!(unknown.is_empty(), "declared by no module: {unknown:?}");
    let told: Vec<_> = graph
        .circles()
        .into_iter()
        .map(|circle| format!("{:?}:\n  {}", circle.files, circle.steps.join("\n  ")))
        .collect();
    assert!(told.is_empty(), "circles:\n{}", told.join("\n"));
}

#[test]
fn threads_are_spawned_in_one_place() {
    let spawning = with_word(
        &["thread::spawn", "thread::Builder", "thread::scope"],
        |path| path == Path::new("threads.rs") || path.starts_with("bin/test_server"),
    );
    assert!(
        spawning.is_empty(),
        "only src/threads.rs spawns: {spawning:#?}"
    );
}

#[test]
fn unsafe_is_in_one_file_at_most() {
    let with = with_word(&["unsafe"], |_| false);
    let files: BTreeSet<_> = with.iter().map(|(path, _)| path).collect();
    assert!(
        files.len() <= 1,
        "`unsafe` is for one small file: {with:#?}"
    );
}

#[test]
fn no_file_is_too_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "bench/src", "fuzz"] {
        collect(&root.join(folder), &mut files);
    }
    let long: Vec<_> = files
        .iter()
        .map(|path| {
            (
                path.strip_prefix(root).unwrap(),
                fs::read_to_string(path).unwrap().lines().count(),
            )
        })
        .filter(|(_, lines)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:#?}");
}

#[test]
fn the_reader_of_sources_reads_them_right() {
    let source = |code: &str| Source {
        path: "filter/mod.rs".into(),
        module: "filter".into(),
        code: strip(code),
    };
    let found = |code: &str| {
        imports(&source(code))
            .into_iter()
            .map(|(_, name)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found("use crate::net::Stream;\nfn f() { crate::plan::x(); }"),
        ["net", "plan"]
    );
    assert_eq!(
        found("use crate::{http::{Head, Field}, fault, plan::*};"),
        ["http", "fault", "plan"]
    );
    assert_eq!(
        found("use crate :: {\n    a,\n    b::{self, c},\n};"),
        ["a", "b"]
    );
    assert_eq!(
        found(
            "// crate::a\n/* crate::b /* */ crate::c */ \"crate::d\" r#\"\"crate::e\"# '\"' \
             crate::f"
        ),
        ["f"]
    );
    assert_eq!(
        found("fn f<'a>(x: &'a str) -> char { '\\'' } use crate::g;"),
        ["g"]
    );
    assert_eq!(
        found("#[cfg(test)]\nmod tests { use crate::a; fn f() { {} } }\nuse crate::b;"),
        ["b"]
    );
    assert_eq!(found("#[cfg(test)]\nmod a;\nuse crate::b;"), ["b"]);
    assert_eq!(
        found("use super::session::x;"),
        ["session"],
        "above a module at the top is the crate"
    );
    assert_eq!(
        found("use some_crate::a; use self::b::c; pub(in crate::filter) fn f() {}"),
        ["filter"]
    );
    assert_eq!(
        test_modules(
            "#[cfg(test)]\nmod a;\nmod b;\n#[cfg(test)]\n#[path = \"x\"]\npub(crate) mod c;"
        ),
        ["a", "c"]
    );
    assert!(
        is_word("a unsafe {", "unsafe")
            && !is_word("unsafe_code", "unsafe")
            && !is_word("not_unsafe", "unsafe")
    );
}

/// Where one of these words stands in files that are not exempt.
fn with_word(words: &[&str], exempt: impl Fn(&Path) -> bool) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !exempt(&source.path)) {
        for line in source.code.lines() {
            if words.iter().any(|word| is_word(line, word)) {
                found.push((source.path.clone(), line.trim().to_owned()));
            }
        }
    }
    found
}

fn is_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

/// The names after `crate::` and, where that is the crate, after `super::`, with their lines.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let at_top = source.path == Path::new(&source.module).join("mod.rs")
        || source.path.components().count() == 1;
    let mut found = Vec::new();
    for word in ["crate", "super"] {
        if word == "super" && !at_top {
            // `super::super` would leave the module unseen.
            for (at, _) in source.code.match_indices("super::super") {
                found.push((line_of(&source.code, at), "super::super".to_owned()));
            }
            continue;
        }
        for (at, _) in source.code.match_indices(word) {
            let before = &source.code[..at];
            let Some(rest) = source.code[at + word.len()..]
                .trim_start()
                .strip_prefix("::")
            else {
                continue;
            };
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = line_of(&source.code, at);
            found.extend(names(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first name of a path, or those of a group.
fn names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect()
    };
    let Some(group) = path.trim_start().strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name: &String| !name.is_empty());
    found
}
