//! Names and addresses that only one thing may have.

use crate::plan::{BindAddress, ServerAddress};

use super::objection::{Objection, Subject};

/// The things that had a value first.
#[derive(Debug)]
pub struct Firsts<T> {
    seen: Vec<(T, Subject)>,
}

impl<T> Default for Firsts<T> {
    fn default() -> Self {
        Self { seen: Vec::new() }
    }
}

impl<T> Firsts<T> {
    fn add(
        &mut self,
        value: T,
        subject: Subject,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> Option<(&T, Subject)> {
        let first = self.seen.iter().position(|(seen, _)| is_same(seen, &value));
        self.seen.push((value, subject));
        let (value, subject) = self.seen.get(first?)?;
        Some((value, *subject))
    }
}

impl Firsts<String> {
    /// A thing has this name, which no other one may have.
    pub fn add_name(&mut self, name: &str, subject: Subject) -> Option<Objection> {
        let (_, first) = self.add(name.to_owned(), subject, |one, other| one == other)?;
        let text = format!("\"{name}\" is already the name of");
        let objection = Objection::error(subject, text).with(first);
        Some(objection.hint("names must differ"))
    }
}

impl Firsts<ServerAddress> {
    /// A server of the cluster has this address, which no other one may have.
    pub fn add_server(&mut self, address: &ServerAddress, subject: Subject) -> Option<Objection> {
        let (_, first) = self.add(address.clone(), subject, |one, other| one == other)?;
        let objection = Objection::error(subject, "is already").with(first);
        Some(objection.hint("for more connections raise its capacity"))
    }
}

impl Firsts<BindAddress> {
    /// A listener binds this address.
    pub fn add_bind(&mut self, address: &BindAddress, subject: Subject) -> Option<Objection> {
        let (first, other) = self.add(address.clone(), subject, overlap)?;
        let what = if first == address {
            "is already bound by"
        } else {
            "overlaps with"
        };
        let objection = Objection::error(subject, what).with(other);
        Some(objection.hint("an address can be bound only once"))
    }
}

/// Returns whether the system would refuse to bind both.
fn overlap(a: &BindAddress, b: &BindAddress) -> bool {
    match (a, b) {
        (BindAddress::Tcp(a), BindAddress::Tcp(b)) => {
            a.port() == b.port()
                && a.port() != 0
                && a.is_ipv4() == b.is_ipv4()
                && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
        }
        _ => a == b,
    }
}
