//! TCP connections that processes have, and ending one at both ends: what `ss -K` does.
//!
//! Kernel interface: `SOCK_DESTROY` of `sock_diag` (`linux/sock_diag.h`, `linux/inet_diag.h`; 4.5, with
//! `CONFIG_INET_DIAG_DESTROY`): the owner's calls fail with ECONNABORTED, the peer gets an RST. A socket is named by its ends
//! and its cookie, which no other socket ever has: whoever gets the same ends meanwhile is not touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as Address};
use rustix::net::ipproto;
use rustix::net::sockopt::{socket_cookie, socket_protocol};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::KernelError;
use super::error::NoDestroy;
use super::sockets::socket_descriptors;
use murphy_sys::process::Process;

/// Gives the network namespace of a socket (`linux/sockios.h`; 4.9).
const SIOCGSKNS: libc::c_ulong = 0x894c;
/// `SO_BINDTOIFINDEX` (`asm-generic/socket.h`; 5.0).
const SO_BINDTOIFINDEX: libc::c_int = 62;
/// `SOCK_DESTROY`
const DESTROY: u16 = 21;
/// `NLM_F_REQUEST` and `NLM_F_ACK`.
const FLAGS: u16 = 1 | 4;
/// `NLMSG_ERROR`: what an acknowledgement is.
const ERROR: u16 = 2;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;

/// A TCP connection of a process, both ends of it known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// What tells its socket from all others.
    pub cookie: u64,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The interface that it is bound to; 0: none.
    pub interface: u32,
    /// The number of its network namespace.
    pub namespace: u64,
}

/// Finds connections of processes, and ends them.
#[derive(Debug)]
pub struct Connections {
    /// This process's network namespace.
    own: u64,
    /// A socket to ask by, in each network namespace in which there is a connection.
    askers: BTreeMap<u64, Socket>,
}

/// Whether this kernel ends connections that it is told to.
///
/// # Errors
///
/// [`KernelError::NoDestroy`]: it does not.
pub fn check() -> Result<(), KernelError> {
    Connections::new().map(drop)
}

impl Connections {
    /// Tries it, with a socket of our own.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoDestroy`]: this kernel does not end connections.
    pub fn new() -> Result<Self, KernelError> {
        let doing = "asking the kernel's sock_diag";
        let own = own_namespace().map_err(KernelError::io(doing))?;
        let asker = asker().map_err(KernelError::io(doing))?;
        let connections = Self {
            own,
            askers: BTreeMap::from([(own, asker)]),
        };
        // Where even the loopback interface is down there is no socket to try it with.
        let Ok(listener) = TcpListener::bind("127.0.0.1:0") else {
            return Ok(connections);
        };
        let local = listener.local_addr().map_err(KernelError::io(doing))?;
        let nobody = Connection {
            cookie: cookie(&listener).map_err(KernelError::io(doing))?,
            local,
            remote: "0.0.0.0:0".parse().unwrap_or(local),
            interface: 0,
            namespace: own,
        };
        match connections.end(&nobody) {
            Ok(()) => Ok(connections),
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => KernelError::NoDestroy(NoDestroy::Destroy),
                Some(libc::ENOENT) => KernelError::NoDestroy(NoDestroy::Diag),
                _ => KernelError::io("ending a socket by sock_diag")(error),
            }),
        }
    }

    /// The connections that a process has now.
    ///
    /// # Errors
    ///
    /// The process or a network namespace cannot be looked into.
    pub fn of(&mut self, process: &Process) -> Result<Vec<Connection>, KernelError> {
        let tgid = process.id();
        let mut found = Vec::new();
        for number in socket_descriptors(process) {
            // A descriptor may be gone by now, or be no connection.
            let Some(socket) = process.duplicate_fd(number).ok().and_then(connected) else {
                continue;
            };
            match self.look(&socket) {
                Ok(connection) => found.push(connection),
                // It is over by now.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) => {
                    let doing = format!("looking at a connection of process {tgid}");
                    return Err(KernelError::io(doing)(error));
                }
            }
        }
        Ok(found)
    }

    fn look(&mut self, socket: &TcpStream) -> io::Result<Connection> {
        let (namespace, file) = namespace(socket, self.own)?;
        if let Some(file) = file
            && !self.askers.contains_key(&namespace)
        {
            self.askers.insert(namespace, inside(&file, asker)?);
        }
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Ok(Connection {
            cookie: cookie(socket)?,
            local: plain(socket.local_addr()?),
            remote: plain(socket.peer_addr()?),
            interface: interface(socket)?,
            namespace,
        })
    }

    /// Ends a connection at both ends.
    ///
    /// # Errors
    ///
    /// The kernel's answer; `ENOENT` where it is over already.
    pub fn end(&self, connection: &Connection) -> io::Result<()> {
        let asker = self
            .askers
            .get(&connection.namespace)
            .ok_or(io::ErrorKind::NotFound)?;
        asker.send(&request(connection), 0)?;
        let mut answer = Vec::with_capacity(4096);
        asker.recv(&mut answer, 0)?;
        acknowledged(&answer)
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(connection: &Connection) -> Vec<u8> {
    let (mut local, mut remote) = ([0; 16], [0; 16]);
    let family = match (connection.local.ip(), connection.remote.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            local[..4].copy_from_slice(&from.octets());
            remote[..4].copy_from_slice(&to.octets());
            libc::AF_INET
        }
        (from, to) => {
            let bytes = |address: IpAddr| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            (local, remote) = (bytes(from), bytes(to));
            libc::AF_INET6
        }
    };
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    let length = (HEADER + REQUEST) as u32;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(DESTROY.to_ne_bytes());
    bytes.extend(FLAGS.to_ne_bytes());
    // Sequence number and port of the sender.
    bytes.extend([0; 8]);
    // Family, protocol, extensions, padding; both are small numbers.
    bytes.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    // Whatever state it is in.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(connection.local.port().to_be_bytes());
    bytes.extend(connection.remote.port().to_be_bytes());
    bytes.extend(local);
    bytes.extend(remote);
    bytes.extend(connection.interface.to_ne_bytes());
    // The lower half, then the upper.
    for half in [connection.cookie, connection.cookie >> 32] {
        bytes.extend((half as u32).to_ne_bytes());
    }
    bytes
}

/// Reads a `struct nlmsgerr`: 0, or a negative errno.
fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok());
    let code = answer.get(HEADER..).and_then(|rest| rest.first_chunk());
    match (
        kind.map(u16::from_ne_bytes),
        code.copied().map(i32::from_ne_bytes),
    ) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A socket of `sock_diag`, in the calling thread's network namespace for good.
fn asker() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&Address::new(0, 0))?;
    Ok(socket)
}

/// The socket as a stream if it is a TCP connection.
fn connected(socket: OwnedFd) -> Option<TcpStream> {
    let protocol = socket_protocol(&socket).ok()?;
    // Those of other families have numbers of their own, and no such addresses.
    let stream = (protocol == Some(ipproto::TCP)).then(|| TcpStream::from(socket))?;
    stream.peer_addr().ok()?;
    Some(stream)
}

fn cookie(socket: &impl std::os::fd::AsFd) -> io::Result<u64> {
    Ok(socket_cookie(socket)?)
}

/// The number of the interface that a socket is bound to, as those of link-local addresses are.
fn interface(socket: &TcpStream) -> io::Result<u32> {
    let mut index: libc::c_int = 0;
    let mut length = size_of_val(&index) as libc::socklen_t;
    // SAFETY: both pointers are to integers that live until the call is over; the length is that of the first.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_BINDTOIFINDEX,
            (&raw mut index).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(index.cast_unsigned()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of a socket's network namespace, and the namespace itself unless it is this process's own.
fn namespace(socket: &TcpStream, own: u64) -> io::Result<(u64, Option<File>)> {
    // SAFETY: the request takes no argument and gives a descriptor; that of the socket is open.
    let number = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let number = file.metadata()?.ino();
    Ok((number, (number != own).then_some(file)))
}

fn own_namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// Does something inside a network namespace, by a thread of its own.
fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)?;
            work()
        })?;
        thread
            .join()
            .map_err(|_| io::Error::other("a thread in another network namespace panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(local: &str, remote: &str) -> Vec<u8> {
        request(&Connection {
            cookie: 0x1122_3344_5566_7788,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            interface: 7,
            namespace: 0,
        })
    }

    #[test]
    fn a_request_names_both_ends_and_the_socket() {
        let four = between("10.0.0.1:258", "10.0.0.2:80");
        assert_eq!(four.len(), HEADER + REQUEST);
        assert_eq!(four[..4], 72_u32.to_ne_bytes());
        assert_eq!(four[HEADER..HEADER + 2], [2, 6]);
        assert_eq!(four[24..28], [1, 2, 0, 80]);
        assert_eq!(four[28..34], [10, 0, 0, 1, 0, 0]);
        assert_eq!(four[44..48], [10, 0, 0, 2]);
        assert_eq!(four[60..64], 7_u32.to_ne_bytes());
        assert_eq!(four[64..68], 0x5566_7788_u32.to_ne_bytes());
        assert_eq!(four[68..], 0x1122_3344_u32.to_ne_bytes());
        let six = between("[::1]:1", "[fd00::2]:80");
        assert_eq!((six[HEADER], six[43], six[44], six[59]), (10, 1, 0xfd, 2));
    }

    #[test]
    fn an_acknowledgement_is_an_error_of_zero() {
        let answer = |code: i32| {
            let mut bytes = vec![0; HEADER];
            bytes[4..6].copy_from_slice(&ERROR.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert!(acknowledged(&answer(0)).is_ok());
        let gone = acknowledged(&answer(-libc::ENOENT)).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
        assert!(acknowledged(&[0; 4]).is_err());
    }
}
