//! What the names of hosts stand for: looked up before anything is attached, and again while an injection lasts.
//!
//! The system's resolver is asked (getaddrinfo), as this process is placed: its files, its network. It may take its time, or
//! for ever, and may be under a fault of murphy's own: so a thread asks it that does nothing else, and nobody waits for it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::EngineError;
use murphy_fault::HostName;
use murphy_fault::plan::{Names, Plan};

/// Between two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Looks up the names that a plan speaks of, unless it knows them.
///
/// # Errors
///
/// The first that has no address.
pub(super) fn resolve(plan: Plan) -> Result<Plan, EngineError> {
    let mut names = Names::default();
    for (name, fault) in plan.host_names() {
        let known = plan.names.get(name).cloned();
        let addresses = known.map_or_else(|| look_up(name), Ok);
        let addresses = addresses.map_err(|source| EngineError::NoHost {
            name: name.clone(),
            fault: fault.to_string(),
            source,
        })?;
        names.set(name.clone(), addresses);
    }
    check(&names)?;
    Ok(match names == plan.names {
        true => plan,
        false => plan.named(names),
    })
}

/// Whether there is room for all addresses.
pub(super) fn check(names: &Names) -> Result<(), EngineError> {
    match names.iter().map(|(_, addresses)| addresses.len()).sum() {
        0..=Names::MOST => Ok(()),
        count => Err(EngineError::TooManyAddresses {
            count,
            most: Names::MOST,
        }),
    }
}

/// All addresses of a name, at least one.
fn look_up(name: &HostName) -> io::Result<BTreeSet<IpAddr>> {
    let found = (name.as_str(), 0).to_socket_addrs()?;
    let addresses: BTreeSet<_> = found.map(|address| address.ip()).collect();
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
        false => Ok(addresses),
    }
}

/// What a look found.
pub(super) type Looked = (HostName, io::Result<BTreeSet<IpAddr>>);

/// Looks again and again, in a thread of its own. Dropping it ends the thread, at the latest when the resolver has answered it.
pub(super) struct Watch {
    found: Receiver<Looked>,
    /// Nothing is ever sent: the thread ends when it is dropped.
    _alive: Sender<()>,
}

impl Watch {
    /// Begins with a look.
    pub(super) fn start(names: Vec<HostName>) -> io::Result<Self> {
        let (send, found) = channel();
        let (alive, over) = channel::<()>();
        thread::Builder::new()
            .name("murphy-names".to_owned())
            .spawn(move || {
                loop {
                    for name in &names {
                        if send.send((name.clone(), look_up(name))).is_err() {
                            return;
                        }
                    }
                    if over.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            found,
            _alive: alive,
        })
    }

    /// What was found since this was asked last, without waiting.
    pub(super) fn found(&self) -> impl Iterator<Item = Looked> {
        self.found.try_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use murphy_fault::plan::{Options, Target};

    fn plan(fault: &str) -> Plan {
        let faults = vec![fault.parse().unwrap()];
        Plan::new(faults, Target::Command, &Options::default()).unwrap()
    }

    #[test]
    fn a_name_without_addresses_is_refused_by_name() {
        let error = resolve(plan("connect:error=EPERM:dst=nobody.invalid")).unwrap_err();
        let said = error.to_string();
        for phrase in ["`nobody.invalid`", "connect:error=EPERM:dst=nobody.invalid"] {
            assert!(said.contains(phrase), "{said}");
        }
        assert!(error.remedy().is_some());
    }

    #[test]
    fn what_is_known_is_not_looked_up() {
        let mut names = Names::default();
        let name = HostName::new("nobody.invalid").unwrap();
        names.set(name.clone(), ["10.0.0.1".parse().unwrap()]);
        let plan = plan("connect:error=EPERM:dst=nobody.invalid").named(names.clone());
        assert_eq!(resolve(plan).unwrap().names, names);
        names.set(
            name,
            (0..300).map(|n| std::net::Ipv4Addr::from_bits(n).into()),
        );
        assert!(check(&names).is_err());
    }

    #[test]
    fn a_watch_tells_and_ends() {
        let name = HostName::new("nobody.invalid").unwrap();
        let watch = Watch::start(vec![name.clone()]).unwrap();
        let (looked, found) = watch.found.recv().unwrap();
        assert_eq!(looked, name);
        assert!(found.is_err());
        let Watch { found, _alive } = watch;
        drop(_alive);
        assert!(found.recv().is_err(), "the thread has ended");
    }
}
