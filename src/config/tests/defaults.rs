//! The reference of keys: its defaults hold, its examples are good, and the document is up to date.

use super::*;

/// Writes every default of a table.
pub(super) fn write_defaults(out: &mut String, path: &str) {
    for key in section(path).unwrap().keys {
        if let Default::Is(value) = &key.default {
            writeln!(out, "{} = {value}", key.name).unwrap();
        }
    }
}

/// The least configuration with every default of the reference written out, optional tables and
/// all.
fn with_all_defaults() -> String {
    let mut out = String::new();
    for path in ["process", "buffers", "spool", "log"] {
        writeln!(out, "[{path}]").unwrap();
        write_defaults(&mut out, path);
    }
    out.push_str("[[listener]]\nname = \"http\"\nbind = \"127.0.0.1:8080\"\n");
    write_defaults(&mut out, "listener");
    for path in ["listener.timeout", "listener.limit"] {
        writeln!(out, "[{path}]").unwrap();
        write_defaults(&mut out, path);
    }
    out.push_str("[[cluster]]\nname = \"app\"\n");
    write_defaults(&mut out, "cluster");
    for path in [
        "cluster.queue",
        "cluster.retry",
        "cluster.timeout",
        "cluster.limit",
    ] {
        writeln!(out, "[{path}]").unwrap();
        write_defaults(&mut out, path);
    }
    out.push_str("[[cluster.server]]\naddress = \"127.0.0.1:6901\"\n");
    write_defaults(&mut out, "cluster.server");
    out.push_str("[[route]]\ncluster = \"app\"\n");
    write_defaults(&mut out, "route");
    out
}

#[test]
fn the_defaults_that_are_printed_are_those_that_hold() {
    let text = with_all_defaults();
    assert_eq!(
        format!("{:?}", plan(&text)),
        format!("{:?}", plan(LEAST)),
        "{text}"
    );
}

#[test]
fn every_default_is_a_value_that_may_be_written() {
    // A bad one would trip an assertion in the reader.
    for section in SECTIONS {
        for key in section.keys {
            assert!(
                !key.name.is_empty() && !key.meaning.contains('|'),
                "{}.{}",
                section.path,
                key.name
            );
            if let Default::Is(text) = key.default {
                assert!(
                    toml::de::DeValue::parse(text).is_ok(),
                    "{}.{}",
                    section.path,
                    key.name
                );
            }
            let holds_keys = matches!(key.kind, Kind::Table | Kind::Tables);
            assert!(
                !holds_keys || section.child(key.name).is_some(),
                "{}.{}",
                section.path,
                key.name
            );
        }
    }
    let tls =
        "[[listener]]\nname = \"s\"\nbind = \"*:1\"\ntls = {}\nforwarded = { style = \"off\" }";
    let page = "[[cluster.error_page]]\nstatus = 503";
    let said = said(&format!("{tls}{LEAST}{page}"));
    assert!(
        said.contains("there is no certificate") && said.contains("key \"file\" is missing"),
        "{said}"
    );
}

fn shipped(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_shipped_files_are_good() {
    for (file, port) in [
        ("juggler_config/juggler.toml", 80),
        ("juggler_config/demo.toml", 8080),
    ] {
        let (plan, warnings) = match load(&shipped(file), &Overrides::default()) {
            Ok(good) => good,
            Err(problems) => panic!("{}", shown(&problems)),
        };
        assert!(
            warnings
                .iter()
                .all(|warning| warning.message.contains("left out")),
            "{}",
            shown(&warnings)
        );
        assert_eq!(
            plan.listeners[0].bind,
            value::parse_bind(&format!("*:{port}")).unwrap()
        );
        assert_eq!(plan.clusters[0].servers.len(), 3);
    }
}

#[test]
fn the_document_is_up_to_date() {
    let document = fs::read_to_string(shipped("docs/configuration.md")).unwrap();
    assert!(
        document == reference::markdown(),
        "make it again: cargo run -- config reference --markdown > docs/configuration.md"
    );
}

#[test]
fn the_examples_in_the_document_are_good() {
    let document = reference::markdown();
    let mut whole = 0;
    for block in document
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
    {
        let said = said(block);
        for problem in said.lines().filter(|line| line.starts_with("j.toml")) {
            let of_this_machine = problem.contains("there is no folder")
                || problem.contains("there is no file")
                || problem.contains("cannot be read");
            let of_a_part = problem.contains("j.toml: there is no");
            assert!(of_this_machine || of_a_part, "{problem}\n{block}");
        }
        whole += usize::from(!said.contains("j.toml: there is no"));
    }
    assert!(whole >= 2, "{whole}");
}

#[test]
fn the_reference_for_a_terminal_names_every_key() {
    let text = reference::text();
    for section in SECTIONS.iter().filter(|section| !section.path.is_empty()) {
        assert!(
            text.contains(&format!("\n{}\n", section.header)),
            "{}",
            section.header
        );
        for key in section.keys {
            assert!(
                text.contains(&format!("\n  {}\n", key.name)),
                "{}",
                key.name
            );
        }
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "{text}"
    );
}
