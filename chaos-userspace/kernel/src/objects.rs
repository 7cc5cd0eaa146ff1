//! The kernel objects.

use murphy_fault::Family;

/// The ELF object that serves a family of hooks.
pub(super) fn object(family: Family) -> &'static [u8] {
    match family {
        Family::Net => murphy_objects::NET,
        Family::Lsm => murphy_objects::LSM,
        Family::Kprobe => murphy_objects::KPROBE,
        Family::Trace => murphy_objects::TRACE,
        Family::Uprobe => murphy_objects::UPROBE,
    }
}
