//! Where mechanisms try their hooks: in a cgroup and a network namespace that murphy makes for
//! that.

use std::fs::File;

use nix::net::if_::if_nametoindex;

use murphy_fault::plan::Hook;
use murphy_kernel::clsact;
use murphy_kernel::{Kernel, KernelError, Place};

/// The only interface of the network namespace.
pub const LOOPBACK: &str = "lo";

/// The priority of a filter, in a namespace where there is no other.
pub(super) const PRIORITY: u16 = 1;

/// What a hook is tried with.
pub struct Bench<'b> {
    /// The programs, of which those of the hook are loaded.
    pub kernel: &'b mut Kernel,
    /// The cgroup of the child that is to meet them, or why there is none.
    pub cgroup: Result<&'b File, String>,
    /// Whether the thread is in a network namespace of its own, or why not.
    pub network: Result<(), String>,
    /// Ways in which the hook could be attached, where there are several.
    pub by: Vec<&'static str>,
}

impl Bench<'_> {
    /// Attaches a hook's programs for every task.
    pub(super) fn attach_everywhere(&mut self, hook: Hook) -> Result<(), String> {
        let attached = self.kernel.attach(hook, Place::Everywhere);
        attached.map_err(|error| error.to_string())
    }

    /// The number of the loopback interface, which then has a clsact qdisc.
    pub(super) fn loopback(&self) -> Result<u32, KernelError> {
        let index = if_nametoindex(LOOPBACK)
            .map_err(|error| KernelError::io("looking for the loopback interface")(error.into()))?;
        clsact::ensure(index).map_err(KernelError::io("adding a clsact qdisc"))?;
        Ok(index)
    }
}
