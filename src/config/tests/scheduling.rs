//! Schedulers, client keys, roles, names and where the state is kept.

use super::*;
use crate::balance::{Admin, Lending, Role, Schedule};

/// A cluster with these keys from line 4 on, one on each line, and these servers.
fn with(keys: &str, servers: &str) -> String {
    format!(
        "listener = [{{ name = \"l\", bind = \"*:8080\" }}]\n[[cluster]]\nname = \
         \"app\"\n{keys}\nserver = [{servers}]\n"
    )
}

const SERVER: &str = "{ address = \"127.0.0.1:6901\" }";

fn cluster(keys: &str, servers: &str) -> Arc<Cluster> {
    Arc::clone(&plan(&with(keys, servers)).clusters[0])
}

#[test]
fn schedulers() {
    for (text, expected) in [
        ("\"round_robin\"", Schedule::RoundRobin),
        ("\"chance\"", Schedule::Chance),
        ("\"least_load\"", Schedule::LeastLoad),
        ("\"random\"", Schedule::Random),
        ("\"two_choices\"", Schedule::TwoChoices),
        ("\"peak_ewma\"", Schedule::PeakEwma),
        ("\"rendezvous\"", Schedule::Rendezvous { balance: 125 }),
        ("\"jump\"", Schedule::Jump { balance: 125 }),
        ("{ type = \"least_load\" }", Schedule::LeastLoad),
        ("{ type = \"jump\" }", Schedule::Jump { balance: 125 }),
        (
            "{ type = \"jump\", balance = \"100%\" }",
            Schedule::Jump { balance: 100 },
        ),
        (
            "{ type = \"rendezvous\", balance = \"1000%\" }",
            Schedule::Rendezvous { balance: 1000 },
        ),
    ] {
        let text = with(&format!("scheduler = {text}"), SERVER);
        assert_eq!(said(&text), "");
        assert_eq!(plan(&text).clusters[0].schedule, expected, "{text}");
    }
    for balance in 100..=1000 {
        let scheduler = format!("scheduler = {{ type = \"jump\", balance = \"{balance}%\" }}");
        assert_eq!(
            cluster(&scheduler, SERVER).schedule,
            Schedule::Jump { balance }
        );
    }
}

#[test]
fn what_holds_where_nothing_is_said() {
    let plan = plan(LEAST);
    assert_eq!(plan.process.resolve, Duration::from_secs(30));
    let cluster = &plan.clusters[0];
    assert_eq!(
        (cluster.admin, cluster.schedule, cluster.lending),
        (
            Admin::Enabled,
            Schedule::RoundRobin,
            Lending::WorkConserving
        )
    );
    assert_eq!(
        (
            &cluster.client_key,
            &cluster.deadline_field,
            cluster.retry_back_off
        ),
        (&ClientKey::Address, &None, Duration::from_millis(20))
    );
    assert_eq!(
        (&cluster.health, cluster.buckets.len()),
        (&Health::disabled(), 0)
    );
    let server = &cluster.servers[0];
    assert_eq!(
        (server.weight, server.role, server.admin, server.protected),
        (1, Role::Active, Admin::Enabled, false)
    );
}

#[test]
fn everything_said_of_scheduling() {
    let cluster = cluster(
        "admin = \"draining\"\nlending = \"reserve\"\nclient_key = \
         \"field:X-Tenant\"\ndeadline_field = \"Grpc-Timeout\"\non_client_abort = \
         \"notify\"\nretry = { back_off = \"0s\" }",
        "{ address = \"127.0.0.1:1\", role = \"standby\", weight = 1000, admin = \"disabled\", \
         protected = true },\n{ address = \"127.0.0.1:2\", role = \"backup\", admin = \
         \"draining\" },\n{ address = \"App.Example.org:3\" }",
    );
    assert_eq!(
        (cluster.admin, cluster.lending),
        (Admin::Draining, Lending::Reserve)
    );
    assert_eq!(cluster.client_key, ClientKey::Field("x-tenant".into()));
    assert_eq!(cluster.deadline_field.as_deref(), Some("grpc-timeout"));
    assert_eq!(cluster.on_client_abort, OnClientAbort::Notify);
    assert_eq!(cluster.retry_back_off, Duration::ZERO);
    let servers: Vec<_> = cluster
        .servers
        .iter()
        .map(|server| (server.role, server.weight, server.admin, server.protected))
        .collect();
    assert_eq!(
        servers,
        [
            (Role::Standby, 1000, Admin::Disabled, true),
            (Role::Backup, 1, Admin::Draining, false),
            (Role::Active, 1, Admin::Enabled, false),
        ]
    );
    let name = &cluster.servers[2];
    let host = "app.example.org".to_owned();
    assert_eq!(
        (&*name.name, &name.address),
        ("App.Example.org:3", &ServerAddress::Name { host, port: 3 })
    );
}

#[test]
fn client_keys() {
    for (text, expected) in [
        ("none", ClientKey::None),
        ("address", ClientKey::Address),
        ("field:X-User", ClientKey::Field("x-user".into())),
        ("cookie:SessionId", ClientKey::Cookie("SessionId".into())),
    ] {
        let is_said = text.contains(':');
        let text = with(&format!("client_key = \"{text}\""), SERVER);
        assert_eq!(
            said(&text).contains("has no effect: no listener trusts anybody"),
            is_said
        );
        assert!(is_said || said(&text).is_empty());
        assert_eq!(plan(&text).clusters[0].client_key, expected);
    }
    // Clients write the start of these lists.
    for name in ["X-Forwarded-For", "x_forwarded_for", "Forwarded"] {
        let told = said(&with(&format!("client_key = \"field:{name}\""), SERVER));
        assert!(
            told.contains("cluster[0].client_key: ") && told.contains("is a list"),
            "{told}"
        );
        assert!(told.contains("client_key = \"address\""), "{told}");
    }
}

/// Each of these, in line 4, is told exactly this.
#[test]
fn mistakes_of_scheduling() {
    let table: &[(&str, &str)] = &[
        (
            "scheduler = \"least_laod\"",
            "4:13: cluster[0].scheduler: \"least_laod\" is not one of its values\n  hint: did you \
             mean \"least_load\"?\n",
        ),
        (
            "scheduler = 5",
            "4:13: cluster[0].scheduler: must be text or a table, not a number\n",
        ),
        (
            "scheduler = { balance = \"150%\" }",
            "4:13: cluster[0].scheduler: key \"type\" is missing\n  hint: By turns, smoothly \
             weighted; the first of the list that has a free connection; the fewest requests for \
             its weight; any, by weight; the less loaded of two drawn by weight; the one of two \
             with the lower product of recent response time and requests; or by the client key, \
             either each key ranking all servers, or by jump consistent hash (best where servers \
             come and go at the end of the list).\n",
        ),
        (
            "scheduler = { type = \"hash\", balance = \"150%\" }",
            "4:22: cluster[0].scheduler.type: \"hash\" is not one of its values\n  hint: write \
             \"round_robin\" or \"chance\" or \"least_load\" or \"random\" or \"two_choices\" or \
             \"peak_ewma\" or \"rendezvous\" or \"jump\"\n",
        ),
        (
            "scheduler = { type = \"random\", balance = \"150%\" }",
            "4:42: cluster[0].scheduler.balance: means nothing with this type\n  hint: only \
             \"rendezvous\" and \"jump\" go by it; leave it out\n",
        ),
        (
            "scheduler = { type = \"jump\", balance = \"99%\" }",
            "4:40: cluster[0].scheduler.balance: is out of range\n  hint: from 100% to 1000%\n",
        ),
        (
            "scheduler = { type = \"jump\", balance = \"110.6%\" }",
            "4:40: cluster[0].scheduler.balance: must be whole percents\n  hint: write \"111%\"\n",
        ),
        (
            "scheduler = \"jump\"\nclient_key = \"none\"",
            "5:14: warning: cluster[0].client_key: is nobody's, and the scheduler goes by whose a \
             request is\n  hint: write \"address\", \"field:NAME\" or \"cookie:NAME\"\n",
        ),
        (
            "client_key = \"adress\"",
            "4:14: cluster[0].client_key: \"adress\" is not one of its values\n  hint: did you \
             mean \"address\"?\n",
        ),
        (
            "client_key = \"cookies:id\"",
            "4:14: cluster[0].client_key: \"cookies:id\" is not one of its values\n  hint: did \
             you mean \"cookie:NAME\"?\n",
        ),
        (
            "client_key = \"field\"",
            "4:14: cluster[0].client_key: \"field\" is not one of its values\n  hint: did you \
             mean \"field:NAME\"?\n",
        ),
        (
            "client_key = \"something\"",
            "4:14: cluster[0].client_key: \"something\" is not one of its values\n  hint: write \
             \"address\", \"none\", \"field:NAME\" or \"cookie:NAME\"\n",
        ),
        (
            "client_key = \"field:X User\"",
            "4:14: cluster[0].client_key: \"X User\" is no name of a request field\n",
        ),
        (
            "client_key = \"cookie:\"",
            "4:14: cluster[0].client_key: \"\" is no name of a cookie\n",
        ),
        (
            "client_key = 1",
            "4:14: cluster[0].client_key: must be text, not a number\n",
        ),
        (
            "deadline_field = \"grpc timeout\"",
            "4:18: cluster[0].deadline_field: \"grpc timeout\" is no name of a request field\n",
        ),
        (
            "deadline_field = \"\"",
            "4:18: cluster[0].deadline_field: is empty\n",
        ),
        (
            "admin = \"off\"",
            "4:9: cluster[0].admin: \"off\" is not one of its values\n  hint: write \"enabled\" \
             or \"draining\" or \"disabled\"\n",
        ),
        (
            "lending = \"reserved\"",
            "4:11: cluster[0].lending: \"reserved\" is not one of its values\n  hint: did you \
             mean \"reserve\"?\n",
        ),
        (
            "retry = { back_off = \"61s\" }",
            "4:22: cluster[0].retry.back_off: is out of range\n  hint: from 0s to 1m\n",
        ),
    ];
    for (keys, expected) in table {
        assert_eq!(
            said(&with(keys, SERVER)),
            format!("j.toml:{expected}"),
            "{keys}"
        );
    }
}

/// Each of these servers, in line 5, is told exactly this.
#[test]
fn mistakes_of_servers() {
    let table: &[(&str, &str)] = &[
        (
            "{ address = \"127.0.0.1:1\", role = \"terminating\" }",
            "5:45: cluster[0].server[0].role: \"terminating\" is not one of its values\n  hint: \
             write \"active\" or \"standby\" or \"backup\"\n",
        ),
        (
            "{ address = \"127.0.0.1:1\", weight = 1001 }",
            "5:47: cluster[0].server[0].weight: is out of range\n  hint: from 1 to 1000\n",
        ),
        (
            "{ address = \"127.0.0.1:1\", admin = \"drain\", protected = 1 }",
            "5:46: cluster[0].server[0].admin: \"drain\" is not one of its values\n  hint: write \
             \"enabled\" or \"draining\" or \"disabled\"\nj.toml:5:67: \
             cluster[0].server[0].protected: must be true or false, not a number\n",
        ),
        (
            "{ address = \"app.example.org:1\" }, { address = \"App.example.org:1\" }",
            "5:58: cluster[0].server[1].address: is already cluster[0].server[0].address in line \
             5\n  hint: for more connections raise its capacity\n",
        ),
        (
            "{ address = \"10.0.0.256:1\" }",
            "5:23: cluster[0].server[0].address: \"10.0.0.256\" is no IP address\n  hint: write \
             \"127.0.0.1:6901\", \"[::1]:6901\", \"app.example.org:6901\" or \"unix:/path\"\n",
        ),
        (
            "{ address = \"b\u{fc}cher.example:1\" }",
            "5:23: cluster[0].server[0].address: \"b\u{fc}cher.example\" has letters that are not \
             in ASCII\n  hint: write the name as it goes over the line: \"xn--...\"\n",
        ),
        (
            "{ address = \"127.0.0.1:1\", admin = \"disabled\" }, { address = \"127.0.0.1:2\", \
             admin = \"draining\" }",
            "5:10: warning: cluster[0].server: none of its servers is enabled\n  hint: nobody \
             serves its requests until one is\n",
        ),
        (
            "{ address = \"127.0.0.1:1\", role = \"backup\" }, { address = \"127.0.0.1:2\", role \
             = \"standby\" },\n{ address = \"127.0.0.1:3\", admin = \"disabled\" }",
            "5:10: warning: cluster[0].server: none of its servers that are enabled is active\n  \
             hint: without one, all requests go to those on standby, else to backups\n",
        ),
    ];
    for (servers, expected) in table {
        assert_eq!(
            said(&with("", servers)),
            format!("j.toml:{expected}"),
            "{servers}"
        );
    }
}

#[test]
fn names_are_taken_from_flags_and_not_looked_up() {
    let servers = |servers: &[&str]| {
        from_flags(&Overrides {
            listen: vec!["*:8080".into()],
            servers: servers.iter().map(|server| (*server).to_owned()).collect(),
            ..Overrides::default()
        })
    };
    // No such name can exist (RFC 6761 §6.4).
    let (plan, warnings) = servers(&["app.invalid:80", "localhost:81"]).unwrap();
    assert_eq!(warnings, []);
    let addresses: Vec<_> = plan.clusters[0]
        .servers
        .iter()
        .map(|server| &server.address)
        .collect();
    let host = "app.invalid".to_owned();
    assert_eq!(
        addresses,
        [
            &ServerAddress::Name { host, port: 80 },
            &ServerAddress::Tcp("127.0.0.1:81".parse().unwrap())
        ]
    );
    let said = shown(&servers(&["app..invalid:80"]).unwrap_err());
    assert!(
        said.starts_with(
            "command line: --server: \"app..invalid:80\" is no address of a server\n  hint: "
        ),
        "{said}"
    );
}

#[test]
fn the_state_has_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("j.toml");
    let loaded = |state: &str| {
        fs::write(
            &file,
            format!("[process]\nresolve = \"5s\"\nstate = {state}{LEAST}"),
        )
        .unwrap();
        match load(&file, &Overrides::default()) {
            Ok((plan, _)) => {
                assert_eq!(plan.process.resolve, Duration::from_secs(5));
                Ok(plan.process.state)
            }
            Err(problems) => {
                Err(shown(&problems).replace(&format!("{}/", folder.path().display()), ""))
            }
        }
    };
    assert_eq!(loaded("\"off\""), Ok(None));
    assert_eq!(
        loaded("\"held.json\""),
        Ok(Some(folder.path().join("held.json")))
    );
    for (state, expected) in [
        ("\"/\"", "/ is a folder\n"),
        ("\"no/such\"", "there is no folder for no/such\n"),
        (
            "\"\"",
            "is empty\n  hint: write \"off\" or the path of a file\n",
        ),
        (
            "true",
            "must be text, not true or false\n  hint: write \"off\" or the path of a file\n",
        ),
    ] {
        assert_eq!(
            loaded(state),
            Err(format!("j.toml:3:9: process.state: {expected}")),
            "{state}"
        );
    }
    assert_eq!(
        said(&format!("[process]\nresolve = \"10ms\"{LEAST}")),
        "j.toml:2:11: process.resolve: is out of range\n  hint: from 100ms to 24h\n"
    );
}

#[test]
fn who_is_held_offline_is_remembered() {
    let said = |state: &str| {
        let text = with("health = { sticky_offline = true }", SERVER);
        said(&format!("process = {{ state = \"{state}\" }}\n{text}"))
    };
    assert_eq!(said("held.json"), "");
    assert_eq!(
        said("off"),
        "j.toml:5:29: warning: cluster[0].health.sticky_offline: is forgotten at a restart: there \
         is no file for it\n  hint: say where it is kept: process.state\n"
    );
}
