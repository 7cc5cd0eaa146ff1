//! Which program has which effect on packets: a row for each pair of operation and way.

use chaos_common::ops;

use super::Hook;
use crate::{Effect, Op, Wire};

/// The way by which packets meet an effect: each has programs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the program of the operation.
    Own,
    /// Through the kernel's netem.
    Netem,
    /// In the program that resets connections.
    Reset,
    /// In the program that answers with ICMP errors.
    Unreachable,
}

impl Way {
    const fn of(effect: &Effect) -> Self {
        match effect {
            Effect::Netem(_) => Self::Netem,
            Effect::Wire(Wire::Reset | Wire::ResetAll) => Self::Reset,
            Effect::Wire(Wire::Unreachable(_)) => Self::Unreachable,
            Effect::Wire(
                Wire::Blackhole
                | Wire::Partition
                | Wire::Rcode(_)
                | Wire::Answer(_)
                | Wire::Drop
                | Wire::Status(_),
            )
            | Effect::Error(_)
            | Effect::Loss(_)
            | Effect::Call(_)
            | Effect::Limit(_) => Self::Own,
        }
    }
}

/// What serves one operation by one way.
pub(super) struct Route {
    op: Op,
    way: Way,
    /// The index in the `OPS` map, by which the program finds its rules.
    pub(super) index: u32,
    /// The hooks that are needed, its own first. A packet is tied to its process by its socket,
    /// which is seen when made, when connected and when accepted.
    pub(super) hooks: &'static [Hook],
}

macro_rules! routes {
    ($($op:ident by $way:ident: $index:ident, $hook:ident;)+) => {
        /// Every route.
        static ROUTES: &[Route] = &[$(Route {
            op: Op::$op,
            way: Way::$way,
            index: ops::$index,
            hooks: &[Hook::$hook, Hook::Socket, Hook::Connect, Hook::Accept],
        }),+];
    };
}

routes! {
    Egress by Own: EGRESS, Egress;
    Egress by Netem: EGRESS_NETEM, EgressNetem;
    Egress by Reset: EGRESS_RESET, Reset;
    Egress by Unreachable: EGRESS_UNREACHABLE, Unreachable;
    Ingress by Own: INGRESS, Ingress;
    Ingress by Netem: INGRESS_NETEM, IngressNetem;
    Dns by Own: DNS, Dns;
    Http by Own: HTTP, Http;
}

fn find(op: Op, way: Way) -> Option<&'static Route> {
    let mut routes = ROUTES.iter();
    routes.find(|route| route.op == op && route.way == way)
}

/// The route of an effect on packets; `None` for a system call.
pub(super) fn of(op: Op, effect: &Effect) -> Option<&'static Route> {
    find(op, Way::of(effect)).or_else(|| plain(op))
}

/// The route of the plainest effect on packets; `None` for a system call.
pub(super) fn plain(op: Op) -> Option<&'static Route> {
    find(op, Way::Own)
}

/// The operation that has this index.
pub(super) fn operation(index: u32) -> Option<Op> {
    let mut routes = ROUTES.iter();
    routes
        .find(|route| route.index == index)
        .map(|route| route.op)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Property;

    #[test]
    fn every_operation_on_packets_has_a_route_and_no_two_an_index() {
        for &op in Op::NOUNS {
            // A condition takes no route.
            assert_eq!(plain(op).is_some(), !op.has(Property::Condition), "{op}");
        }
        for (at, route) in ROUTES.iter().enumerate() {
            assert!(ROUTES[..at].iter().all(|other| other.index != route.index));
        }
    }
}
