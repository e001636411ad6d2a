//! Objections to plans that no file has.

use std::net::SocketAddr;

use crate::balance::{self, Admin, Role, Schedule, Share};
use crate::plan::samples::{cluster, server};
use crate::plan::{BindAddress, Binding, Bucket, ClientKey, Cluster, Server, ServerAddress};
use crate::route::{Route, Upgrade};

use super::*;

fn bucket<'a>(name: &'a str, parent: Option<&'a str>, assured: f64) -> DraftBucket<'a> {
    DraftBucket {
        name,
        parent,
        share: balance::Bucket {
            assured: Share::Part(assured),
            ceiling: Share::Part(1.0),
            queue_limit: 10,
        },
    }
}

fn placed<'a>(buckets: &[DraftBucket<'a>]) -> (Vec<PlacedBucket<'a>>, Vec<Objection>) {
    let (parents, mut objections) = find_parents(7, buckets);
    let (places, circles) = parents_first(7, buckets, &parents);
    objections.extend(circles);
    let mut order: Vec<_> = (0..buckets.len())
        .filter(|i| places[*i].is_some())
        .collect();
    order.sort_by_key(|i| places[*i]);
    let placed = order.iter().map(|i| PlacedBucket {
        draft: buckets[*i],
        parent: parents[*i].and_then(|parent| places[parent]),
        written: *i,
    });
    (placed.collect(), objections)
}

#[test]
fn buckets_stand_behind_their_parents_and_keep_where_they_were_written() {
    let buckets = [
        bucket("leaf", Some("branch"), 0.5),
        bucket("branch", Some("root"), 0.5),
        bucket("other", None, 0.5),
    ];
    let (placed, objections) = placed(&buckets);
    assert_eq!(objections, []);
    let order: Vec<_> = placed.iter().map(|one| (one.written, one.parent)).collect();
    assert_eq!(order, [(1, None), (2, None), (0, Some(0))]);
    assert_eq!(check_shares(7, &placed, 10), []);
}

#[test]
fn a_parent_that_there_is_not_is_named_with_what_was_meant() {
    let buckets = [bucket("gold", None, 0.0), bucket("one", Some("glod"), 0.0)];
    let (_, objections) = placed(&buckets);
    let about = Subject::Bucket(7, 1, BucketKey::Parent);
    let expected = Objection::error(about, "the cluster has no bucket \"glod\"");
    assert_eq!(objections, [expected.hint("did you mean \"gold\"?")]);
}

#[test]
fn a_circle_is_objected_to_once_at_its_first_bucket_and_has_no_place() {
    let buckets = [
        bucket("into", Some("a"), 0.0),
        bucket("a", Some("b"), 0.0),
        bucket("b", Some("a"), 0.0),
        bucket("good", None, 0.0),
    ];
    let (placed, objections) = placed(&buckets);
    let about = Subject::Bucket(7, 1, BucketKey::Parent);
    let text = "is below itself: \"a\" below \"b\" below \"a\"";
    let expected = Objection::error(about, text).hint("one of them must be below \"root\"");
    assert_eq!(objections, [expected]);
    let written: Vec<_> = placed.iter().map(|one| one.written).collect();
    assert_eq!(written, [3]);
}

#[test]
fn shares_of_siblings_add_up_and_the_first_that_is_too_much_is_named() {
    let buckets = [
        bucket("a", None, 0.6),
        bucket("b", None, 0.6),
        bucket("c", None, 0.6),
    ];
    let (placed, _) = placed(&buckets);
    let about = Subject::Bucket(7, 1, BucketKey::Assured);
    let text = "is too much: buckets below \"root\" are assured 120% of it together";
    let expected = Objection::error(about, text).hint("100% is all that there is");
    assert_eq!(check_shares(7, &placed, 10), [expected]);
}

#[test]
fn numbers_of_requests_are_compared_with_what_the_servers_take() {
    let mut big = bucket("a", None, 0.0);
    big.share.assured = Share::Requests(11);
    big.share.ceiling = Share::Requests(12);
    let (placed, _) = placed(&[big]);
    let found = check_shares(7, &placed, 10);
    let about: Vec<_> = found
        .iter()
        .map(|one| (one.severity, one.subject))
        .collect();
    let on = |key| (Severity::Warning, Subject::Bucket(7, 0, key));
    assert_eq!(about, [on(BucketKey::Assured), on(BucketKey::Ceiling)]);
    assert_eq!(check_shares(7, &placed, 12), []);
    assert_eq!(check_shares(7, &placed, 0), [], "no server is known yet");
}

#[test]
fn a_bucket_alone_has_a_name_a_ceiling_and_a_queue_that_fit() {
    let good = bucket("a", None, 0.5);
    assert_eq!(check_bucket(7, 3, &good, 10), []);
    let mut bad = bucket(ROOT, None, 0.5);
    bad.share.ceiling = Share::Part(0.0);
    let found = check_bucket(7, 3, &bad, 9);
    let about: Vec<_> = found
        .iter()
        .map(|one| (one.severity, one.subject))
        .collect();
    let on = |severity, key| (severity, Subject::Bucket(7, 3, key));
    let expected = [
        on(Severity::Error, BucketKey::Name),
        on(Severity::Warning, BucketKey::QueueLimit),
        on(Severity::Error, BucketKey::Ceiling),
    ];
    assert_eq!(about, expected);
    bad.share.ceiling = Share::Part(0.4);
    let found = check_bucket(7, 3, &bad, 10);
    let subject = Subject::Bucket(7, 3, BucketKey::Assured);
    assert_eq!(found.last().map(|one| one.subject), Some(subject));
}

#[test]
fn the_second_of_a_name_or_address_is_objected_to_with_the_first() {
    let mut names = Firsts::default();
    assert_eq!(names.add_name("a", Subject::ClusterName(0)), None);
    assert_eq!(names.add_name("b", Subject::ClusterName(1)), None);
    let found = names.add_name("a", Subject::ClusterName(2)).unwrap();
    assert_eq!(found.subject, Subject::ClusterName(2));
    assert_eq!(found.other, Some(Subject::ClusterName(0)));
    let tcp = |text: &str| BindAddress::Tcp(text.parse::<SocketAddr>().unwrap());
    let mut binds = Firsts::default();
    for (i, (address, other, text)) in [
        ("127.0.0.1:80", None, ""),
        ("127.0.0.2:80", None, ""),
        ("0.0.0.0:80", Some(0), "overlaps with"),
        ("127.0.0.2:80", Some(1), "is already bound by"),
        ("[::]:80", None, ""),
        ("127.0.0.1:0", None, ""),
        ("127.0.0.1:0", None, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let found = binds.add_bind(&tcp(address), Subject::Bind(i));
        let other = other.map(Subject::Bind);
        assert_eq!(found.as_ref().and_then(|one| one.other), other, "{address}");
        assert_eq!(found.map_or(String::new(), |one| one.text), text);
    }
    let mut servers = Firsts::default();
    let address = ServerAddress::Unix("/a".into());
    assert_eq!(
        servers.add_server(&address, Subject::ServerAddress(0, 0)),
        None
    );
    assert!(
        servers
            .add_server(&address, Subject::ServerAddress(0, 1))
            .is_some()
    );
}

// === One cluster

/// What is said of the cluster at place 3, by what it is about.
fn said_of(cluster: &Cluster) -> Vec<(Severity, Subject)> {
    let objections = check_cluster(3, cluster);
    objections
        .iter()
        .map(|one| (one.severity, one.subject))
        .collect()
}

fn root_bucket(name: &str) -> Bucket {
    Bucket {
        name: name.into(),
        parent: None,
        share: bucket(name, None, 0.5).share,
        queue_timeout: std::time::Duration::from_secs(1),
    }
}

#[test]
fn a_cluster_whose_servers_are_not_in_use_is_told_of() {
    let about = (
        Severity::Warning,
        Subject::ClusterKey(3, ClusterKey::Servers),
    );
    let of = |servers: Vec<Server>| {
        said_of(&Cluster {
            servers,
            ..cluster()
        })
    };
    let disabled = Server {
        admin: Admin::Disabled,
        ..server()
    };
    let backup = Server {
        role: Role::Backup,
        ..server()
    };
    assert_eq!(of(vec![server(), disabled.clone()]), []);
    assert_eq!(of(vec![disabled.clone()]), [about]);
    assert_eq!(of(vec![disabled, backup]), [about]);
    assert_eq!(of(Vec::new()), [], "that is said where they are read");
}

#[test]
fn settings_that_defeat_each_other_are_told_of() {
    let key = |key| (Severity::Warning, Subject::ClusterKey(3, key));
    let hashing = Cluster {
        schedule: Schedule::Jump { balance: 125 },
        client_key: ClientKey::None,
        ..cluster()
    };
    assert_eq!(said_of(&hashing), [key(ClusterKey::ClientKey)]);
    let bound = Cluster {
        binding: Binding::Early,
        buckets: vec![root_bucket("a")],
        ..cluster()
    };
    assert_eq!(said_of(&bound), [key(ClusterKey::Binding)]);
    let mut probed = cluster();
    probed.health.port = Some(80);
    probed.servers.push(Server {
        address: ServerAddress::Unix("/run/app".into()),
        ..server()
    });
    let address = (Severity::Error, Subject::ServerAddress(3, 1));
    assert_eq!(said_of(&probed), [address]);
}

// === The whole

fn route(cluster: usize, bucket: Option<usize>) -> Route {
    Route {
        host: None,
        path: "/".into(),
        cluster,
        bucket,
        is_stream: false,
        upgrade: Upgrade::default(),
    }
}

fn said_of_all(clusters: &[&Cluster], routes: &[Route]) -> Vec<(Severity, Subject)> {
    let written: Vec<_> = clusters
        .iter()
        .map(|cluster| (0..cluster.buckets.len()).rev().collect())
        .collect();
    let objections = check_whole(&Whole {
        listeners: &[],
        clusters,
        routes,
        written_buckets: &written,
        has_state: false,
        is_wrong: false,
    });
    let said = objections.into_iter();
    said.map(|one| (one.severity, one.subject)).collect()
}

#[test]
fn what_no_route_leads_to_is_told_of_where_it_was_written() {
    let other = Cluster {
        servers: vec![Server {
            address: ServerAddress::Unix("/run/other".into()),
            ..server()
        }],
        ..cluster()
    };
    let shared = Cluster {
        buckets: vec![root_bucket("a"), root_bucket("b")],
        ..cluster()
    };
    let clusters = [&shared, &other];
    let routes = [route(0, Some(0)), route(0, Some(1)), route(1, None)];
    assert_eq!(said_of_all(&clusters, &routes), []);
    let bucket = Subject::Bucket(0, 0, BucketKey::Name);
    assert_eq!(
        said_of_all(&clusters, &routes[..1]),
        [
            (Severity::Warning, bucket),
            (Severity::Warning, Subject::Cluster(1)),
        ],
        "the second bucket was written first"
    );
}

#[test]
fn a_server_of_two_clusters_and_states_that_are_forgotten_are_told_of() {
    let mut sticky = cluster();
    sticky.health.settings.sticky_offline = true;
    let routes = [route(0, None), route(1, None)];
    assert_eq!(
        said_of_all(&[&cluster(), &sticky], &routes),
        [
            (Severity::Warning, Subject::ServerAddress(1, 0)),
            (
                Severity::Warning,
                Subject::ClusterKey(1, ClusterKey::StickyOffline)
            ),
        ]
    );
}
