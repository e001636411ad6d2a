//! Keys of routes, schedulers and buckets: which request gets which part of what.

use super::parts::{TIME, key};
use crate::balance::Schedule;
use crate::config::form::Default::{Is, Means, Required};
use crate::config::form::Kind::{Count, Flag, Forms, Percent, Table, Text, Texts, Word};
use crate::config::form::Section;

pub(super) static ROUTE: Section = Section {
    path: "route",
    header: "[[route]]",
    about: "Which request goes to which cluster. The most specific one wins, whatever the order: \
            exact host, then `*.` host, then any host; among these the longest path. May be left \
            out when there is just one cluster.",
    keys: &[
        key(
            "host",
            Texts,
            Means("any"),
            "Host names: \"shop.example.org\", or \"*.example.org\" for all below it. Without \
             port.",
        ),
        key(
            "path",
            Text,
            Is("\"/\""),
            "Start of the path, by segments: \"/shop\" is /shop and /shop/..., not /shops. Other \
             spellings of a path are the same path: needless escapes, dot segments, slashes in a \
             row and parameters (`;...`) are seen through; `%2F` and `%5C` are no slashes. The \
             server gets the path as it was spelt. Where routes look at paths, one with a percent \
             sign that begins no escape is answered with 400.",
        ),
        key("cluster", Text, Required, "Name of the cluster."),
        key(
            "bucket",
            Text,
            Means("\"main\" if the cluster has such a bucket, else \"root\""),
            "Name of the cluster's bucket that its requests count for; \"root\" is none in \
             particular.",
        ),
        key(
            "upgrade",
            Forms("true, false, or list of names"),
            Is("[\"websocket\"]"),
            "Protocols that clients may switch to (`Upgrade`): these, all, or none. The connection \
             is a tunnel then, in the lane of its server (`cluster.lane`); where the lane is full \
             the request is answered with 503. \"h2c\" is never passed on.",
        ),
        key(
            "stream",
            Flag,
            Is("false"),
            "Responses are streams, as those of the type text/event-stream always are: each piece \
             goes to the client at once and nothing to the spool, and they go on in the lane of \
             their server (`cluster.lane`), where they hold no worker. Where the lane is full the \
             request is answered with 503.",
        ),
    ],
};

pub(super) static SCHEDULER: Section = Section {
    path: "cluster.scheduler",
    header: "[cluster.scheduler]",
    about: "How the next server is chosen among those with a free connection (bound early: among \
            those in use).",
    keys: &[
        key(
            "type",
            Word(Schedule::WORDS),
            Required,
            "By turns, smoothly weighted; the first of the list that has a free connection; the \
             fewest requests for its weight; any, by weight; the less loaded of two drawn by \
             weight; the one of two with the lower product of recent response time and requests; \
             or by the client key, either each key ranking all servers, or by jump consistent \
             hash (best where servers come and go at the end of the list).",
        ),
        key(
            "balance",
            Percent(100, 1000),
            Is("\"125%\""),
            "Most requests of a server beside its part of all, for \"rendezvous\" and \"jump\" \
             alone: what is more goes to the client's next server. Whole percents.",
        ),
    ],
};

/// What a share of a bucket takes.
const SHARE: &str = "percent, up to 100%, or number of requests";

pub(super) static BUCKET: Section = Section {
    path: "cluster.bucket",
    header: "[[cluster.bucket]]",
    about: "A share of the cluster, for the requests of the routes that name it. Everybody gets \
            what is assured at the next slots that become free, however much the others ask for. \
            Below a bucket there may be others; the whole cluster is the bucket \"root\".",
    keys: &[
        key(
            "name",
            Text,
            Required,
            "Its name in routes and logs, its own in the cluster. Requests of routes that name no \
             bucket go to \"main\", if there is one.",
        ),
        key(
            "parent",
            Text,
            Is("\"root\""),
            "Name of the bucket of this cluster that it is a share of.",
        ),
        key(
            "assured",
            Forms(SHARE),
            Is("\"0%\""),
            "What it gets if it asks for it: of the requests at once that its parent is assured. \
             What it does not use is lent, see `cluster.lending`.",
        ),
        key(
            "ceiling",
            Forms(SHARE),
            Is("\"100%\""),
            "The most that it gets, whatever is free: of its parent's ceiling.",
        ),
        key(
            "queue",
            Table,
            Means("as the cluster's"),
            "Requests that wait in it.",
        ),
    ],
};

pub(super) static BUCKET_QUEUE: Section = Section {
    path: "cluster.bucket.queue",
    header: "[cluster.bucket.queue]",
    about: "Requests that wait in a bucket. They count for the cluster's queue too.",
    keys: &[
        key(
            "limit",
            Count(0, 1_000_000),
            Means("the cluster's"),
            "Most of them; one more is answered by 503.",
        ),
        key(
            "timeout",
            TIME,
            Means("the cluster's"),
            "How long one waits before it is answered by 504.",
        ),
    ],
};
