//! Scripts, playbooks and runbooks: the lines in them that break something, and the JSON blocks between.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::command::{Cli, words};
use super::toxic::{self, Toxic};
use super::{Conversion, Converted, Mistake, Upstream, json};
use murphy_fault::{HostName, Net};

/// What has been read so far of a text.
struct Reader<'a> {
    default: Option<&'a Upstream>,
    /// Proxies that were created, by name.
    proxies: BTreeMap<String, Upstream>,
    /// The comment above the line at hand.
    comment: String,
    line: usize,
}

/// Reads every line that is known; the others are prose.
pub(super) fn read(text: &str, default: Option<&Upstream>, done: &mut Conversion) {
    let mut reader = Reader {
        default,
        proxies: BTreeMap::new(),
        comment: String::new(),
        line: 0,
    };
    let lines: Vec<&str> = text.lines().collect();
    // A proxy may be created below the line that poisons it.
    for line in &lines {
        let words = words(line);
        if words.first().is_some_and(|word| word == "toxiproxy-cli")
            && words.get(1).is_some_and(|word| word == "create")
        {
            let cli = Cli::parse(&words[2..]);
            if let (Some(name), Some(upstream)) = (cli.name, cli.flags.get("upstream"))
                && let Ok(upstream) = upstream.parse()
            {
                reader.proxies.insert(name, upstream);
            }
        }
    }
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() == "```json"
            && let Some(length) = lines[at + 1..].iter().position(|line| line.trim() == "```")
        {
            let block = lines[at + 1..at + 1 + length].join("\n");
            if let Ok(value) = serde_json::from_str::<Value>(&block)
                && json::is_known(&value)
            {
                block_of_json(&value, at + 1, &reader, done);
            }
            at += length + 2;
            continue;
        }
        reader.line = at + 1;
        reader.take(lines[at].trim(), done);
        at += 1;
    }
}

/// A block's findings stand at its first line.
fn block_of_json(value: &Value, line: usize, reader: &Reader<'_>, done: &mut Conversion) {
    let mut found = Conversion::default();
    if json::read(value, reader.default, &mut found).is_err() {
        return;
    }
    let line = Some(line + 1);
    done.faults.extend(found.faults.into_iter().map(|mut item| {
        item.line = line;
        item
    }));
    done.mistakes
        .extend(found.mistakes.into_iter().map(|mut item| {
            item.line = line;
            item
        }));
    let missing = found.without_equivalent.into_iter().map(|mut item| {
        item.line = line;
        item
    });
    done.without_equivalent.extend(missing);
}

impl Reader<'_> {
    fn take(&mut self, line: &str, done: &mut Conversion) {
        if let Some(comment) = line.strip_prefix('#') {
            comment.trim().clone_into(&mut self.comment);
            return;
        }
        let words = words(line);
        let mut rest = words.as_slice();
        while let [first, after @ ..] = rest
            && (first == "sudo" || first == "$")
        {
            rest = after;
        }
        match rest.split_first() {
            Some((first, args)) => match first.as_str() {
                "toxiproxy-cli" => self.toxiproxy(line, args, done),
                "iptables" | "ip6tables" => self.iptables(line, args, done),
                "chmod" => self.chmod(args, done),
                "dd" => self.dd(args, done),
                _ => {}
            },
            // A comment speaks of the lines that follow without a gap.
            None => self.comment.clear(),
        }
    }

    fn service(&self, name: &str) -> Option<Upstream> {
        let known = self.proxies.get(name).or(self.default).cloned();
        known.or_else(|| Upstream::well_known(name))
    }

    fn mistake(&self, done: &mut Conversion, said: &str, wrong: &str, right: String) {
        done.mistakes.push(Mistake {
            line: Some(self.line),
            said: said.to_owned(),
            wrong: wrong.to_owned(),
            right,
        });
    }

    fn toxiproxy(&self, line: &str, args: &[String], done: &mut Conversion) {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["toxic", "add" | "a", ..] => self.toxic_add(line, &args[2..], done),
            ["create", ..] => {
                let cli = Cli::parse(&args[1..]);
                if cli.name_first {
                    self.flags_first(line, "create", &cli, done);
                }
            }
            ["reset", ..] => self.mistake(
                done,
                line,
                "toxiproxy-cli has no command reset",
                "curl -X POST http://localhost:8474/reset; with murphy: murphy stop --all"
                    .to_owned(),
            ),
            ["toggle", name, ..] => {
                if let Some(service) = self.service(name) {
                    done.faults
                        .push(toxic::disabled(name, &service, Some(self.line)));
                }
            }
            _ => {}
        }
    }

    fn flags_first(&self, line: &str, command: &str, cli: &Cli, done: &mut Conversion) {
        let name = cli.name.clone().unwrap_or_default();
        let flags = cli.said.join(" ");
        self.mistake(
            done,
            line,
            "toxiproxy-cli takes no flags after the name: what stands there is not read",
            format!("toxiproxy-cli {command} {flags} {name}"),
        );
    }

    fn toxic_add(&self, line: &str, args: &[String], done: &mut Conversion) {
        let cli = Cli::parse(args);
        if cli.name_first {
            self.flags_first(line, "toxic add", &cli, done);
        }
        let proxy = cli.name.clone().unwrap_or_default();
        let kind = cli.flags.get("type").cloned().unwrap_or_default();
        let given = cli.flags.get("toxicName").cloned();
        Toxic {
            name: given.unwrap_or_else(|| format!("{proxy}_{kind}")),
            kind,
            upstream: cli.flags.contains_key("upstream"),
            toxicity: cli.flags.get("toxicity").and_then(|text| text.parse().ok()),
            attributes: cli.attributes,
            service: self.service(&proxy),
            line: Some(self.line),
            comment: self.comment.clone(),
        }
        .convert(done);
    }

    /// `-A OUTPUT … -j DROP|REJECT`; taking a rule away again is murphy's own business.
    fn iptables(&self, line: &str, args: &[String], done: &mut Conversion) {
        let value = |flags: &[&str]| {
            let at = args
                .iter()
                .position(|word| flags.contains(&word.as_str()))?;
            args.get(at + 1).map(String::as_str)
        };
        let direction = match value(&["-A", "--append", "-I", "--insert"]) {
            Some("OUTPUT") => "egress",
            Some("INPUT") => "ingress",
            _ => return,
        };
        let (mut filter, mut own_end) = (String::new(), String::new());
        let mut differences = Vec::new();
        let (near, far) = match direction {
            "egress" => (&["--sport"], &["--dport"]),
            _ => (&["--dport"], &["--sport"]),
        };
        let proto = value(&["-p", "--protocol"]);
        if let Some(port) = value(far) {
            filter += &format!(":port={}", port.replace(':', "-"));
        }
        if let Some(port) = value(near) {
            own_end += &format!(":sport={}", port.replace(':', "-"));
        }
        let (source, destination) = (["-s", "--source"], ["-d", "--destination"]);
        let (own, peer) = match direction {
            "egress" => (source, destination),
            _ => (destination, source),
        };
        if let Some(address) = value(&peer) {
            filter += &format!(":dst={}", spelt(address));
            if HostName::new(address).is_ok() {
                differences.push(format!(
                    "iptables looks `{address}` up once, when the rule is made; murphy looks again every few seconds"
                ));
            }
        }
        if let Some(address) = value(&own) {
            own_end += &format!(":src={}", spelt(address));
        }
        // iptables lets `-o` stand with OUTPUT only, and `-i` with INPUT.
        let (flags, goes) = match direction {
            "egress" => (["-o", "--out-interface"], "leave"),
            _ => (["-i", "--in-interface"], "arrive"),
        };
        let mut interface = String::new();
        if let Some(name) = value(&flags) {
            let at = args.iter().position(|word| flags.contains(&word.as_str()));
            let but = at.and_then(|at| args.get(at.checked_sub(1)?));
            if but.is_some_and(|word| word == "!") {
                differences.push(format!(
                    "packets that {goes} by `{name}` are hit as well: `interface` names those that are hit, and knows no `!`"
                ));
            } else {
                // A `+` at the end is whatever goes on.
                interface = match name.strip_suffix('+') {
                    Some(begin) => format!(":interface={begin}*"),
                    None => format!(":interface={name}"),
                };
            }
        }
        let refused = value(&["-j", "--jump"]) == Some("REJECT");
        if self.comment.to_ascii_lowercase().contains("refused") && !refused {
            self.mistake(
                done,
                line,
                "DROP refuses nothing: packets vanish and the program waits for its timeout",
                format!("connect:error=ECONNREFUSED{filter}"),
            );
        }
        if refused && !own_end.is_empty() {
            differences.push(
                "which port and address of its own a socket will have is not known when it connects: they are left out"
                    .to_owned(),
            );
        }
        if refused && !interface.is_empty() {
            differences.push(
                "by which interface its packets will leave is not known when a socket connects: that is left out"
                    .to_owned(),
            );
        }
        let fault = match refused {
            true => format!("connect:error=ECONNREFUSED{filter}"),
            false => format!(
                "{direction}:loss=100%{filter}{own_end}{}{interface}",
                proto
                    .map(|proto| format!(":proto={proto}"))
                    .unwrap_or_default()
            ),
        };
        differences.push(
            "iptables hits every process of the machine; the fault hits its target".to_owned(),
        );
        self.push(done, "firewall", line, vec![fault], differences);
    }

    /// A folder that nobody may enter.
    fn chmod(&self, args: &[String], done: &mut Conversion) {
        let [.., mode, path] = args else { return };
        if mode.trim_start_matches('0').is_empty() && mode.len() >= 3 {
            let fault = format!("%file:error=EACCES:path={path}/**");
            let differences = vec![
                "chmod does not stop root, and has to be undone with the mode that was there; the fault hits root too and \
                 changes nothing on disk"
                    .to_owned(),
            ];
            self.push(
                done,
                "permission_denied",
                "permission denied",
                vec![fault],
                differences,
            );
        }
    }

    /// A file that fills the disk.
    fn dd(&self, args: &[String], done: &mut Conversion) {
        let from_zero = args.iter().any(|arg| arg == "if=/dev/zero");
        if let Some(of) = args.iter().find_map(|arg| arg.strip_prefix("of="))
            && from_zero
            && !of.starts_with("/dev/")
        {
            let fault = "write,pwrite64,writev,pwritev,pwritev2:error=ENOSPC:on=file".to_owned();
            let differences = vec![
                "dd fills the disk for everybody, takes minutes, and has to be cleaned up; the fault gives ENOSPC to its target \
                 at once"
                    .to_owned(),
            ];
            self.push(
                done,
                "disk_full",
                "no space left on the device",
                vec![fault],
                differences,
            );
        }
    }

    fn push(
        &self,
        done: &mut Conversion,
        name: &str,
        what: &str,
        faults: Vec<String>,
        differences: Vec<String>,
    ) {
        let same = |item: &Converted| item.name.starts_with(name) && item.faults == faults;
        if done.faults.iter().any(same) {
            return; // documents repeat themselves
        }
        done.faults.push(Converted {
            name: name.to_owned(),
            what: what.to_owned(),
            line: Some(self.line),
            faults,
            differences,
        });
    }
}

/// iptables' addresses and networks as filters have them. What is none stays as it is: left out, the fault would hit more,
/// and so it is refused where it is read.
fn spelt(addresses: &str) -> String {
    let spelt = |address: &str| {
        let net = network(address);
        net.map_or_else(|| address.to_owned(), |net| net.to_string())
    };
    let all: Vec<_> = addresses.split(',').map(spelt).collect();
    all.join(",")
}

/// `10.1.2.3`, `10.1.2.3/8` or `10.1.2.3/255.0.0.0`: as iptables does, without the host's bits.
fn network(address: &str) -> Option<Net> {
    let (host, mask) = match address.split_once('/') {
        Some((host, mask)) => (host, Some(mask)),
        None => (address, None),
    };
    let host: IpAddr = host.parse().ok()?;
    let prefix = match mask {
        None => Net::width(host),
        Some(mask) => mask.parse().ok().or_else(|| {
            let ones = mask.parse::<Ipv4Addr>().ok()?.to_bits();
            (ones.leading_ones() == ones.count_ones()).then_some(ones.count_ones() as u8)
        })?,
    };
    Net::new(Net::masked(host, prefix), prefix)
}
