//! Which interfaces faults name, among those there are.
//!
//! A packet that crosses several interfaces is asked about once by each fault: where it was asked about at one, a fault that
//! names another is asked there only if it names none that the packet may have come from. So what lies above what is part of
//! the tables.

use std::collections::{BTreeMap, BTreeSet};

use chaos_common::dims;
use chaos_common::interface::{ENTRIES, Interface, Naming};

use super::{Backend, Hook, Plan, Planned};
use crate::{Fault, InterfaceGlob};

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// The interface that it sends by, if that is in its namespace: a VLAN's; of one end of a veth pair the other.
    pub lower: Option<u32>,
    /// The bridge, bond or VRF that it is a part of.
    pub master: Option<u32>,
}

/// The interfaces of a network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// What tells it from others (`SO_NETNS_COOKIE`).
    pub cookie: u64,
    /// All of them, whether they are up or not.
    pub links: Vec<Link>,
}

impl Network {
    /// The interfaces that a packet crosses behind this one when it leaves, the nearest.
    fn below(&self, of: &Link) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| {
            let sends_by = of.lower == Some(link.index) && link.lower != Some(of.index);
            sends_by || link.master == Some(of.index)
        })
    }

    /// What can be reached from an interface, step by step; it itself is not.
    fn reached<'n, I: Iterator<Item = &'n Link>>(
        from: &'n Link,
        step: impl Fn(&'n Link) -> I,
    ) -> Vec<&'n Link> {
        let (mut seen, mut next) = (BTreeSet::from([from.index]), vec![from]);
        let mut reached = Vec::new();
        while let Some(link) = next.pop() {
            for link in step(link).filter(|link| seen.insert(link.index)) {
                reached.push(link);
                next.push(link);
            }
        }
        reached
    }

    fn above(&self, of: &Link) -> impl Iterator<Item = &Link> {
        let above = move |link: &&Link| self.below(link).any(|below| below.index == of.index);
        self.links.iter().filter(above)
    }
}

impl Plan {
    /// How many interfaces faults may name at once: the kernel's table is for two plans.
    pub const MOST_INTERFACES: usize = ENTRIES as usize / 2;

    /// Whether some fault names interfaces.
    pub fn names_interfaces(&self) -> bool {
        !self.rules.is_empty() && self.masks.dimensions & dims::INTERFACE != 0
    }

    /// The same plan where these are the interfaces that there are.
    #[must_use]
    pub fn located(mut self, networks: &[Network]) -> Self {
        self.masks.interfaces = self.interfaces(networks);
        self
    }

    /// What the kernel programs are to know of these interfaces.
    pub fn interfaces(&self, networks: &[Network]) -> BTreeMap<Interface, Naming> {
        let naming = |link: &Link| -> u64 {
            let rules = self.rules.iter().enumerate();
            rules
                .filter(|(_, rule)| names(&rule.fault, &link.name))
                .fold(0, |mask, (bit, _)| mask | 1 << bit)
        };
        let mut found = BTreeMap::new();
        for network in networks {
            for link in &network.links {
                let all = naming(link);
                if all == 0 {
                    continue;
                }
                let of = |links: Vec<&Link>| links.into_iter().fold(0, |all, l| all | naming(l));
                let above = of(Network::reached(link, |link| network.above(link)));
                let below = of(Network::reached(link, |link| network.below(link)));
                let interface = Interface {
                    network: network.cookie,
                    index: link.index,
                    bank: 0,
                };
                let naming = Naming {
                    all,
                    first_out: all & !above,
                    first_in: if link.loopback { 0 } else { all & !below },
                };
                found.insert(interface, naming);
            }
        }
        found
    }

    /// The first name, with its fault, that no interface has. A pattern may wait for those that are yet to come.
    pub fn nowhere(&self, networks: &[Network]) -> Option<(&InterfaceGlob, &Fault)> {
        let faults = self.rules.iter().map(|rule| &rule.fault);
        let mut said =
            faults.flat_map(|fault| fault.filter.interface.iter().map(move |name| (name, fault)));
        let is_there = |name: &InterfaceGlob| {
            let mut links = networks.iter().flat_map(|network| &network.links);
            links.any(|link| name.matches(&link.name))
        };
        said.find(|(name, _)| !name.is_pattern() && !is_there(name))
    }

    /// Whether some fault has the programs of a hook look at the packets of an interface of that name.
    pub fn looks_at(&self, hook: Hook, name: &str) -> bool {
        let served = |rule: &&Planned| {
            rule.backend == Backend::Bpf && Hook::needed_by(&rule.fault).any(|of| of == hook)
        };
        let mut rules = self.rules.iter().filter(served);
        rules.any(|rule| rule.fault.filter.interface.is_empty() || names(&rule.fault, name))
    }
}

/// Whether a fault names an interface of that name.
fn names(fault: &Fault, name: &str) -> bool {
    let mut said = fault.filter.interface.iter();
    said.any(|said| said.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Options, Target};

    fn plan(faults: &[&str]) -> Plan {
        let faults = faults.iter().map(|text| text.parse().unwrap()).collect();
        Plan::new(faults, Target::Command, &Options::default()).unwrap()
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            ..Link::default()
        }
    }

    fn naming(plan: &Plan, network: &Network, index: u32) -> Option<(u64, u64, u64)> {
        let key = Interface {
            network: network.cookie,
            index,
            bank: 0,
        };
        let found = plan.interfaces(std::slice::from_ref(network));
        let naming = found.get(&key)?;
        Some((naming.all, naming.first_out, naming.first_in))
    }

    #[test]
    fn what_no_rule_names_is_not_there() {
        let plan = plan(&[
            "net:loss=1%:interface=eth*",
            "net:loss=1%",
            "dns:drop:interface=lo",
        ]);
        assert_eq!(plan.masks.any_interface, 0b10);
        assert_eq!(plan.masks.dimensions & dims::INTERFACE, dims::INTERFACE);
        let network = Network {
            cookie: 7,
            links: vec![
                Link {
                    loopback: true,
                    ..link(1, "lo")
                },
                link(2, "eth0"),
                link(3, "wlan0"),
            ],
        };
        assert_eq!(naming(&plan, &network, 1), Some((0b100, 0b100, 0)));
        assert_eq!(naming(&plan, &network, 2), Some((0b1, 0b1, 0b1)));
        assert_eq!(naming(&plan, &network, 3), None);
        assert!(plan.looks_at(Hook::Egress, "wlan0"), "the second fault");
        assert!(plan.looks_at(Hook::Dns, "lo") && !plan.looks_at(Hook::Dns, "eth0"));
        assert!(!self::plan(&["net:loss=1%"]).names_interfaces());
    }

    /// eth0.5 on eth0, which is a part of br0.
    #[test]
    fn a_rule_is_asked_at_the_first_that_it_names() {
        let plan = plan(&[
            "net:loss=1%:interface=eth0",
            "net:loss=1%:interface=eth*",
            "net:loss=1%:interface=br0,eth0.5",
        ]);
        let network = Network {
            cookie: 1,
            links: vec![
                Link {
                    master: Some(4),
                    ..link(2, "eth0")
                },
                Link {
                    lower: Some(2),
                    ..link(3, "eth0.5")
                },
                link(4, "br0"),
            ],
        };
        assert_eq!(naming(&plan, &network, 2), Some((0b011, 0b001, 0b011)));
        assert_eq!(naming(&plan, &network, 3), Some((0b110, 0b110, 0b100)));
        assert_eq!(naming(&plan, &network, 4), Some((0b100, 0b100, 0b100)));
    }

    #[test]
    fn the_ends_of_a_pair_are_on_one_level() {
        let plan = plan(&["net:loss=1%:interface=v*"]);
        let network = Network {
            cookie: 1,
            links: vec![
                Link {
                    lower: Some(3),
                    ..link(2, "va")
                },
                Link {
                    lower: Some(2),
                    ..link(3, "vb")
                },
            ],
        };
        assert_eq!(naming(&plan, &network, 2), Some((1, 1, 1)));
        assert_eq!(naming(&plan, &network, 3), Some((1, 1, 1)));
    }

    #[test]
    fn a_name_has_to_be_there_and_a_pattern_may_wait() {
        let plan = plan(&["net:loss=1%:interface=tun*,eth0", "dns:drop:interface=eth1"]);
        let mut network = Network {
            cookie: 1,
            links: vec![link(2, "eth0")],
        };
        let nowhere = plan.nowhere(std::slice::from_ref(&network));
        assert_eq!(nowhere.map(|(name, _)| name.as_str()), Some("eth1"));
        network.links.push(link(3, "eth1"));
        assert_eq!(plan.nowhere(&[network]), None);
    }
}
