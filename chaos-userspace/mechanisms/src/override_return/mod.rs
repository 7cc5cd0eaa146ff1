//! Answers system calls in the kernel's place: a kprobe on the call's function overrides its return
//! value (`bpf_override_return`, Linux 4.16, a kernel with `CONFIG_BPF_KPROBE_OVERRIDE`).
//!
//! Everything it makes ends with its programs' descriptors.

use super::{Context, Mechanism, Result, Site, attach_everywhere};
use murphy_fault::plan::Hook;

/// The mechanism.
pub(super) struct OverrideReturn;

impl Mechanism for OverrideReturn {
    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        attach_everywhere(cx, site, |hook| matches!(hook, Hook::Override(_)))
    }
}
