//! Whole configurations: what is made of good ones, and what is said of bad ones.

use super::*;

fn plan(text: &str) -> Plan {
    match compile(None, text, &Overrides::default()) {
        Ok((plan, _)) => plan,
        Err(problems) => panic!("{}", shown(&problems)),
    }
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

const LEAST: &str = r#"
[[listener]]
name = "http"
bind = "127.0.0.1:8080"
[[cluster]]
name = "app"
[[cluster.server]]
address = "127.0.0.1:6901"
"#;

#[test]
fn the_least_configuration() {
    let plan = plan(LEAST);
    assert_eq!(plan.listeners.len(), 1);
    assert_eq!(plan.clusters[0].servers[0].capacity, 5);
    assert_eq!(plan.clusters[0].queue_limit, 16_384);
    assert_eq!(plan.routes.iter().count(), 1);
}
