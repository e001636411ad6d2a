//! The shape of the source, kept by a test: who may import whom, who may spawn, who may be unsafe.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    ("cache", 2),
    ("plan", 3),
    ("filter", 4),
    ("net", 4),
    ("observe", 4),
    ("exchange", 5),
    ("session", 6),
    ("upstream", 6),
    ("pipeline", 7),
    ("config", 8),
    ("admin", 8),
    ("app", 9),
    ("cli", 10),
];

/// Longer files than this are several files.
const MOST_LINES: usize = 800;

/// A source file without comments, texts and tests.
struct Source {
    /// Below `src`.
    path: PathBuf,
    /// The module at the top that it belongs to.
    module: String,
    /// Line by line as in the file, with blanks for what was taken out.
    code: String,
}

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

/// All of `src` but what is there for tests alone.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let mut sources = Vec::new();
    let mut for_tests = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&root).unwrap().to_owned();
        let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") => path.parent().unwrap().to_owned(),
            _ => path.with_extension(""),
        };
        for module in test_modules(&text) {
            for_tests.push(folder.join(format!("{module}.rs")));
            for_tests.push(folder.join(module));
        }
        let first = path
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        sources.push(Source {
            path,
            module,
            code: strip(&text),
        });
    }
    assert!(sources.len() > 20, "where are the sources?");
    sources.retain(|source| !for_tests.iter().any(|path| source.path.starts_with(path)));
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Modules in files of their own that are there for tests alone.
fn test_modules(text: &str) -> Vec<String> {
    let code = without_texts(text);
    let mut found = Vec::new();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let item = &code[at + mark.len()..];
        let end = item.find([';', '{']).unwrap_or(item.len());
        if item[end..].starts_with(';')
            && let Some((_, name)) = item[..end].rsplit_once("mod ")
        {
            found.push(name.trim().to_owned());
        }
    }
    found
}

/// Blanks out comments, texts and what is for tests.
fn strip(text: &str) -> String {
    let mut code = without_texts(text);
    while let Some(at) = code.find("#[cfg(test)]") {
        let item = &code[at..];
        let mut end = item.len();
        let mut depth = 0;
        for (i, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if matches!(c, ';' | '}') && depth == 0 {
                end = i + 1;
                break;
            }
        }
        let blank = blanks(&item[..end]);
        code.replace_range(at..at + end, &blank);
    }
    code
}

fn blanks(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect()
}

/// Blanks out comments and texts.
fn without_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = (!after_name).then(|| raw_text(rest)).flatten() {
            length
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code += &blanks(&rest[..length]);
        rest = &rest[length..];
    }
    code
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `r"..."`, `r#"..."#`, `br"..."`.
fn raw_text(text: &str) -> Option<usize> {
    let start = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = start.len() - start.trim_start_matches('#').len();
    let inside = start[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let from = text.len() - inside.len();
    Some(from + inside.find(&end).map_or(inside.len(), |at| at + end.len()))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, and not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}
