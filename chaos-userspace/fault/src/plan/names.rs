//! What the names of hosts stand for, as far as it has been looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;

use crate::{HostName, Net, Remote};

/// Names of hosts, and the addresses of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Names(BTreeMap<HostName, BTreeSet<IpAddr>>);

impl Names {
    /// How many addresses all names together may stand for. The kernel's tables of addresses have 1024 places, half of them for
    /// the plan in force, and networks that are said as such take theirs.
    pub const MOST: usize = 256;

    /// Notes what a name stands for from now on.
    pub fn set(&mut self, name: HostName, addresses: impl IntoIterator<Item = IpAddr>) {
        // Sockets of IPv6 that speak IPv4 are matched, and told, by the IPv4 address.
        let addresses = addresses.into_iter().map(|address| address.to_canonical());
        self.0.insert(name, addresses.collect());
    }

    /// What a name stands for; `None` if it was not looked up.
    pub fn get(&self, name: &HostName) -> Option<&BTreeSet<IpAddr>> {
        self.0.get(name)
    }

    /// All names, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&HostName, &BTreeSet<IpAddr>)> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is one that a value of `dst` stands for.
    pub fn mean(&self, remote: &Remote, address: IpAddr) -> bool {
        match remote {
            Remote::Net(net) => net.contains(address),
            Remote::Name(name) => self.get(name).is_some_and(|all| all.contains(&address)),
        }
    }

    /// The networks that a value of `dst` stands for. A name that was not looked up stands for none.
    pub(crate) fn networks(&self, remote: &Remote) -> Vec<Net> {
        match remote {
            Remote::Net(net) => vec![*net],
            Remote::Name(name) => {
                let addresses = self.get(name).into_iter().flatten();
                addresses.map(|address| Net::host(*address)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_addresses() {
        let name = HostName::new("db").unwrap();
        let remote = Remote::Name(name.clone());
        let mut names = Names::default();
        assert!(names.networks(&remote).is_empty());
        let addresses = ["::ffff:10.0.0.1", "10.0.0.1", "fd00::1"];
        names.set(name, addresses.map(|text| text.parse::<IpAddr>().unwrap()));
        let networks = names.networks(&remote);
        let shown: Vec<_> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1", "[fd00::1]"]);
        for (address, meant) in [("10.0.0.1", true), ("fd00::1", true), ("10.0.0.2", false)] {
            assert_eq!(names.mean(&remote, address.parse().unwrap()), meant);
        }
    }
}
