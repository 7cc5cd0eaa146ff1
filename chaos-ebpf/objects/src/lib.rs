//! The eBPF objects of murphy, built by `cargo xtask ebpf`. Building murphy needs no compiler for
//! them.

/// An object at an address from which ELF structures can be read.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

macro_rules! object {
    ($name:literal) => {{
        static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/",
            $name,
            ".o"
        )));
        &OBJECT.0
    }};
}

/// Programs at sockets, packets and cgroups.
pub static NET: &[u8] = object!("net");
/// Programs at hooks of Linux security modules.
pub static LSM: &[u8] = object!("lsm");
/// Programs at kernel functions.
pub static KPROBE: &[u8] = object!("kprobe");
/// Programs at tracepoints.
pub static TRACE: &[u8] = object!("trace");
/// Programs at functions of the target.
pub static UPROBE: &[u8] = object!("uprobe");
