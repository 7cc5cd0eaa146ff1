//! Delays system calls by keeping the processor busy: a kprobe on the call's function loops until the
//! time is up (`bpf_loop`, Linux 5.17). It is the last choice for delays.
//!
//! Everything it makes ends with its programs' descriptors.

use super::{Context, Mechanism, Result, Site, attach_everywhere};
use murphy_fault::plan::Hook;

/// The mechanism.
pub(super) struct Spin;

impl Mechanism for Spin {
    fn attach(&mut self, cx: &mut Context<'_>, site: &Site<'_>) -> Result<()> {
        attach_everywhere(cx, site, |hook| matches!(hook, Hook::Spin(_)))
    }
}
