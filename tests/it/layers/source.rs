//! Reads the sources without what is no code of the program: comments, texts, tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file without comments, texts and tests.
pub(super) struct Source {
    /// Below `src`.
    pub(super) path: PathBuf,
    /// The module at the top that it belongs to.
    pub(super) module: String,
    /// Line by line as in the file, with blanks for what was taken out.
    pub(super) code: String,
}

/// All of `src` but what is there for tests alone.
pub(super) fn sources() -> Vec<Source> {
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

pub(super) fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
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
pub(super) fn test_modules(text: &str) -> Vec<String> {
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
pub(super) fn strip(text: &str) -> String {
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
