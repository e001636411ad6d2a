//! How comments and documents are set and begin.

use std::fs;
use std::path::{Path, PathBuf};

/// Characters of a line. `rustfmt` sees to code.
const WIDTH: usize = 100;

/// Words that hide which thing a comment is about, and a verb that says less than "returns".
const HIDING: &[&str] = &["Who ", "Whoever ", "Whom ", "Nobody ", "Answers "];

#[test]
fn comments_fit_their_lines_and_say_what_they_are_about() {
    let mut problems = Vec::new();
    for folder in ["src", "tests", "benches", "bench/src", "fuzz/fuzz_targets"] {
        for file in files(folder, "rs") {
            let text = fs::read_to_string(&file).unwrap();
            for (number, line) in text.lines().enumerate() {
                let Some(comment) = comment(line) else {
                    continue;
                };
                let at = format!("{}:{}", file.display(), number + 1);
                if line.chars().count() > WIDTH {
                    problems.push(format!("{at}: more than {WIDTH} characters"));
                }
                if HIDING.iter().any(|word| comment.starts_with(word)) {
                    problems.push(format!("{at}: {comment}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn documents_fit_their_lines_unless_they_are_made_or_show_something_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = files("docs", "md");
    documents.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    let mut problems = Vec::new();
    for file in documents {
        let text = fs::read_to_string(&file).unwrap();
        if text.contains("<!-- Made by ") {
            continue;
        }
        let mut is_shown = false;
        for (number, line) in text.lines().enumerate() {
            is_shown ^= line.trim_start().starts_with("```");
            let is_as_it_is = is_shown || line.starts_with('|') || line.starts_with("    ");
            if !is_as_it_is && line.chars().count() > WIDTH {
                problems.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    let told = problems.join("\n");
    assert!(problems.is_empty(), "more than {WIDTH} characters:\n{told}");
}

#[test]
fn comments_are_told_from_code() {
    assert_eq!(comment("    /// Returns it."), Some("Returns it."));
    assert_eq!(comment("//! Who"), Some("Who"));
    assert_eq!(comment("// why"), Some("why"));
    assert_eq!(comment("let it = 1; // why"), None);
    assert_eq!(comment("\"// text\""), None);
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("//")?;
    Some(rest.trim_start_matches(['/', '!']).trim_start())
}

/// All files of this folder, and of those in it, that end so.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == end) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}
