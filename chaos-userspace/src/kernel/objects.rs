//! The kernel objects, embedded.

use crate::faults::Family;

macro_rules! object {
    ($name:literal) => {
        aya::include_bytes_aligned!(concat!("../../../chaos-ebpf/objects/", $name, ".o"))
    };
}

/// The ELF object that serves a family of hooks.
pub(super) fn object(family: Family) -> &'static [u8] {
    match family {
        Family::Net => object!("net"),
        Family::Lsm => object!("lsm"),
        Family::Kprobe => object!("kprobe"),
        Family::Trace => object!("trace"),
        Family::Uprobe => object!("uprobe"),
    }
}
