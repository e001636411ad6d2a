//! The routing table in columns.

use std::fmt::Write as _;

use juggler::plan::Plan;

/// One line for each route, the most specific first.
pub(super) fn table(plan: &Plan) -> String {
    let mut rows = vec![["HOST", "PATH", "CLUSTER", "SERVERS"].map(str::to_owned)];
    for route in plan.routes.iter() {
        let Some(cluster) = plan.clusters.get(route.cluster) else {
            continue;
        };
        let servers: Vec<_> = cluster
            .servers
            .iter()
            .map(|server| format!("{} x{}", server.name, server.capacity))
            .collect();
        let host = route.host.clone().unwrap_or_else(|| "*".to_owned());
        rows.push([host, route.path.clone(), cluster.name.clone(), servers.join(", ")]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for [host, path, cluster, servers] in &rows {
        let [a, b, c] = widths;
        let _ = writeln!(out, "{host:a$}  {path:b$}  {cluster:c$}  {servers}");
    }
    out
}

#[cfg(test)]
mod tests {
    use juggler::config::{Overrides, compile};

    #[test]
    fn columns_are_aligned() {
        let text = r#"
listener = [{ name = "http", bind = "*:80" }]
route = [{ host = "shop.example.org", path = "/checkout", cluster = "vip" }, { cluster = "app" }]
cluster = [
  { name = "app", server = [{ address = "127.0.0.1:6901" }, { name = "two", address = "127.0.0.1:6902", capacity = 9 }] },
  { name = "vip", capacity = 1, server = [{ address = "127.0.0.1:6903" }] },
]
"#;
        let (plan, _) = compile(None, text, &Overrides::default()).unwrap();
        assert_eq!(
            super::table(&plan),
            "\
HOST              PATH       CLUSTER  SERVERS
shop.example.org  /checkout  vip      127.0.0.1:6903 x1
*                 /          app      127.0.0.1:6901 x5, two x9
"
        );
    }
}
