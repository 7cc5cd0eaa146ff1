//! Bit-vector classification: for each value of each dimension, the rules that
//! accept it. What the kernel programs look up is computed here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use chaos_common::dims;
use chaos_common::interface::{Interface, Naming};

use super::lsm::call_entry;
use super::names::Names;
use super::paths::{Entry, Pattern};
use super::{Backend, Hook, Target, operation, overridden, spun};
use crate::{Fault, FdKind, NameGlob, Net, http};

/// A prefix as the kernel's LPM trie wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix<const N: usize> {
    /// Address in network byte order, bits beyond the prefix 0.
    pub address: [u8; N],
    /// Length in bits.
    pub prefix: u8,
}

/// A dimension whose values are small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dense {
    /// Value → rules that name it.
    pub named: BTreeMap<u32, u64>,
    /// Rules that do not care.
    pub any: u64,
}

/// The look-ups of a plan. A dimension not in use is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Dimensions in use: [`dims`] bits.
    pub dimensions: u64,
    /// Rules there are.
    pub rules: u64,
    /// Class of targets → rules that target it.
    pub classes: Vec<u64>,
    /// Operation → rules that name it.
    pub ops: BTreeMap<u32, u64>,
    /// System call → where LSM hooks decide about it, as the kernel programs' `CALLS` say it. A call has the same in every plan.
    pub calls: BTreeMap<u32, u32>,
    /// Where files are that rules mean, and which rules.
    pub paths: BTreeMap<Pattern, u64>,
    /// Rules that do not care where a file is.
    pub any_path: u64,
    /// Rules that have a limit of connections.
    pub connlimits: u64,
    /// Remote port → rules that accept it.
    pub remote_ports: Dense,
    /// Local port → rules that accept it.
    pub local_ports: Dense,
    /// Transport protocol → rules that accept it.
    pub protocols: Dense,
    /// File type (`i_mode >> 12`) → rules that accept it.
    pub fd_kinds: Dense,
    /// Number of a descriptor → rules that accept it.
    pub fds: Dense,
    /// Interface, of no bank → rules that name it; see [`super::interfaces`].
    pub interfaces: BTreeMap<Interface, Naming>,
    /// Rules that do not care about the interface.
    pub any_interface: u64,
    /// IPv4 prefix → rules that accept an address whose longest prefix it is.
    pub remote4: BTreeMap<Prefix<4>, u64>,
    /// IPv6 prefix → rules that accept an address whose longest prefix it is.
    pub remote6: BTreeMap<Prefix<16>, u64>,
    /// The same for the local end.
    pub local4: BTreeMap<Prefix<4>, u64>,
    /// The same for IPv6.
    pub local6: BTreeMap<Prefix<16>, u64>,
    /// What the key of a DNS query's name begins with ([`chaos_common::name`]) → rules that accept a name whose longest
    /// beginning it is.
    pub names: BTreeMap<Vec<u8>, u64>,
    /// What the key of a request's path begins with ([`chaos_common::url`]) → the same.
    pub url_paths: BTreeMap<Vec<u8>, u64>,
}

impl Masks {
    /// Compiles the filters of faults; the rule's bit is the fault's index. `class_of` gives
    /// the class that each fault targets.
    ///
    /// A fault that no kernel program carries out has its bit, but no operation names it.
    pub(super) fn of(
        faults: &[Fault],
        classes: &[Target],
        class_of: &[usize],
        names: &Names,
        backends: &[Backend],
    ) -> Self {
        let mut masks = Self {
            dimensions: classes.iter().fold(0, |all, class| {
                all | match class {
                    Target::Command => dims::RUN_CGROUP,
                    Target::Running(who) => who.dimensions(),
                }
            }),
            classes: vec![0; classes.len()],
            // None where all faults are conditions.
            rules: u64::MAX
                .checked_shr(64 - faults.len().min(64) as u32)
                .unwrap_or(0),
            ..Self::default()
        };
        for (rule, &class) in class_of.iter().enumerate() {
            masks.classes[class] |= 1 << rule;
        }
        for (rule, (fault, backend)) in faults.iter().zip(backends).enumerate() {
            for op in &fault.ops {
                let index = match (backend, op.call()) {
                    (Backend::Bpf, _) => operation(*op, &fault.effect),
                    (Backend::Override | Backend::Uprobe, Some(call)) => overridden(call),
                    (Backend::Spin, Some(call)) => spun(call),
                    (Backend::Override | Backend::Uprobe | Backend::Spin, None)
                    | (Backend::Seccomp, _) => continue,
                };
                *masks.ops.entry(index).or_default() |= 1 << rule;
                let entry = call_entry(Hook::needed(*op, &fault.effect));
                if *backend == Backend::Bpf && entry != 0 {
                    masks.calls.insert(index, entry);
                }
            }
        }
        masks.remote_ports = masks.dense(dims::RPORT, faults, |fault| ports(&fault.remote_ports()));
        masks.local_ports = masks.dense(dims::LPORT, faults, |fault| ports(&fault.filter.sport));
        masks.protocols = masks.dense(dims::PROTO, faults, |fault| {
            fault
                .filter
                .proto
                .iter()
                .map(|proto| u32::from(proto.0))
                .collect()
        });
        masks.fd_kinds = masks.dense(dims::FD_KIND, faults, |fault| {
            fault
                .filter
                .on
                .iter()
                .flat_map(|&kind| file_types(kind))
                .copied()
                .collect()
        });
        masks.fds = masks.dense(dims::FD, faults, |fault| {
            // The supervisor of seccomp, which kernel programs have nothing to do with, has no bound.
            let fds = fault.filter.fd.iter().copied();
            fds.filter(|fd| *fd < dims::FDS).collect()
        });
        let limited = faults.iter().map(|fault| fault.filter.connlimit.is_some());
        masks.connlimits = those(limited);
        if masks.connlimits != 0 {
            masks.dimensions |= dims::CONNLIMIT;
        }
        let anywhere = faults.iter().map(|fault| fault.filter.interface.is_empty());
        let anywhere = those(anywhere);
        if anywhere != masks.rules {
            masks.dimensions |= dims::INTERFACE;
            masks.any_interface = anywhere;
        }
        masks.remotes(faults, names);
        masks.locals(faults);
        masks.texts(faults);
        masks.places(faults, backends);
        masks
    }

    /// `accepted` gives the values a fault names, none if it does not care.
    fn dense(
        &mut self,
        dimension: u64,
        faults: &[Fault],
        accepted: impl Fn(&Fault) -> Vec<u32>,
    ) -> Dense {
        let accepted: Vec<_> = faults.iter().map(accepted).collect();
        if accepted.iter().all(Vec::is_empty) {
            return Dense::default();
        }
        self.dimensions |= dimension;
        let mut dense = Dense {
            any: those(accepted.iter().map(Vec::is_empty)),
            ..Dense::default()
        };
        for (rule, values) in accepted.iter().enumerate() {
            for &value in values {
                *dense.named.entry(value).or_default() |= 1 << rule;
            }
        }
        dense
    }

    /// Paths. A pattern that the kernel programs cannot match was refused before.
    fn places(&mut self, faults: &[Fault], backends: &[Backend]) {
        let globs = || {
            let all = faults.iter().map(Fault::files).enumerate();
            all.filter(|(rule, _)| backends.get(*rule) == Some(&Backend::Bpf))
        };
        if globs().all(|(_, globs)| globs.is_empty()) {
            return;
        }
        self.dimensions |= dims::PATH;
        for (rule, globs) in globs() {
            if globs.is_empty() {
                self.any_path |= 1 << rule;
            }
            for pattern in globs.iter().filter_map(|glob| Pattern::new(glob).ok()) {
                if pattern.entry == Entry::Below {
                    self.dimensions |= dims::TREES;
                }
                *self.paths.entry(pattern).or_default() |= 1 << rule;
            }
        }
    }

    /// Addresses of the remote end, and of the names that stand for it.
    pub(super) fn remotes<'f>(
        &mut self,
        faults: impl IntoIterator<Item = &'f Fault>,
        names: &Names,
    ) {
        let of = |fault: &'f Fault| {
            let dst = &fault.filter.dst;
            let networks = dst.iter().flat_map(|remote| names.networks(remote));
            // Where no name has an address, the fault is for nobody rather than for all.
            (!dst.is_empty()).then(|| networks.collect())
        };
        let nets: Vec<Option<Vec<Net>>> = faults.into_iter().map(of).collect();
        (self.remote4, self.remote6) = self.prefixes(dims::REMOTE, &nets);
    }

    /// Addresses of the local end.
    fn locals(&mut self, faults: &[Fault]) {
        let of = |fault: &Fault| {
            let src = &fault.filter.src;
            (!src.is_empty()).then(|| src.clone())
        };
        let nets: Vec<_> = faults.iter().map(of).collect();
        (self.local4, self.local6) = self.prefixes(dims::LOCAL, &nets);
    }

    /// Addresses: a trie answers with the longest prefix only, so each entry
    /// holds the union of the prefixes that cover it. The empty prefix holds the
    /// rules that do not care (`None`), in both families.
    fn prefixes(&mut self, dimension: u64, nets: &[Option<Vec<Net>>]) -> Tries {
        let mut tries = Tries::default();
        if nets.iter().all(Option::is_none) {
            return tries;
        }
        self.dimensions |= dimension;
        let careless = those(nets.iter().map(Option::is_none));
        let distinct: BTreeSet<(IpAddr, u8)> = nets
            .iter()
            .flatten()
            .flatten()
            .map(|net| (net.addr(), net.prefix()))
            .collect();
        tries.0.insert(
            Prefix {
                address: [0; 4],
                prefix: 0,
            },
            careless,
        );
        tries.1.insert(
            Prefix {
                address: [0; 16],
                prefix: 0,
            },
            careless,
        );
        for (addr, prefix) in distinct {
            let covering = nets.iter().enumerate().filter(|(_, nets)| {
                let mut nets = nets.iter().flatten();
                nets.any(|net| covers(net, addr, prefix))
            });
            let mask = covering.fold(careless, |mask, (rule, _)| mask | 1 << rule);
            match addr {
                IpAddr::V4(v4) => {
                    let address = v4.octets();
                    tries.0.insert(Prefix { address, prefix }, mask);
                }
                IpAddr::V6(v6) => {
                    let address = v6.octets();
                    tries.1.insert(Prefix { address, prefix }, mask);
                }
            }
        }
        tries
    }
}

/// Prefixes of IPv4 and of IPv6, and the rules that accept them.
type Tries = (BTreeMap<Prefix<4>, u64>, BTreeMap<Prefix<16>, u64>);

impl Masks {
    /// Names of DNS queries, and paths of requests.
    fn texts(&mut self, faults: &[Fault]) {
        let of_names = |fault: &Fault| fault.filter.name.iter().map(NameGlob::key).collect();
        let of_paths = |fault: &Fault| {
            let globs = fault.url_paths().iter();
            globs.filter_map(|glob| http::path_key(glob).ok()).collect()
        };
        let names: Vec<_> = faults.iter().map(of_names).collect();
        self.names = self.beginnings(dims::NAME, &names);
        let paths: Vec<_> = faults.iter().map(of_paths).collect();
        self.url_paths = self.beginnings(dims::URL_PATH, &paths);
    }

    /// What the keys begin with that each fault accepts: as with addresses, each entry holds the union of those it continues.
    fn beginnings(&mut self, dimension: u64, keys: &[Vec<Vec<u8>>]) -> BTreeMap<Vec<u8>, u64> {
        if keys.iter().all(Vec::is_empty) {
            return BTreeMap::new();
        }
        self.dimensions |= dimension;
        let careless = those(keys.iter().map(Vec::is_empty));
        let mut entries = BTreeMap::from([(Vec::new(), careless)]);
        for key in keys.iter().flatten() {
            let continued = keys
                .iter()
                .enumerate()
                .filter(|(_, keys)| keys.iter().any(|begin| key.starts_with(begin)));
            let mask = continued.fold(careless, |mask, (rule, _)| mask | 1 << rule);
            entries.insert(key.clone(), mask);
        }
        entries
    }
}

/// Bits of the faults of which something is so.
fn those(are: impl Iterator<Item = bool>) -> u64 {
    are.enumerate()
        .filter(|(_, is)| *is)
        .fold(0, |mask, (rule, _)| mask | 1 << rule)
}

fn covers(net: &Net, addr: IpAddr, prefix: u8) -> bool {
    net.addr().is_ipv4() == addr.is_ipv4()
        && net.prefix() <= prefix
        && Net::masked(addr, net.prefix()) == net.addr()
}

fn ports(ranges: &[RangeInclusive<u16>]) -> Vec<u32> {
    ranges.iter().cloned().flatten().map(u32::from).collect()
}

/// The values of `i_mode >> 12` (stat.h, `S_IFMT`) that a kind stands for.
pub fn file_types(kind: FdKind) -> &'static [u32] {
    match kind {
        FdKind::Pipe => &[0x1],
        FdKind::Chr => &[0x2],
        FdKind::Dir => &[0x4],
        FdKind::Blk => &[0x6],
        FdKind::File => &[0x8],
        FdKind::Socket => &[0xc],
        // Anonymous inodes (epoll, eventfd, …) have no type; links are opened with O_PATH only.
        FdKind::Other => &[0x0, 0x3, 0x5, 0x7, 0x9, 0xa, 0xb, 0xd, 0xe, 0xf],
    }
}

/// The kind of a file of that type, the other way round.
pub fn kind_of_type(file_type: u64) -> FdKind {
    FdKind::ALL
        .into_iter()
        .find(|kind| {
            file_types(*kind)
                .iter()
                .any(|known| u64::from(*known) == file_type)
        })
        .unwrap_or(FdKind::Other)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn masks(expressions: &[String]) -> Masks {
        let faults: Vec<Fault> = expressions
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let (classes, class_of) = ([Target::Command], vec![0; faults.len()]);
        let backends = vec![Backend::Bpf; faults.len()];
        Masks::of(&faults, &classes, &class_of, &Names::default(), &backends)
    }

    /// What a trie answers: the entry of the longest prefix that covers an address.
    fn longest<const N: usize>(trie: &BTreeMap<Prefix<N>, u64>, address: [u8; N]) -> u64 {
        let bit = |bytes: &[u8; N], i: usize| bytes[i / 8] >> (7 - i % 8) & 1;
        trie.iter()
            .filter(|(net, _)| {
                (0..usize::from(net.prefix)).all(|i| bit(&net.address, i) == bit(&address, i))
            })
            .max_by_key(|(net, _)| net.prefix)
            .map_or(0, |(_, &mask)| mask)
    }

    #[test]
    fn unused_dimensions_are_empty() {
        let masks = masks(&["connect:error=EPERM".into()]);
        assert_eq!(masks.dimensions, dims::RUN_CGROUP);
        assert_eq!(masks.remote_ports, Dense::default());
        assert!(masks.remote4.is_empty() && masks.local4.is_empty());
        assert_eq!(masks.rules, 1);
    }

    #[test]
    fn a_name_without_an_address_is_nobody() {
        let masks = masks(&[
            "connect:error=EPERM:dst=db".into(),
            "connect:error=EPERM".into(),
        ]);
        assert_eq!(masks.dimensions & dims::REMOTE, dims::REMOTE);
        assert_eq!(longest(&masks.remote4, [10, 0, 0, 1]), 0b10);
        assert_eq!(longest(&masks.remote6, [7; 16]), 0b10);
    }

    #[test]
    fn both_ends_have_addresses_of_their_own() {
        let masks = masks(&[
            "egress:loss=1%:src=10.0.0.0/8:dst=10.1.0.0/16".into(),
            "egress:loss=1%:src=10.1.0.0/16".into(),
        ]);
        assert_eq!(longest(&masks.local4, [10, 0, 0, 1]), 0b01);
        assert_eq!(longest(&masks.local4, [10, 1, 0, 1]), 0b11);
        assert_eq!(longest(&masks.local4, [11, 1, 0, 1]), 0);
        assert_eq!(longest(&masks.remote4, [10, 1, 0, 1]), 0b11);
        assert_eq!(longest(&masks.remote4, [10, 0, 0, 1]), 0b10);
    }

    #[test]
    fn every_file_type_is_of_exactly_one_kind() {
        let kinds = [
            FdKind::File,
            FdKind::Dir,
            FdKind::Pipe,
            FdKind::Socket,
            FdKind::Chr,
            FdKind::Blk,
            FdKind::Other,
        ];
        let mut types: Vec<_> = kinds.into_iter().flat_map(file_types).copied().collect();
        types.sort_unstable();
        assert_eq!(types, (0..dims::KINDS).collect::<Vec<_>>());
    }

    /// First port and how many more; networks by two bytes of 10.0.x.y and a prefix.
    type Filters = (Option<(u16, u16)>, Vec<(u8, u8, u8)>);

    proptest! {
        /// The masks say of a port and an address what the filters say one by one.
        #[test]
        fn masks_agree_with_the_filters(
            rules in prop::collection::vec(
                (prop::option::of((1..40u16, 0..20u16)), prop::collection::vec((0..4u8, 0..4u8, 22..=32u8), 0..3)),
                1..12,
            ),
            port in 0..70u16,
            a in 0..4u8,
            b in 0..4u8,
        ) {
            let text = |(ports, nets): &Filters| {
                let mut text = String::from("connect:error=EPERM");
                if let Some((from, more)) = ports {
                    text += &format!(":port={from}-{}", from + more);
                }
                let nets: Vec<_> = nets.iter().map(|&(a, b, prefix)| {
                    format!("{}/{prefix}", Net::masked(Ipv4Addr::new(10, 0, a, b).into(), prefix))
                }).collect();
                // The grammar takes no value twice.
                let nets: BTreeSet<_> = nets.into_iter().collect();
                let nets: Vec<_> = nets.into_iter().collect();
                if !nets.is_empty() {
                    text += &format!(":dst={}", nets.join(","));
                }
                text
            };
            let masks = masks(&rules.iter().map(text).collect::<Vec<_>>());
            let address = Ipv4Addr::new(10, 0, a, b);
            let wanted_port = rules.iter().enumerate().fold(0, |mask, (rule, (ports, _))| {
                mask | u64::from(ports.is_none_or(|(from, more)| (from..=from + more).contains(&port))) << rule
            });
            if masks.dimensions & dims::RPORT != 0 {
                let named = masks.remote_ports.named.get(&u32::from(port)).copied().unwrap_or(0);
                prop_assert_eq!(named | masks.remote_ports.any, wanted_port);
            } else {
                prop_assert_eq!(wanted_port, masks.rules);
            }
            let accepts = |nets: &[(u8, u8, u8)]| nets.is_empty() || nets.iter().any(|&(x, y, prefix)| {
                let mask = u32::MAX << (32 - prefix);
                Ipv4Addr::new(10, 0, x, y).to_bits() & mask == address.to_bits() & mask
            });
            let wanted = rules.iter().enumerate().fold(0, |mask, (rule, (_, nets))| {
                mask | u64::from(accepts(nets)) << rule
            });
            if masks.dimensions & dims::REMOTE != 0 {
                prop_assert_eq!(longest(&masks.remote4, address.octets()), wanted);
                // No rule names IPv6: those that do not care accept it, the others do not.
                let careless = rules.iter().enumerate().fold(0, |mask, (rule, (_, nets))| {
                    mask | u64::from(nets.is_empty()) << rule
                });
                prop_assert_eq!(longest(&masks.remote6, Ipv6Addr::LOCALHOST.octets()), careless);
            } else {
                prop_assert_eq!(wanted, masks.rules);
            }
        }
    }
}
