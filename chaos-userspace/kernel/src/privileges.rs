//! What this process may do: what a plan takes, what is missing, and what is given up once it is attached.

use caps::{CapSet, Capability, CapsHashSet};

use super::KernelError;
use murphy_fault::Family;
use murphy_fault::plan::{Plan, Target};

/// What most plans take: `SYS_ADMIN` mounts the private bpffs, and implies `BPF` and `PERFMON`; sockets and
/// packets take `NET_ADMIN`.
const USUAL: [Capability; 2] = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN];

/// What a plan takes. The sockets, namespaces and code of processes that already run are looked at as a debugger would.
fn needed(plan: &Plan) -> Vec<Capability> {
    let mut needed = vec![Capability::CAP_SYS_ADMIN];
    if is_network(plan) {
        needed.push(Capability::CAP_NET_ADMIN);
    }
    if (is_network(plan) && !matches!(plan.target, Target::Command)) || !plan.in_code().is_empty() {
        needed.push(Capability::CAP_SYS_PTRACE);
    }
    needed
}

/// Names of the capabilities that this process lacks of those that most plans take.
pub fn missing() -> Vec<String> {
    lacking(USUAL)
}

fn lacking(needed: impl IntoIterator<Item = Capability>) -> Vec<String> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    needed
        .into_iter()
        .filter(|capability| !effective.contains(capability))
        .map(|capability| capability.to_string())
        .collect()
}

/// Whether a plan's hooks are on sockets or packets.
fn is_network(plan: &Plan) -> bool {
    plan.families().contains(&Family::Net)
}

/// Fails if this process lacks a capability that a plan takes.
///
/// # Errors
///
/// Names all that are missing.
pub fn check(plan: &Plan) -> Result<(), KernelError> {
    match lacking(needed(plan)).join(" and ") {
        missing if missing.is_empty() => Ok(()),
        missing => Err(KernelError::Privilege { missing }),
    }
}

/// What is kept while a plan is in force: renewing and reading maps, undoing, ending the command's descendants, and
/// looking at processes of other users. Who follows targets enters other network namespaces and attaches there.
fn kept(plan: &Plan) -> CapsHashSet {
    use Capability as C;
    let mut kept = vec![
        C::CAP_BPF,
        C::CAP_PERFMON,
        C::CAP_KILL,
        C::CAP_DAC_OVERRIDE,
        C::CAP_DAC_READ_SEARCH,
        C::CAP_SYS_PTRACE,
    ];
    if !plan.conditions.is_empty() {
        kept.push(C::CAP_SYS_RESOURCE);
    }
    if is_network(plan) {
        kept.extend([C::CAP_NET_ADMIN, C::CAP_NET_RAW]);
    }
    let on_interfaces = plan.hooks.iter().any(|hook| hook.is_of_interfaces());
    if on_interfaces || plan.names_interfaces() || !matches!(plan.target, Target::Command) {
        kept.push(C::CAP_SYS_ADMIN);
    }
    kept.into_iter().collect()
}

/// Gives up, for good, what a plan that is attached does not need any more. To be called when the command has been
/// started: it is to have everything its user has. Nothing is given up that could not be.
pub fn drop_for(plan: &Plan) {
    let kept = kept(plan);
    // Where `SYS_ADMIN` stands for it, it has to be had by itself before that goes.
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        if let Ok(have) = caps::read(None, set) {
            let left: CapsHashSet = have.intersection(&kept).copied().collect();
            let whole = !have.contains(&Capability::CAP_SYS_ADMIN)
                || left.contains(&Capability::CAP_SYS_ADMIN)
                || left.contains(&Capability::CAP_BPF);
            if whole {
                let _ = caps::set(None, set, &left);
            }
        }
    }
}
