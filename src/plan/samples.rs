//! Parts of a plan, for tests that change what they are about.

use std::time::Duration;

use crate::balance::{Admin, Lending, Role, Schedule};
use crate::retry::On5xx;

use super::cluster::{
    Binding, ClientKey, Cluster, ClusterTimeout, Connect, Health, OnClientAbort, OnUnavailable,
    Server, ServerAddress,
};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster of one server, which tries a request twice at most and is not looked after.
pub(crate) fn cluster() -> Cluster {
    Cluster {
        name: "app".into(),
        servers: vec![server()],
        admin: Admin::Enabled,
        schedule: Schedule::default(),
        buckets: Vec::new(),
        lending: Lending::default(),
        client_key: ClientKey::Address,
        binding: Binding::Late,
        connect: Connect::Warm,
        keep: Duration::ZERO,
        lane: 1,
        pipeline: 1,
        queue_limit: 10,
        queue_timeout: SECOND,
        deadline_field: None,
        attempts: 2,
        retry_budget: 1.0,
        retry_back_off: Duration::ZERO,
        on_5xx: On5xx::Pass,
        on_unavailable: OnUnavailable::Refuse,
        on_client_abort: OnClientAbort::Close,
        health: Health::disabled(),
        timeout: ClusterTimeout {
            connect: SECOND,
            send: SECOND,
            first_byte: SECOND,
            read: SECOND,
            stream: SECOND,
            abort: SECOND,
        },
        response_head: 8192,
        response_fields: 100,
        error_pages: Vec::new(),
    }
}

/// A server with one worker.
pub(crate) fn server() -> Server {
    Server {
        name: "one".into(),
        address: ServerAddress::Tcp(([127, 0, 0, 1], 1).into()),
        capacity: 1,
        weight: 1,
        role: Role::Active,
        admin: Admin::Enabled,
        protected: false,
    }
}
