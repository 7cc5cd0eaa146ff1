//! What names of hosts stand for, told by murphy to the supervisor while it is at work.
//!
//! A sequence lock in the shared page: one writes, and never waits; the other takes what is whole, and goes on with what it has
//! where it is not. A murphy that is killed while it writes leaves what was known before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use murphy_fault::HostName;
use murphy_fault::plan::Names;

/// The addresses, all zero at first: nothing was written yet.
#[repr(C)]
pub(super) struct Table {
    /// Odd while it is written.
    version: AtomicU64,
    count: AtomicU64,
    rows: [Row; Names::MOST],
}

/// Which name (its place among the names) and whether it is IPv6, then the address in two halves.
type Row = [AtomicU64; 3];

/// The bit of an IPv6 address.
const V6: u64 = 1;

impl Table {
    /// Says what names stand for. For one thread alone.
    pub(super) fn write(&self, names: &Names) {
        let version = self.version.load(Ordering::Relaxed);
        // It may be odd after a fork only, and then nobody else writes.
        self.version.store(version | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let all = (0..).zip(names.iter());
        let all = all.flat_map(|(place, (_, addresses))| {
            addresses.iter().map(move |address| (place, *address))
        });
        let mut count = 0;
        for (row, (place, address)) in self.rows.iter().zip(all) {
            let (six, bits) = match address {
                IpAddr::V4(v4) => (0, u128::from(v4.to_bits())),
                IpAddr::V6(v6) => (V6, v6.to_bits()),
            };
            let place: u64 = place;
            let values = [place << 1 | six, (bits >> 64) as u64, bits as u64];
            for (cell, value) in row.iter().zip(values) {
                cell.store(value, Ordering::Relaxed);
            }
            count += 1;
        }
        self.count.store(count, Ordering::Relaxed);
        self.version.store((version | 1) + 1, Ordering::Release);
    }

    /// What was written, unless it is known as `version` or being written. Its names are those of `names`, in their order.
    fn read(&self, version: u64, names: &Names) -> Option<(u64, Names)> {
        let now = self.version.load(Ordering::Acquire);
        if now == version || now & 1 != 0 {
            return None;
        }
        let mut found: Vec<(&HostName, Vec<IpAddr>)> =
            names.iter().map(|(name, _)| (name, Vec::new())).collect();
        let count = usize::try_from(self.count.load(Ordering::Relaxed)).unwrap_or(0);
        for row in self.rows.iter().take(count) {
            let [which, high, low] = [0, 1, 2].map(|cell: usize| row[cell].load(Ordering::Relaxed));
            let bits = u128::from(high) << 64 | u128::from(low);
            let address = match which & V6 {
                0 => Ipv4Addr::from_bits(bits as u32).into(),
                _ => Ipv6Addr::from_bits(bits).into(),
            };
            let place = usize::try_from(which >> 1).unwrap_or(usize::MAX);
            if let Some((_, addresses)) = found.get_mut(place) {
                addresses.push(address);
            }
        }
        fence(Ordering::Acquire);
        if self.version.load(Ordering::Relaxed) != now {
            return None;
        }
        let mut names = Names::default();
        for (name, addresses) in found {
            names.set(name.clone(), addresses);
        }
        Some((now, names))
    }
}

/// The supervisor's copy.
pub(super) struct Hosts {
    pub(super) names: Names,
    version: u64,
}

impl Hosts {
    pub(super) fn new(names: Names) -> Self {
        Self { names, version: 0 }
    }

    /// Takes over what is new.
    pub(super) fn refresh(&mut self, table: &Table) {
        if self.names.is_empty() {
            return;
        }
        if let Some((version, names)) = table.read(self.version, &self.names) {
            (self.version, self.names) = (version, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Shared;
    use super::*;

    #[test]
    fn the_other_side_reads_what_was_written() {
        let page = Shared::new().unwrap();
        let of = |all: &[(&str, &[&str])]| {
            let mut names = Names::default();
            for (name, addresses) in all {
                let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
                names.set(HostName::new(name).unwrap(), addresses);
            }
            names
        };
        let first = of(&[("a", &["10.0.0.1"]), ("b", &["10.0.0.2", "fd00::2"])]);
        let mut hosts = Hosts::new(first.clone());
        hosts.refresh(&page.hosts);
        assert_eq!(hosts.names, first, "nothing was written yet");
        let second = of(&[("a", &["fd00::1", "10.0.0.9"]), ("b", &[])]);
        page.hosts.write(&second);
        hosts.refresh(&page.hosts);
        assert_eq!(hosts.names, second);
        // Who writes and was stopped half-way leaves what was known.
        page.hosts.version.fetch_add(1, Ordering::Relaxed);
        hosts.refresh(&page.hosts);
        assert_eq!(hosts.names, second);
        page.hosts.write(&first);
        hosts.refresh(&page.hosts);
        assert_eq!(hosts.names, first);
    }
}
