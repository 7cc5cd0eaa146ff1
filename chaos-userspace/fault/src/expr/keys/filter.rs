//! Filters: to which operations a fault applies.

use super::part::{Part, list, many_values, one_value};
use super::{Key, KeyDef, keys};
use crate::expr::filter::{fd, interface, kind, net, path, ports, proto, remote};
use crate::expr::mistake::{ADDRESSES, INTERFACES};
use crate::expr::number::connections;
use crate::expr::print::{Ports, escaped};
use crate::expr::resolve::{many, one};
use crate::expr::wire::name;
use crate::model::Filter;
use crate::registry::Property;

const PACKETS: &str = "packets: egress, ingress or net";
const SOCKETS: &str = "a call with a socket address: connect, bind, sendto, or egress/ingress/net";

/// The row of a filter.
pub(crate) struct Row {
    pub(crate) def: KeyDef,
    pub(crate) part: Part<Filter>,
}

keys! {
    /// A filter's key in an expression.
    FilterKey, Row {
        Port = "port" "=N[-N],…" "Remote ports."
            { needs: SOCKETS, examples: &["=80,6000-6010"] }
            { part: many_values!(
                &[Property::Address, Property::RemoteEnd],
                port, ports, |range| Ports(range.clone()),
                r##"{"type":"array",
                    "items":{"$ref":"#/$defs/ports"},"description":"Remote ports."}"##
            ) }
        Sport = "sport" "=N[-N],…" "Local ports."
            { needs: PACKETS, examples: &["=8080"] }
            { part: many_values!(
                &[Property::LocalPort],
                sport, ports, |range| Ports(range.clone()),
                r##"{"type":"array",
                    "items":{"$ref":"#/$defs/ports"},"description":"Local ports; packets only."}"##
            ) }
        Dst = "dst" "=ADDRESS[/PREFIX]|NAME,…" "Remote addresses, networks and hosts."
            { needs: SOCKETS, examples: &["=10.0.0.0/8", "=db.example"], empty: Some(ADDRESSES) }
            { part: many_values!(
                &[Property::Address, Property::RemoteEnd],
                dst, remote,
                r##"{"type":"array",
                    "items":{"oneOf":[{"$ref":"#/$defs/network"},{"$ref":"#/$defs/host"}]},
                    "description":"Remote addresses, and names whose addresses are looked up."}"##
            ) }
        Src = "src" "=ADDRESS[/PREFIX],…" "Local addresses and networks."
            { needs: PACKETS, examples: &["=[::1]"], empty: Some(ADDRESSES) }
            { part: many_values!(
                &[Property::LocalAddress],
                src, net,
                r##"{"type":"array",
                    "items":{"$ref":"#/$defs/network"},
                    "description":"Local addresses; packets only."}"##
            ) }
        Proto = "proto" "=NAME|N,…" "IP protocols."
            { needs: PACKETS, examples: &["=tcp"] }
            { part: many_values!(
                &[Property::Protocol],
                proto, proto,
                r#"{"type":"array","items":{"type":"integer","minimum":0,"maximum":255},
                    "description":"IP protocols, by number; packets only."}"#
            ) }
        Interface = "interface" "=GLOB,…" "Network interfaces that packets leave or arrive by."
            {
                needs: "packets: egress, ingress, net, dns or http",
                examples: &["=eth*"],
                empty: Some(INTERFACES),
            }
            { part: many_values!(
                &[Property::Interface],
                interface, interface, |name| escaped(name.as_str()),
                r#"{"type":"array","items":{"type":"string","pattern":"^[^!/:,@\\s][^/:,@\\s]*$",
                    "maxLength":64},
                    "description":"Network interfaces that packets leave or arrive by, as names or patterns with `*`, `?` and `[…]`; packets only."}"#
            ) }
        On = "on" "=KIND,…" "What the file is."
            { needs: "a call with a descriptor or a path", examples: &["=file"] }
            { part: many_values!(
                &[Property::File],
                on, kind,
                r#"{"type":"array","items":{"enum":["file","dir","pipe","socket","chr","blk",
                    "other"]},"description":"What the file is."}"#
            ) }
        Fd = "fd" "=N,…" "The descriptor's number."
            { needs: "a call with a descriptor", examples: &["=3"] }
            { part: many_values!(
                &[Property::Descriptor],
                fd, fd,
                r#"{"type":"array","items":{"type":"integer","minimum":0,"maximum":4294967295},
                    "description":"The descriptor's number."}"#
            ) }
        Path = "path" "=GLOB,…" "Patterns of absolute paths."
            { needs: "http, or a call with a descriptor or a path", examples: &["=/srv/*"] }
            { part: many_values!(
                &[Property::File, Property::Url],
                path, path,
                r#"{"type":"array","items":{"type":"string","pattern":"^[/*]"},
                    "description":"Patterns of absolute paths."}"#
            ) }
        Name = "name" "=NAME,…" "Names that DNS queries ask for."
            { needs: "DNS queries: dns", examples: &["=*.example.com"] }
            { part: many_values!(
                &[Property::Query],
                name, name,
                r#"{"type":"array","items":{"type":"string"},
                    "description":"Names that DNS queries ask for."}"#
            ) }
        Connlimit = "connlimit" "=N" "Connects beyond so many connections that are open at once."
            { needs: "connect", examples: &["=10"] }
            { part: one_value!(
                &[Property::Connections],
                connlimit, key connections,
                r#"{"type":"integer","minimum":1,"maximum":4294967295,
                    "description":"Connects beyond so many connections that are open at once; connect only."}"#
            ) }
    }
}
