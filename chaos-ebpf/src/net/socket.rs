//! Who owns a socket, so that a packet can be tied to a process.
//!
//! A socket's storage holds the classes of its owner, and which network namespace it is in. It is written when
//! a target creates the socket, connects or accepts it, inherited by accepted sockets,
//! and filled by user space for sockets that existed before or came from another process.
//!
//! A packet of MPTCP carries the socket of a subflow, which the kernel makes itself. The process has
//! the connection's socket, so that one's storage counts. It is copied to the subflow's: from the
//! subflow that listens it is inherited by connections that fall back to TCP.
//!
//! Kernel interface: `cgroup/sock_create` (4.10; socket storage in it 5.11); `bpf_get_netns_cookie` (5.7);
//! `bpf_get_listener_sock` (5.1) for a SYN,ACK, which carries a request socket;
//! `bpf_skc_to_mptcp_sock` (5.19).

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::Global;
use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock,
};
use aya_ebpf::helpers::generated::{
    bpf_get_listener_sock, bpf_get_netns_cookie, bpf_sk_fullsock, bpf_sk_storage_get,
    bpf_skc_to_mptcp_sock,
};
use aya_ebpf::macros::{btf_map, cgroup_sock};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use chaos_common::control;
use chaos_common::target::Socket;
use chaos_ebpf::maps::control as slot;
use chaos_ebpf::target;

const PROCEED: i32 = 1;

/// 1: the kernel has MPTCP and the helper for it. With 0 the verifier removes the calls.
#[unsafe(no_mangle)]
static MPTCP: Global<u32> = Global::new(0);

/// Socket → what is known of it.
#[btf_map]
static SOCKETS: SocketStorage = SocketStorage::new();

/// Socket storage that accepted sockets inherit from their listener.
///
/// aya's `SkStorage` cannot have `BPF_F_CLONE`; the layout is the BTF map
/// definition that loaders read, never data.
#[repr(C)]
struct SocketStorage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Socket,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers are placeholders that nobody follows.
unsafe impl Sync for SocketStorage {}

impl SocketStorage {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    #[inline(always)]
    fn get(&self, socket: *mut bpf_sock, flags: u32) -> Option<*mut Socket> {
        // SAFETY: the verifier checks that `socket` is one; it may be null only
        // where the caller has tested it.
        let value = unsafe {
            bpf_sk_storage_get(
                ptr::from_ref(self).cast_mut().cast::<c_void>(),
                socket.cast(),
                ptr::null_mut(),
                u64::from(flags),
            )
        };
        (!value.is_null()).then_some(value.cast())
    }
}

#[cgroup_sock(sock_create)]
pub(crate) fn murphy_socket(ctx: SockContext) -> i32 {
    let classes = target::of_task(slot(control::DIMS));
    if classes != 0 {
        own(ctx.sock, ctx.sock.cast(), classes);
    }
    PROCEED
}

/// The task that connects or accepts a socket owns it, not the one that created it. It is of these classes.
#[inline(always)]
pub(crate) fn own_by_task(ctx: &SockAddrContext, classes: u64) {
    if classes == 0 {
        return;
    }
    // SAFETY: the context is valid for the program's whole run.
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if !socket.is_null() {
        own(connection(socket), ctx.sock_addr.cast(), classes);
    }
}

/// The socket that the process has: of a subflow of MPTCP that of the connection, else the same.
#[inline(always)]
pub(crate) fn connection(socket: *mut bpf_sock) -> *mut bpf_sock {
    let connection = mptcp(socket);
    if connection.is_null() {
        socket
    } else {
        connection
    }
}

/// The connection of a subflow of MPTCP, or null.
#[inline(always)]
fn mptcp(socket: *mut bpf_sock) -> *mut bpf_sock {
    if MPTCP.load() == 0 {
        return ptr::null_mut();
    }
    // SAFETY: callers have tested it for null; the verifier checks that it is a socket.
    unsafe { bpf_skc_to_mptcp_sock(socket.cast()).cast() }
}

/// `context` is the program's, of whatever kind.
#[inline(always)]
fn own(socket: *mut bpf_sock, context: *mut c_void, classes: u64) {
    if let Some(value) = SOCKETS.get(socket, BPF_SK_STORAGE_GET_F_CREATE) {
        // SAFETY: the helper takes the context of programs of both kinds; live storage of this socket, the stores are
        // u64s. Whoever sees the classes sees the namespace: it is written first, and never another.
        unsafe {
            (&raw mut (*value).network).write_volatile(bpf_get_netns_cookie(context));
            (&raw mut (*value).classes).write_volatile(classes);
        }
    }
}

/// Classes of the owner of a packet's socket. Packets without one — of
/// the kernel's own, TIME_WAIT, some resets — have none.
#[inline(always)]
pub(crate) fn classes_of(skb: *mut __sk_buff) -> u64 {
    let socket = of(skb);
    if socket.is_null() {
        return 0;
    }
    classes(socket)
}

/// The cookie of the network namespace that the owned socket of a packet is in; 0 where the packet comes without one.
#[inline(always)]
pub(crate) fn network_of(skb: *mut __sk_buff) -> u64 {
    let socket = of(skb);
    if socket.is_null() {
        return 0;
    }
    network(socket)
}

/// The full socket that a packet comes with, or null. That of a half-open connection is the one that
/// listens.
#[inline(always)]
fn of(skb: *mut __sk_buff) -> *mut bpf_sock {
    // SAFETY: the context is valid for the program's whole run.
    let socket = unsafe { (*skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return socket;
    }
    // SAFETY: tested for null.
    unsafe {
        let full = bpf_sk_fullsock(socket);
        if full.is_null() {
            bpf_get_listener_sock(socket)
        } else {
            full
        }
    }
}

/// Classes of the owner of a socket, which is a full one.
#[inline(always)]
pub(crate) fn classes(socket: *mut bpf_sock) -> u64 {
    // SAFETY: live storage of this socket.
    known(socket).map_or(0, |value| unsafe {
        (&raw const (*value).classes).read_volatile()
    })
}

/// The cookie of the network namespace of a full socket that has an owner.
#[inline(always)]
pub(crate) fn network(socket: *mut bpf_sock) -> u64 {
    // SAFETY: as above.
    known(socket).map_or(0, |value| unsafe {
        (&raw const (*value).network).read_volatile()
    })
}

/// The storage that says who owns a full socket.
#[inline(always)]
fn known(socket: *mut bpf_sock) -> Option<*mut Socket> {
    let connection = mptcp(socket);
    if !connection.is_null()
        && let Some(value) = SOCKETS.get(connection, 0)
    {
        if let Some(copy) = SOCKETS.get(socket, BPF_SK_STORAGE_GET_F_CREATE) {
            // SAFETY: live storage of both sockets, in the order of `own`.
            unsafe {
                let (from, to) = (value.cast_const(), copy);
                (&raw mut (*to).network)
                    .write_volatile((&raw const (*from).network).read_volatile());
                (&raw mut (*to).classes)
                    .write_volatile((&raw const (*from).classes).read_volatile());
            }
        }
        return Some(value);
    }
    SOCKETS.get(socket, 0)
}
