//! What is written and has no effect is warned of.

use std::fs;

use rcgen::{CertificateParams, DnType, KeyPair};

use super::*;
use crate::config::keys::HEALTH;

/// A whole file with these lines in its listener, its cluster and its only server.
fn file(top: &str, listener: &str, cluster: &str, server: &str) -> String {
    format!(
        "{top}\n[[listener]]\nname = \"l\"\nbind = \
         \"127.0.0.1:8080\"\n{listener}\n[[cluster]]\nname = \
         \"c\"\n{cluster}\n[[cluster.server]]\naddress = \"127.0.0.1:6901\"\n{server}\n"
    )
}

#[test]
fn a_setting_without_effect_is_warned_of_and_one_with_effect_is_not() {
    let l = |lines: &str| file("", lines, "", "");
    let c = |lines: &str| file("", "", lines, "");
    let sticky = "health = { sticky_offline = true }";
    for (idle, key, effective) in [
        (l("optional = true"), "listener[0].optional", String::new()),
        (
            l("timeout = { handshake = \"1s\" }"),
            "listener[0].timeout.handshake",
            l("timeout = { handshake = \"1s\" }\nproxy_protocol = \"10.0.0.1\""),
        ),
        (
            l("redirect_https = true\nvia = \"x\""),
            "listener[0].via",
            l("via = \"x\""),
        ),
        (
            l("redirect_https = true\nrequest_id = true"),
            "listener[0].request_id",
            l("request_id = true"),
        ),
        (
            l("redirect_https = true\nlimit = { body = \"1MiB\" }"),
            "listener[0].limit.body",
            l("limit = { body = \"1MiB\" }"),
        ),
        (
            l("redirect_https = true\ntimeout = { body_total = \"1h\" }"),
            "listener[0].timeout.body_total",
            l("timeout = { body_total = \"1h\" }"),
        ),
        (
            l("redirect_https = true\nlimit = { min_upload_rate = \"1KiB\" }"),
            "listener[0].limit.min_upload_rate",
            l("limit = { min_upload_rate = \"1KiB\" }"),
        ),
        (
            l("sessions_per_address = 3").replace("127.0.0.1:8080", "unix:/run/x"),
            "listener[0].sessions_per_address",
            l("sessions_per_address = 3"),
        ),
        (
            l("forwarded = { style = \"rfc7239\", mode = \"replace\" }"),
            "listener[0].forwarded.mode",
            l("forwarded = { style = \"rfc7239\", mode = \"replace\", trusted = \"10.0.0.1\" }"),
        ),
        (
            c("lending = \"reserve\""),
            "cluster[0].lending",
            c("lending = \"reserve\"\nbucket = [{ name = \"main\" }]"),
        ),
        (
            c("retry = { attempts = 1, budget = \"10%\" }"),
            "cluster[0].retry.budget",
            c("retry = { attempts = 2, budget = \"10%\" }"),
        ),
        (
            c("retry = { attempts = 2, back_off = \"1s\" }"),
            "cluster[0].retry.back_off",
            c("retry = { attempts = 3, back_off = \"1s\" }"),
        ),
        (
            c("on_client_abort = \"ignore\"\ntimeout = { abort = \"1s\" }"),
            "cluster[0].timeout.abort",
            c("timeout = { abort = \"1s\" }"),
        ),
        (
            c("queue = { limit = 0, timeout = \"1s\" }"),
            "cluster[0].queue.timeout",
            c("queue = { limit = 1, timeout = \"1s\" }"),
        ),
        (
            c("on_unavailable = \"queue\"\nqueue = { limit = 0 }"),
            "cluster[0].on_unavailable",
            c("on_unavailable = \"queue\""),
        ),
        (
            c("health = { mode = \"disabled\", interval = \"1s\" }"),
            "cluster[0].health",
            c("health = { mode = \"disabled\" }"),
        ),
        (
            c("health = { port = 8081, probe_when_busy = true }"),
            "cluster[0].health.probe_when_busy",
            c("health = { probe_when_busy = true }"),
        ),
        (
            c("health = { passive = { classes = [], ratio = \"10%\" } }"),
            "cluster[0].health.passive.ratio",
            c("health = { passive = { classes = [\"connect\"], ratio = \"10%\" } }"),
        ),
        (
            c("health = { fall = 1, recheck = \"1s\" }"),
            "cluster[0].health.recheck",
            c("health = { recheck = \"1s\" }"),
        ),
        (
            file("", "", "scheduler = \"chance\"", "weight = 2"),
            "cluster[0].server[0].weight",
            file("", "", "", "weight = 2"),
        ),
        (
            file("", "", "capacity = 2", "capacity = 3"),
            "cluster[0].capacity",
            c("capacity = 2"),
        ),
        (
            file("log = { format = \"json\" }", "", "", ""),
            "log.format",
            file(
                "log = { format = \"json\", access = \"stdout\" }",
                "",
                "",
                "",
            ),
        ),
        (
            file(
                "process = { summary = \"1s\" }\nlog = { level = \"warn\" }",
                "",
                "",
                "",
            ),
            "process.summary",
            file("process = { summary = \"1s\" }", "", "", ""),
        ),
        (
            file("spool = { folder = \"/tmp\", limit = \"0B\" }", "", "", ""),
            "spool.folder",
            file("spool = { folder = \"/tmp\" }", "", "", ""),
        ),
        (
            file(
                "spool = { limit = \"0B\" }",
                "limit = { response_spool = \"1MiB\" }",
                "",
                "",
            ),
            "listener[0].limit.response_spool",
            l("limit = { response_spool = \"1MiB\" }"),
        ),
        (
            file("process = { resolve = \"1s\" }", "", "", ""),
            "process.resolve",
            file("process = { resolve = \"1s\" }", "", "", "")
                .replace("127.0.0.1:6901", "a.test:6901"),
        ),
        (
            file("process = { state = \"/tmp/state\" }", "", "", ""),
            "process.state",
            file("process = { state = \"/tmp/state\" }", "", sticky, ""),
        ),
    ] {
        let told = said(&idle);
        assert!(
            told.contains(&format!("warning: {key}: has no effect: ")),
            "{told}: {idle}"
        );
        assert_eq!(told.matches("has no effect").count(), 1, "{told}");
        if !effective.is_empty() {
            assert!(
                !said(&effective).contains("has no effect"),
                "{}",
                said(&effective)
            );
        }
    }
}

/// Of no key is it forgotten that without probes it does nothing.
#[test]
fn no_key_of_a_health_check_that_is_off_has_an_effect() {
    for key in HEALTH.keys.iter().filter(|key| key.name != "mode") {
        let value = match key.name {
            "type" | "method" | "path" | "host" | "send" | "body" => "\"x\"",
            "fields" => "[\"X: y\"]",
            "expect" => "[200]",
            "passive" => "{ connect = 2 }",
            "sticky_offline" | "probe_when_busy" => "true",
            "port" | "rise" | "fall" => "2",
            "panic" | "jitter" => "\"10%\"",
            _ => "\"1s\"",
        };
        let value = match key.name {
            "type" => "\"http\"",
            "method" => "\"GET\"",
            "path" => "\"/x\"",
            _ => value,
        };
        let more = match key.name {
            "type" | "path" => "",
            "send" => ", type = \"http\", method = \"POST\"",
            _ => ", type = \"http\"",
        };
        let health = format!(
            "health = {{ mode = \"disabled\", {} = {value}{more} }}",
            key.name
        );
        let told = said(&file("", "", &health, ""));
        assert!(
            told.contains("warning: cluster[0].health: has no effect: "),
            "{}: {told}",
            key.name
        );
        assert!(!told.contains("error"), "{told}");
    }
}

/// A listener with certificates for these names each; the name without a dot is a common name.
fn with_certificates(certificates: &[&[&str]]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut list = Vec::new();
    for (number, names) in certificates.iter().enumerate() {
        let of_hosts: Vec<_> = names
            .iter()
            .filter(|name| name.contains('.'))
            .map(|&name| name.to_owned())
            .collect();
        let mut params = CertificateParams::new(of_hosts).unwrap();
        for name in names.iter().filter(|name| !name.contains('.')) {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate().unwrap();
        fs::write(
            folder.path().join(format!("{number}.crt")),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        fs::write(
            folder.path().join(format!("{number}.key")),
            key.serialize_pem(),
        )
        .unwrap();
        list.push(format!(
            "{{ chain = \"{number}.crt\", key = \"{number}.key\" }}"
        ));
    }
    // The last of them once more.
    if certificates.len() == 1 {
        list.push(list[0].clone());
    }
    let text = file(
        "",
        &format!("tls = {{ certificates = [{}] }}", list.join(", ")),
        "",
        "",
    );
    let path = folder.path().join("j.toml");
    fs::write(&path, text).unwrap();
    let warnings = shown(&load(&path, &Overrides::default()).unwrap().1);
    let ours = warnings.lines().filter(|line| line.contains("served"));
    ours.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_certificate_that_is_never_served_is_told() {
    assert_eq!(
        with_certificates(&[&["a.test"], &["b.test", "*.b.test"]]),
        ""
    );
    // The first one serves clients that ask for no name or for an unknown one.
    assert_eq!(with_certificates(&[&["common"], &["a.test"]]), "");
    let said = with_certificates(&[&["a.test"], &["common"]]);
    assert!(
        said.contains("certificates[1].chain: is never served: it has no DNS name"),
        "{said}"
    );
    let said = with_certificates(&[&["a.test"], &["192.0.2.1"]]);
    assert!(
        said.contains("certificates[1].chain: is never served: it has no DNS name"),
        "{said}"
    );
    let said = with_certificates(&[&["a.test"]]);
    assert!(
        said.contains("is never served: it is the certificate of listener[0].tls.certificates[0]"),
        "{said}"
    );
    let said = with_certificates(&[&["a.test", "b.test"], &["b.test"]]);
    assert!(
        said.contains("certificates[1].chain: is never served: listener[0].tls.certificates[0]"),
        "{said}"
    );
    let said = with_certificates(&[&["a.test", "b.test"], &["B.test", "c.test"]]);
    assert!(
        said.contains("certificates[1].chain: is not served for all of its names: "),
        "{said}"
    );
    assert!(said.contains("has \"b.test\" too"), "{said}");
}
