//! The service behind a proxy: which packets and connections are its.

use std::net::IpAddr;
use std::str::FromStr;

use murphy_fault::HostName;

/// The address that a proxy hands on to; for murphy, whom connections and packets go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    host: String,
    port: u16,
}

/// Ports of services that are proxied by their name, as IANA or their documentation has them.
const KNOWN: &[(&str, u16)] = &[
    ("redis", 6379),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("mongo", 27017),
    ("mongodb", 27017),
    ("memcached", 11211),
    ("rabbitmq", 5672),
    ("kafka", 9092),
    ("elasticsearch", 9200),
    ("http", 80),
    ("https", 443),
    ("s3", 443),
];

impl Upstream {
    /// The service that usually goes by this name.
    pub fn well_known(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (_, port) = KNOWN.iter().find(|(known, _)| *known == lower)?;
        Some(Self {
            host: String::new(),
            port: *port,
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The keys of a fault that keep it to this service.
    pub fn filter(&self) -> String {
        match (self.host.as_str(), self.host.parse::<IpAddr>()) {
            ("localhost", _) => format!(":port={}:dst=127.0.0.0/8,[::1]", self.port),
            (_, Ok(IpAddr::V4(address))) if !address.is_unspecified() => {
                format!(":port={}:dst={address}", self.port)
            }
            (_, Ok(IpAddr::V6(address))) if !address.is_unspecified() => {
                format!(":port={}:dst=[{address}]", self.port)
            }
            _ => match HostName::new(&self.host) {
                Ok(name) => format!(":port={}:dst={name}", self.port),
                Err(_) => format!(":port={}", self.port),
            },
        }
    }

    /// A name of a host is looked up by murphy, which may know it as something else than the proxy does.
    pub fn name_looked_up(&self) -> Option<String> {
        let named = self.host != "localhost" && HostName::new(&self.host).is_ok();
        named.then(|| {
            format!(
                "murphy looks `{}` up where it runs itself: it must have the addresses there that the application connects to",
                self.host
            )
        })
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no HOST:PORT, such as 127.0.0.1:6379");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_port_and_its_address_or_name() {
        for (text, filter, looked_up) in [
            ("10.0.0.5:80", ":port=80:dst=10.0.0.5", false),
            ("[fd00::1]:80", ":port=80:dst=[fd00::1]", false),
            ("0.0.0.0:80", ":port=80", false),
            ("localhost:80", ":port=80:dst=127.0.0.0/8,[::1]", false),
            ("db:5432", ":port=5432:dst=db", true),
            ("$HOST:80", ":port=80", false),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.filter(), filter, "{text}");
            assert_eq!(upstream.name_looked_up().is_some(), looked_up, "{text}");
        }
    }
}
