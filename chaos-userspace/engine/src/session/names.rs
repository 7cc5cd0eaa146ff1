//! Names of hosts whose addresses change while a session lasts.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::names::{INTERVAL, Watch};
use super::Session;
use murphy_fault::HostName;

/// Looking names up again, and what there is to say of it.
#[derive(Default)]
pub(super) struct Hosts {
    watch: Option<Watch>,
    /// When the watch is to begin; the first addresses are as fresh as that.
    from: Option<Instant>,
    /// Names that could not be looked up again: that is said once.
    said: BTreeSet<HostName>,
}

impl Hosts {
    /// Forgets who is watched: there are other rules, and their names were looked up just now.
    pub(super) fn begin(&mut self) {
        self.watch = None;
        self.from = None;
    }
}

impl Session {
    /// Puts in force what names stand for by now, if they have been looked up since. Waits for nobody.
    ///
    /// The thread that looks begins some time after the session: what forks has forked by then, and it has no more privileges
    /// than are left.
    pub(super) fn follow_names(&mut self) {
        if self.plan.names.is_empty() {
            return;
        }
        let Some(watch) = &self.hosts.watch else {
            let from = *self
                .hosts
                .from
                .get_or_insert_with(|| Instant::now() + INTERVAL);
            if Instant::now() >= from {
                let names = self.plan.host_names().into_keys().cloned().collect();
                match Watch::start(names) {
                    Ok(watch) => self.hosts.watch = Some(watch),
                    Err(error) => {
                        let first = self.plan.host_names().into_keys().next().cloned();
                        self.say(
                            first,
                            format!("names of hosts are not looked up again: {error}"),
                        );
                        self.hosts.begin();
                    }
                }
            }
            return;
        };
        let found: Vec<_> = watch.found().collect();
        let mut names = self.plan.names.clone();
        for (name, addresses) in found {
            match addresses {
                Ok(addresses) => names.set(name, addresses),
                Err(error) => {
                    let warning = format!(
                        "`{name}` cannot be looked up any more: {error}; faults go on with the addresses it had"
                    );
                    self.say(Some(name), warning);
                }
            }
        }
        if names == self.plan.names {
            return;
        }
        let changed = names
            .iter()
            .find(|(name, addresses)| self.plan.names.get(name) != Some(*addresses));
        let changed = changed.map(|(name, _)| name.clone());
        if let Err(error) = self.readdress(names) {
            let warning =
                format!("names have other addresses, and faults go on with those before: {error}");
            self.say(changed, warning);
        }
    }

    /// Notes what is to be said, of each name once.
    fn say(&mut self, name: Option<HostName>, warning: String) {
        if name.is_some_and(|name| self.hosts.said.insert(name)) {
            self.notices.warn(warning);
        }
    }

    /// What there is to be said since this was asked last, a line each; [`Session::report`] has all of it.
    pub fn take_warnings(&mut self) -> Vec<String> {
        self.notices.take()
    }
}
