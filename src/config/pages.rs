//! `error_page`, of listeners and of clusters.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::problem::{Complaint, Spot};
use super::reader::Table;
use crate::fault::{Fault, Scope};
use crate::plan::ErrorPage;

/// Largest page, in bytes: they all stay in memory.
const MOST: u64 = 1 << 20;

/// What the log says of a client that is not there any more.
const GONE: u16 = 499;

/// Which failures are answered where a page stands.
pub(super) struct Made {
    /// Those too that no cluster answers with.
    of_listener: bool,
}

/// A listener's page is for all failures.
pub(super) const OF_LISTENERS: Made = Made { of_listener: true };

/// A cluster's page is for failures of requests that have a route to it.
pub(super) const OF_CLUSTERS: Made = Made { of_listener: false };

impl Made {
    /// Why no page for this status is ever sent, if that is so.
    fn never(&self, status: u16) -> Option<&'static str> {
        let faults = || {
            let all = Fault::ALL.iter().copied();
            all.filter(move |fault| fault.status() == status && status != GONE)
        };
        if faults().any(|fault| self.of_listener || fault.scope() == Scope::Cluster) {
            None
        } else if faults().next().is_some() {
            Some("the listener does: write it in the [[listener]]")
        } else {
            Some("a server's own errors are handed on as they are")
        }
    }

    fn complaint(&self, status: u16) -> String {
        let who = if self.of_listener {
            "the balancer itself"
        } else {
            "the cluster"
        };
        format!("{who} never answers with {status}")
    }
}

/// Reads the pages of a listener or of a cluster.
pub(super) fn read(table: &Table<'_>, made: &Made) -> Vec<ErrorPage> {
    let mut pages: Vec<ErrorPage> = Vec::new();
    for table in &table.tables("error_page") {
        let problems = table.problems();
        let status = table.count_if_any("status");
        let file = table.text("file");
        let content_type = table
            .text("content_type")
            .map(|spot| spot.value)
            .unwrap_or_default();
        // What goes into a header field must not be able to end it.
        if !content_type
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            problems.error(
                &table.place_of("content_type"),
                Complaint::new("is no media type"),
            );
        }
        let body = file.and_then(|file| match read_page(&problems.resolve(&file.value)) {
            Ok(body) => Some(body),
            Err(complaint) => {
                problems.error(&file.place, complaint);
                None
            }
        });
        let Some(Spot {
            value: status,
            place,
        }) = status
        else {
            continue;
        };
        let status = u16::try_from(status).unwrap_or(500);
        if let Some(hint) = made.never(status) {
            let complaint = Complaint::new(made.complaint(status));
            problems.warning(&place, complaint.hint(hint));
        }
        if pages.iter().any(|page| page.status == status) {
            problems.error(
                &place,
                Complaint::new(format!("there is already a page for {status}")),
            );
        }
        // A page that could not be read still counts as the one for its status; there is no plan
        // then.
        pages.push(ErrorPage {
            status,
            content_type,
            body: body.unwrap_or_default(),
        });
    }
    pages
}

fn read_page(path: &Path) -> Result<Arc<[u8]>, Complaint> {
    let mut body = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST + 1).read_to_end(&mut body))
        .map_err(|error| Complaint::new(format!("{} cannot be read: {error}", path.display())))?;
    if body.len() as u64 > MOST {
        return Err(Complaint::new(format!(
            "{} is larger than 1 MiB",
            path.display()
        )));
    }
    Ok(body.into())
}
