//! Buckets, and the routes that lead to them.

use std::time::Instant;

use super::*;
use crate::balance::{self, BucketId, Change, Dispatcher, NewServer, Settings, Share};
use crate::base::units::parse_percent;

/// A cluster of 10 connections with these tables as buckets from line 6 on, and a route to each
/// bucket named here.
fn with(buckets: &str, routes: &[&str]) -> String {
    let mut text = format!(
        "listener = [{{ name = \"l\", bind = \"*:8080\" }}]\n[[cluster]]\nname = \"app\"\nserver \
         = [{{ address = \"127.0.0.1:6901\", capacity = 10 }}]\nbucket = [\n{buckets}\n]\n"
    );
    for (i, bucket) in routes.iter().enumerate() {
        writeln!(
            text,
            "[[route]]\npath = \"/{i}\"\ncluster = \"app\"\nbucket = \"{bucket}\""
        )
        .unwrap();
    }
    text
}

#[test]
fn a_tree_with_each_behind_its_parent() {
    let text = with(
        "{ name = \"gold\", parent = \"paid\", assured = \"50%\", ceiling = 3, queue = { limit = \
         5, timeout = \"1s\" } },\n{ name = \"free\", ceiling = \"12.5%\" },\n{ name = \"paid\", \
         parent = \"root\", assured = 8 },\n{ name = \"silver\", parent = \"paid\", queue = { \
         limit = 9 } }",
        &["gold", "free", "silver", "root"],
    )
    .replace(
        "bucket = [",
        "queue = { limit = 50, timeout = \"7s\" }\nbucket = [",
    );
    assert_eq!(said(&text), "");
    let plan = plan(&text);
    let share = |assured, ceiling, queue_limit| balance::Bucket {
        assured,
        ceiling,
        queue_limit,
    };
    let bucket = |name: &str, parent, share, seconds| Bucket {
        name: name.to_owned(),
        parent,
        share,
        queue_timeout: Duration::from_secs(seconds),
    };
    assert_eq!(
        plan.clusters[0].buckets,
        [
            bucket(
                "free",
                None,
                share(Share::Part(0.0), Share::Part(0.125), 50),
                7
            ),
            bucket(
                "paid",
                None,
                share(Share::Requests(8), Share::Part(1.0), 50),
                7
            ),
            bucket(
                "silver",
                Some(1),
                share(Share::Part(0.0), Share::Part(1.0), 9),
                7
            ),
            bucket(
                "gold",
                Some(1),
                share(Share::Part(0.5), Share::Requests(3), 5),
                1
            ),
        ]
    );
    let routes: Vec<_> = plan
        .routes
        .iter()
        .map(|route| (route.path.as_str(), route.bucket))
        .collect();
    assert_eq!(
        routes,
        [
            ("/0", Some(3)),
            ("/1", Some(0)),
            ("/2", Some(2)),
            ("/3", None)
        ]
    );
}

#[test]
fn the_defaults_that_are_printed_are_those_that_hold() {
    let mut text = with("", &[]).replace("bucket = [\n\n]\n", "");
    text.push_str("[[cluster.bucket]]\nname = \"main\"\n");
    let least = format!("{:?}", plan(&text));
    defaults::write_defaults(&mut text, "cluster.bucket");
    text.push_str("[cluster.bucket.queue]\n");
    defaults::write_defaults(&mut text, "cluster.bucket.queue");
    assert_eq!(format!("{:?}", plan(&text)), least, "{text}");
}

#[test]
fn routes_that_name_no_bucket_go_to_main() {
    let bucket = |text: &str| {
        assert_eq!(said(text), "", "{text}");
        plan(text)
            .routes
            .iter()
            .map(|route| route.bucket)
            .collect::<Vec<_>>()
    };
    // With a route, and where none is needed.
    let main = with(
        "{ name = \"x\", parent = \"main\" }, { name = \"main\" }",
        &["x"],
    );
    assert_eq!(
        bucket(&format!("{main}[[route]]\ncluster = \"app\"\n")),
        [Some(1), Some(0)]
    );
    assert_eq!(bucket(&with("{ name = \"main\" }", &[])), [Some(0)]);
    let other = with("{ name = \"x\" }", &["x"]);
    assert_eq!(
        bucket(&format!("{other}[[route]]\ncluster = \"app\"\n")),
        [Some(0), None]
    );
    // The root is there for who asks for it.
    assert_eq!(
        bucket(&with("{ name = \"main\" }", &["main", "root"])),
        [Some(0), None]
    );
}

/// Each of these, from line 6 on, is told exactly this; there is a route to each of these buckets.
#[test]
fn mistakes_of_buckets() {
    let table: &[(&str, &[&str], &str)] = &[
        // Names.
        (
            "{ assured = \"5%\" }",
            &[],
            "j.toml:6:1: cluster[0].bucket[0]: key \"name\" is missing\n  hint: Its name in \
             routes and logs, its own in the cluster. Requests of routes that name no bucket go \
             to \"main\", if there is one.\n",
        ),
        (
            "{ name = \"a\" },\n{ name = \"a\" }",
            &["a"],
            "j.toml:7:10: cluster[0].bucket[1].name: \"a\" is already the name of \
             cluster[0].bucket[0].name in line 6\n  hint: names must differ\n",
        ),
        (
            "{ name = \"root\" }",
            &["root"],
            "j.toml:6:10: cluster[0].bucket[0].name: \"root\" is already the name of the whole \
             cluster\n  hint: names must differ\n",
        ),
        (
            "{ name = \"a b\" }",
            &[],
            "j.toml:6:10: cluster[0].bucket[0].name: \"a b\" is no name\n  hint: a name is \
             letters, digits and signs, without spaces\n",
        ),
        (
            "",
            &[],
            "j.toml:5:10: cluster[0].bucket: is empty\n  hint: leave it out, or open each by \
             [[cluster.bucket]]\n",
        ),
        // Routes.
        (
            "{ name = \"golden\" }",
            &["golden", "goldn", "x"],
            "j.toml:15:10: route[1].bucket: cluster \"app\" has no bucket \"goldn\"\n  hint: did \
             you mean \"golden\"?\nj.toml:19:10: route[2].bucket: cluster \"app\" has no bucket \
             \"x\"\n  hint: there is: golden, root\n",
        ),
        (
            "{ name = \"a\" },\n{ name = \"b\", parent = \"a\" },\n{ name = \"c\" }",
            &["c"],
            "j.toml:7:10: warning: cluster[0].bucket[1].name: no route leads to bucket \"b\"\n  \
             hint: name it by `bucket` in a [[route]]\n",
        ),
        // Parents.
        (
            "{ name = \"gold\" },\n{ name = \"b\", parent = \"glod\" },\n{ name = \"c\", parent = \
             \"nothing\" }",
            &["gold", "b", "c"],
            "j.toml:7:24: cluster[0].bucket[1].parent: the cluster has no bucket \"glod\"\n  \
             hint: did you mean \"gold\"?\nj.toml:8:24: cluster[0].bucket[2].parent: the cluster \
             has no bucket \"nothing\"\n  hint: there is: gold, b, c, root\n",
        ),
        (
            "{ name = \"a\", parent = \"a\" }",
            &["a"],
            "j.toml:6:24: cluster[0].bucket[0].parent: is below itself: \"a\" below \"a\"\n  \
             hint: one of them must be below \"root\"\n",
        ),
        (
            "{ name = \"leads_in\", parent = \"a\" },\n{ name = \"a\", parent = \"b\" },\n{ name \
             = \"fine\" },\n{ name = \"b\", parent = \"c\" },\n{ name = \"c\", parent = \"a\" \
             },\n{ name = \"x\", parent = \"y\" },\n{ name = \"y\", parent = \"x\" }",
            &["leads_in", "fine"],
            "j.toml:7:24: cluster[0].bucket[1].parent: is below itself: \"a\" below \"b\" below \
             \"c\" below \"a\"\n  hint: one of them must be below \"root\"\nj.toml:11:24: \
             cluster[0].bucket[5].parent: is below itself: \"x\" below \"y\" below \"x\"\n  hint: \
             one of them must be below \"root\"\n",
        ),
        // Shares.
        (
            "{ name = \"a\", assured = \"101%\", ceiling = -1 },\n{ name = \"b\", assured = 0.5, \
             ceiling = \"5\" }",
            &["a", "b"],
            "j.toml:6:25: cluster[0].bucket[0].assured: is out of range\n  hint: from 0% to \
             100%\nj.toml:6:43: cluster[0].bucket[0].ceiling: is out of range\n  hint: from 0 to \
             1000000\nj.toml:7:25: cluster[0].bucket[1].assured: must be a percentage or a number \
             of requests, not a number with a fraction\n  hint: write \"20%\" or 10\nj.toml:7:40: \
             cluster[0].bucket[1].ceiling: has no unit\n  hint: a percentage is a number with %: \
             \"20%\", \"12.5%\"\n",
        ),
        (
            "{ name = \"a\", assured = \"20.5%\", ceiling = \"20%\" },\n{ name = \"b\", assured = \
             5, ceiling = 4 }",
            &["a", "b"],
            "j.toml:6:25: cluster[0].bucket[0].assured: is more than the bucket's `ceiling`\n  \
             hint: raise `ceiling` or lower this\nj.toml:7:25: cluster[0].bucket[1].assured: is \
             more than the bucket's `ceiling`\n  hint: raise `ceiling` or lower this\n",
        ),
        (
            "{ name = \"a\", ceiling = 0 },\n{ name = \"b\", ceiling = \"0%\" }",
            &["a", "b"],
            "j.toml:6:25: cluster[0].bucket[0].ceiling: is nothing: what comes into this bucket \
             would never be served\n  hint: raise it, or leave it out\nj.toml:7:25: \
             cluster[0].bucket[1].ceiling: is nothing: what comes into this bucket would never be \
             served\n  hint: raise it, or leave it out\n",
        ),
        (
            "{ name = \"a\", assured = \"50%\" },\n{ name = \"b\", assured = \"50.5%\" },\n{ name \
             = \"c\", assured = \"1%\" },\n{ name = \"d\", parent = \"a\", assured = \"60%\" \
             },\n{ name = \"e\", parent = \"a\", assured = \"60%\" }",
            &["b", "c", "d", "e"],
            "j.toml:7:25: cluster[0].bucket[1].assured: is too much: buckets below \"root\" are \
             assured 100.5% of it together\n  hint: 100% is all that there is\nj.toml:10:39: \
             cluster[0].bucket[4].assured: is too much: buckets below \"a\" are assured 120% of \
             it together\n  hint: 100% is all that there is\n",
        ),
        (
            "{ name = \"a\", assured = \"50%\" },\n{ name = \"b\", assured = 5 },\n{ name = \
             \"c\", assured = 1 },\n{ name = \"d\", parent = \"c\", assured = 2 }",
            &["a", "b", "d"],
            "j.toml:8:25: warning: cluster[0].bucket[2].assured: is too much: buckets below \
             \"root\" are assured 11 requests at once together, and it 10\n  hint: each gets \
             less, in proportion; lower them, or raise what they are a part of\nj.toml:9:39: \
             warning: cluster[0].bucket[3].assured: is too much: buckets below \"c\" are assured \
             2 requests at once together, and it 1\n  hint: each gets less, in proportion; lower \
             them, or raise what they are a part of\n",
        ),
        (
            "{ name = \"a\", ceiling = 11 }",
            &["a"],
            "j.toml:6:25: warning: cluster[0].bucket[0].ceiling: is more than all servers take at \
             once, which is 10\n  hint: leave it out, or write percents\n",
        ),
        // Queues.
        (
            "{ name = \"a\", queue = { limit = 20000 } },\n{ name = \"b\", queue = { timeout = \
             \"0s\" } }",
            &["a", "b"],
            "j.toml:6:33: warning: cluster[0].bucket[0].queue.limit: is more than may wait in the \
             whole cluster, which is 16384\n  hint: raise the cluster's queue.limit, or leave it \
             out\nj.toml:7:35: cluster[0].bucket[1].queue.timeout: is out of range\n  hint: from \
             1ms to 24h\n",
        ),
    ];
    for (buckets, routes, expected) in table {
        assert_eq!(said(&with(buckets, routes)), *expected, "{buckets}");
    }
}

/// What is said goes by the capacity that holds.
#[test]
fn a_capacity_from_a_flag_is_what_is_divided() {
    let text = with("{ name = \"a\", assured = 11 }", &["a"]);
    let warnings = |capacity| {
        let overrides = Overrides {
            capacity,
            ..Overrides::default()
        };
        compile(None, &text, &overrides).unwrap().1.len()
    };
    assert_eq!((warnings(None), warnings(Some(11))), (1, 0));
}

#[test]
fn guarantees_need_late_binding() {
    let text = |binding: &str| {
        with("{ name = \"main\" }", &[]).replace(
            "bucket = [",
            &format!("binding = \"{binding}\"\nbucket = ["),
        )
    };
    assert_eq!(said(&text("late")), "");
    assert_eq!(
        said(&text("early")),
        "j.toml:5:11: warning: cluster[0].binding: leaves the buckets without guarantees: what \
         becomes free at one server does not help who waits for another\n  hint: what is assured \
         holds with binding = \"late\" alone\n"
    );
}

/// Gives all buckets to a dispatcher, and says whether it takes them.
fn dispatcher_takes(
    buckets: &[(Option<usize>, balance::Bucket)],
) -> Result<(), balance::Rejection> {
    let now = Instant::now();
    let mut dispatcher = Dispatcher::<()>::new(Settings::default());
    dispatcher.apply(Change::AddServer(NewServer::with_capacity(10)), now)?;
    let mut ids = Vec::new();
    for (parent, share) in buckets {
        let parent = parent.map_or(BucketId::default(), |parent| ids[parent]);
        ids.push(
            dispatcher
                .apply(Change::AddBucket(parent, *share), now)?
                .bucket
                .unwrap(),
        );
    }
    Ok(())
}

/// What a written share means.
fn meant(text: &str) -> Share {
    match text.parse() {
        Ok(requests) => Share::Requests(requests),
        Err(_) => Share::Part(parse_percent(text.trim_matches('"')).unwrap()),
    }
}

/// A share as it is written: parts in steps of which sums often are 100 % exactly.
fn share() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    prop_oneof![
        4 => prop::sample::select(vec!["10%", "12.5%", "20%", "33.333%", "33.334%", "40%", "50%", "66.7%", "100%"])
            .prop_map(|part| format!("\"{part}\"")),
        1 => (1_u32..20).prop_map(|requests| requests.to_string()),
    ]
}

proptest::proptest! {
    /// Trees in any order of writing: what is accepted here the dispatcher takes, and what is
    /// refused here (for its shares) it would not have taken either.
    #[test]
    fn what_is_accepted_the_dispatcher_takes(
        buckets in proptest::collection::vec((proptest::arbitrary::any::<proptest::sample::Index>(), share(), share()), 1..8),
        order in proptest::arbitrary::any::<proptest::sample::Index>(),
    ) {
        let mut lines = Vec::new();
        for (i, (parent, assured, ceiling)) in buckets.iter().enumerate() {
            // Of those before it, or the root.
            let parent = parent.index(i + 1);
            let parent = if parent == i { "root".to_owned() } else { format!("b{parent}") };
            lines.push(format!("{{ name = \"b{i}\", parent = \"{parent}\", assured = {assured}, ceiling = {ceiling} }}"));
        }
        let half = lines.len() / 2;
        let turn = order.index(lines.len());
        lines.rotate_left(turn);
        lines[..half].reverse();
        let text = with(&lines.join(",\n"), &[]);
        match compiled(&text) {
            Ok((plan, _)) => {
                let buckets: Vec<_> = plan.clusters[0].buckets.iter().map(|bucket| (bucket.parent, bucket.share)).collect();
                proptest::prop_assert_eq!(dispatcher_takes(&buckets), Ok(()), "{}", text);
            }
            Err(problems) => {
                let written: Vec<_> = buckets
                    .iter()
                    .enumerate()
                    .map(|(i, (parent, assured, ceiling))| {
                        let share = balance::Bucket {
                            assured: meant(assured),
                            ceiling: meant(ceiling),
                            queue_limit: 1,
                        };
                        (Some(parent.index(i + 1)).filter(|parent| *parent != i), share)
                    })
                    .collect();
                proptest::prop_assert!(dispatcher_takes(&written).is_err(), "{}\n{}", text, shown(&problems));
            }
        }
    }
}
