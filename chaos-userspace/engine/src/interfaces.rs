//! The network interfaces that packets of a target can leave by.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use super::EngineError;
use murphy_fault::plan::{Link, Namespace, Network, Plan};
use murphy_kernel::links;
use murphy_sys::netns::{OWN_PREFIX, inside, open_at, open_of};
use murphy_sys::process::ProcFolder;

pub(super) use murphy_sys::netns::{Netns, up};

/// All interfaces of a network namespace, without those that injectors made.
pub(super) fn of(netns: Option<&Netns>) -> Result<Network, EngineError> {
    let mut network = inside(netns, links::network)
        .and_then(|network| network)
        .map_err(EngineError::io("listing network interfaces"))?;
    let others = |link: &Link| !link.name.starts_with(OWN_PREFIX);
    network.links.retain(others);
    Ok(network)
}

/// A plan that knows the interfaces which its faults name, if any does, in the network namespaces of its targets.
///
/// # Errors
///
/// One that is nowhere, or more than there is room for.
pub(super) fn locate<'n>(
    plan: Plan,
    namespaces: impl IntoIterator<Item = Option<&'n Netns>>,
) -> Result<Plan, EngineError> {
    if !plan.names_interfaces() {
        return Ok(plan);
    }
    let networks = namespaces
        .into_iter()
        .map(of)
        .collect::<Result<Vec<_>, _>>()?;
    // Where there are no targets left there is nothing to look at.
    if let Some((name, fault)) = plan.nowhere(&networks).filter(|_| !networks.is_empty()) {
        let links = networks.iter().flat_map(|network| &network.links);
        let there: BTreeSet<_> = links.map(|link| link.name.as_str()).collect();
        return Err(EngineError::NoInterface {
            name: name.clone(),
            fault: fault.to_string(),
            there: there.into_iter().collect::<Vec<_>>().join(", "),
        });
    }
    let plan = plan.located(&networks);
    match plan.masks.interfaces.len() {
        0..=Plan::MOST_INTERFACES => Ok(plan),
        count => Err(EngineError::TooManyInterfaces {
            count,
            most: Plan::MOST_INTERFACES,
        }),
    }
}

/// Opens the file of a network namespace as it was named.
pub(super) fn open(namespace: &Namespace) -> io::Result<File> {
    match (namespace.path(), namespace) {
        (Some(path), _) => open_at(&path),
        (None, Namespace::Of(pid)) => open_of(&ProcFolder::open(*pid)?),
        (None, Namespace::At(_)) => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A namespace as it was named, with its number; `None` if it is this process's own.
pub(super) fn named(namespace: &Namespace) -> io::Result<(u32, Option<Netns>)> {
    Netns::opened(open(namespace)?)
}
