//! The routing table in columns.

use std::fmt::Write as _;

use juggler::balance::{Admin, Role};
use juggler::plan::{Plan, Server};

/// Returns one line for each route, the most specific first.
pub(super) fn table(plan: &Plan) -> String {
    let mut rows = vec![["HOST", "PATH", "CLUSTER", "SERVERS"].map(str::to_owned)];
    for route in plan.routes.iter() {
        let Some(cluster) = plan.clusters.get(route.cluster) else {
            continue;
        };
        let servers: Vec<_> = cluster.servers.iter().map(server).collect();
        let host = route.host.clone().unwrap_or_else(|| "*".to_owned());
        let bucket = route.bucket.and_then(|bucket| cluster.buckets.get(bucket));
        let target = match bucket {
            Some(bucket) => format!("{} ({})", cluster.name, bucket.name),
            None => cluster.name.clone(),
        };
        rows.push([host, route.path.clone(), target, servers.join(", ")]);
    }
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut out = String::new();
    for [host, path, cluster, servers] in &rows {
        let [a, b, c] = widths;
        let _ = writeln!(out, "{host:a$}  {path:b$}  {cluster:c$}  {servers}");
    }
    out
}

/// Formats a server with its capacity and what is unusual about it.
fn server(server: &Server) -> String {
    let mut text = format!("{} x{}", server.name, server.capacity);
    text.push_str(match server.role {
        Role::Active | Role::Terminating => "",
        Role::Standby => " standby",
        Role::Backup => " backup",
    });
    text.push_str(match server.admin {
        Admin::Enabled => "",
        Admin::Draining => " draining",
        Admin::Disabled => " disabled",
    });
    text
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
  { name = "app", server = [
    { address = "127.0.0.1:6901" },
    { name = "two", address = "127.0.0.1:6902", capacity = 9 },
  ] },
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

    #[test]
    fn buckets_and_unusual_servers_are_named() {
        let text = r#"
listener = [{ name = "http", bind = "*:80" }]
route = [
  { path = "/pay", cluster = "app", bucket = "paying" },
  { path = "/all", cluster = "app", bucket = "root" },
  { cluster = "app" },
]

[[cluster]]
name = "app"
bucket = [{ name = "main" }, { name = "paying" }]
server = [
  { address = "127.0.0.1:1" },
  { address = "app.example.org:2", role = "standby" },
  { name = "x", address = "127.0.0.1:3", role = "backup", admin = "disabled" },
  { name = "y", address = "127.0.0.1:4", admin = "draining" },
]
"#;
        let (plan, _) = compile(None, text, &Overrides::default()).unwrap();
        let servers =
            "127.0.0.1:1 x5, app.example.org:2 x5 standby, x x5 backup disabled, y x5 draining";
        assert_eq!(
            super::table(&plan),
            format!(
                "\
HOST  PATH  CLUSTER       SERVERS
*     /all  app           {servers}
*     /pay  app (paying)  {servers}
*     /     app (main)    {servers}
"
            )
        );
    }
}
