//! The values of filters and effects that are not numbers with a unit: errors, ports, addresses, protocols, kinds of file.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::mistake::Mistake;
use super::number::whole;
use super::print::network;
use crate::call::{Count, Glob, Signal};
use crate::interface::InterfaceGlob;
use crate::remote::{HostName, Remote};
use crate::values::{Errno, FdKind, Net, Proto};

/// The name of an error or its number, 1 to 4095.
pub(super) fn errno(text: &str) -> Result<Errno, Mistake> {
    if let Some(errno) = Errno::by_name(text) {
        return Ok(errno);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Mistake::UnknownErrno(text.to_owned()));
    }
    let number = u16::try_from(whole(text)?).map_err(|_| Mistake::ErrnoRange)?;
    Errno::new(number).ok_or(Mistake::ErrnoRange)
}

/// `80` or `6000-6010`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, Mistake> {
    let port = |number: &str| match whole(number).map(u16::try_from) {
        Ok(Ok(port)) if port > 0 => Ok(port),
        _ => Err(Mistake::NotPort(text.to_owned())),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(Mistake::PortOrder(text.to_owned()));
    }
    Ok(first..=last)
}

/// `10.0.0.1`, `10.0.0.0/8`, `[::1]`, `[fd00::]/8`, or IPv6 without brackets where its colons were escaped.
pub(super) fn net(text: &str) -> Result<Net, Mistake> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let in_brackets = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let parsed = match in_brackets {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => address.parse().ok(),
    };
    let Some(addr) = parsed else {
        return Err(no_address(text, address));
    };
    let width = Net::width(addr);
    let Some(prefix) = prefix else {
        return Ok(Net::host(addr));
    };
    let prefix = whole(prefix).ok().and_then(|bits| u8::try_from(bits).ok());
    let prefix = prefix
        .filter(|bits| *bits <= width)
        .ok_or(Mistake::PrefixRange(width))?;
    Net::new(addr, prefix)
        .ok_or_else(|| Mistake::HostBits(network(Net::masked(addr, prefix), prefix)))
}

/// What [`net`] reads, or a host's name.
pub(super) fn remote(text: &str) -> Result<Remote, Mistake> {
    match net(text) {
        Ok(net) => Ok(Remote::Net(net)),
        Err(mistake) => match (HostName::new(text), mistake) {
            (Ok(name), _) => Ok(Remote::Name(name)),
            (Err(_), Mistake::HostName(_)) if text.contains('/') => {
                Err(Mistake::NamePrefix(text.to_owned()))
            }
            (Err(_), Mistake::HostName(_)) => Err(Mistake::NotAddress(text.to_owned())),
            (Err(_), mistake) => Err(mistake),
        },
    }
}

/// Whether it may be a group of an IPv6 address.
pub(super) fn is_group(text: &str) -> bool {
    (1..=4).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Tells a host name, where only addresses can stand, from nonsense.
fn no_address(text: &str, address: &str) -> Mistake {
    // The first group of an IPv6 address without brackets (`dst=fe80::1`) is no name either.
    let group = is_group(address);
    let letters = address.chars().any(|c| c.is_ascii_alphabetic());
    let name = address
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if letters && name && !group {
        Mistake::HostName(address.to_owned())
    } else {
        Mistake::NotAddress(text.to_owned())
    }
}

/// A protocol's name or number.
pub(super) fn proto(text: &str) -> Result<Proto, Mistake> {
    let number = || {
        whole(text)
            .ok()
            .and_then(|number| u8::try_from(number).ok())
            .map(Proto)
    };
    Proto::by_name(text)
        .or_else(number)
        .ok_or_else(|| Mistake::UnknownProto(text.to_owned()))
}

/// The name of an interface, or a pattern of such.
pub(super) fn interface(text: &str) -> Result<InterfaceGlob, Mistake> {
    InterfaceGlob::new(text).map_err(|reason| Mistake::NotInterface {
        text: text.to_owned(),
        reason,
    })
}

/// A kind of file.
pub(super) fn kind(text: &str) -> Result<FdKind, Mistake> {
    FdKind::by_name(text).ok_or_else(|| Mistake::UnknownKind(text.to_owned()))
}

/// The number of a descriptor.
pub(super) fn fd(text: &str) -> Result<u32, Mistake> {
    let number = whole(text).ok().and_then(|fd| i32::try_from(fd).ok());
    number
        .map(i32::cast_unsigned)
        .ok_or_else(|| Mistake::NotFd(text.to_owned()))
}

/// A pattern of paths.
pub(super) fn path(text: &str) -> Result<Glob, Mistake> {
    Glob::new(text).ok_or_else(|| Mistake::NotPath(text.to_owned()))
}

/// The name of a signal, with or without `SIG`, or its number.
pub(super) fn signal(text: &str) -> Result<Signal, Mistake> {
    let number = || u8::try_from(whole(text).ok()?).ok().and_then(Signal::new);
    Signal::by_name(text)
        .or_else(number)
        .ok_or_else(|| Mistake::UnknownSignal(text.to_owned()))
}

/// What counts.
pub(super) fn count(text: &str) -> Result<Count, Mistake> {
    match text == Count::Thread.name() {
        true => Ok(Count::Thread),
        false => Err(Mistake::NotCount(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names_and_numbers() {
        for (text, number) in [
            ("ENOSPC", 28),
            ("enospc", 28),
            ("EWOULDBLOCK", 11),
            ("EAGAIN", 11),
            ("ENOTSUP", 95),
            ("1", 1),
            ("4095", 4095),
        ] {
            assert_eq!(errno(text).map(Errno::get), Ok(number), "{text}");
        }
        for text in ["0", "4096", "99999"] {
            assert_eq!(errno(text), Err(Mistake::ErrnoRange), "{text}");
        }
    }

    #[test]
    fn networks() {
        for (text, addr, prefix) in [
            ("10.0.0.1", "10.0.0.1", 32),
            ("10.0.0.0/8", "10.0.0.0", 8),
            ("0.0.0.0/0", "0.0.0.0", 0),
            ("[::1]", "::1", 128),
            ("[::1]/128", "::1", 128),
            ("[::]/0", "::", 0),
            ("fd00::/8", "fd00::", 8),
        ] {
            assert_eq!(
                net(text).ok(),
                Net::new(addr.parse().unwrap(), prefix),
                "{text}"
            );
            assert!(net(text).is_ok(), "{text}");
        }
        assert_eq!(
            net("10.1.0.0/8"),
            Err(Mistake::HostBits("10.0.0.0/8".to_owned()))
        );
        assert_eq!(
            net("[fd00::1]/8"),
            Err(Mistake::HostBits("[fd00::]/8".to_owned()))
        );
        assert_eq!(
            net("localhost"),
            Err(Mistake::HostName("localhost".to_owned()))
        );
        for text in [
            "fe80",
            "10.0.0",
            "[10.0.0.1]",
            "[::1",
            "::1]",
            "[fe80::1%eth0]",
            "",
        ] {
            assert_eq!(
                net(text),
                Err(Mistake::NotAddress(text.to_owned())),
                "{text}"
            );
        }
        for text in ["db", "fe80", "localhost", "db.example.internal."] {
            let name = HostName::new(text).map(Remote::Name);
            assert_eq!(remote(text).ok(), name.ok(), "{text}");
            assert!(remote(text).is_ok(), "{text}");
        }
        assert_eq!(
            remote("db.example/24"),
            Err(Mistake::NamePrefix("db.example/24".to_owned()))
        );
        for text in ["10.0.0", "[db]", "", "a..b"] {
            assert_eq!(
                remote(text),
                Err(Mistake::NotAddress(text.to_owned())),
                "{text}"
            );
        }
        for text in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/-1",
        ] {
            assert_eq!(net(text), Err(Mistake::PrefixRange(32)), "{text}");
        }
    }
}
