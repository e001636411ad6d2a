//! A listener as it runs: its settings, and its account.

use std::ops::Deref;
use std::sync::Arc;

use crate::observe::account::Account;
use crate::plan::Listener;

/// A listener as clients come in by it. All its addresses share one account, which outlives changes
/// of the settings.
#[derive(Clone, Debug)]
pub struct OpenListener {
    plan: Arc<Listener>,
    account: Arc<Account>,
}

impl OpenListener {
    /// A listener with these settings, which goes on with this account.
    pub fn new(plan: &Arc<Listener>, account: Arc<Account>) -> Arc<Self> {
        Arc::new(Self {
            plan: Arc::clone(plan),
            account,
        })
    }

    /// Returns the account, to be shared.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Deref for OpenListener {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.plan
    }
}
