//! Sockets cannot be made, bound, listened to, or talked through.
//!
//! Kernel interface: BPF LSM hooks (5.7, `CONFIG_SECURITY_NETWORK`), called before the protocol is asked. `read`, `write` and `sendfile` on
//! a socket call those of messages too: the system call is checked.

hooks! {
    /// `socket_create(int family, int type, int protocol, int kern)`; `socketpair` and the kernel's own sockets call it too.
    murphy_mksock at "socket_create" = Socket, Nothing;
    /// `socket_socketpair(struct socket *socka, struct socket *sockb)`
    murphy_sockpr at "socket_socketpair" = Socketpair, Nothing;
    /// `socket_bind(struct socket *sock, struct sockaddr *address, int addrlen)`
    murphy_bind at "socket_bind" = Bind, Socket;
    /// `socket_listen(struct socket *sock, int backlog)`
    murphy_listen at "socket_listen" = Listen, Socket;
    /// `socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)`, the address copied from the caller by then.
    murphy_conlsm at "socket_connect" = Connect, Address(1);
    /// `socket_accept(struct socket *sock, struct socket *newsock)`, before a connection is waited for.
    murphy_sockacc at "socket_accept" = Accept, Socket;
    /// `socket_sendmsg(struct socket *sock, struct msghdr *msg, int size)`
    murphy_send at "socket_sendmsg" = Send, Socket;
    /// `socket_recvmsg(struct socket *sock, struct msghdr *msg, int size, int flags)`, before data is waited for.
    murphy_recv at "socket_recvmsg" = Receive, Socket;
    /// `socket_setsockopt(struct socket *sock, int level, int optname)`
    murphy_setopt at "socket_setsockopt" = Setsockopt, Socket;
    /// `socket_getsockopt(struct socket *sock, int level, int optname)`
    murphy_getopt at "socket_getsockopt" = Getsockopt, Socket;
    /// `socket_shutdown(struct socket *sock, int how)`
    murphy_shutdwn at "socket_shutdown" = Shutdown, Socket;
    /// `socket_getsockname(struct socket *sock)`
    murphy_sockname at "socket_getsockname" = Getsockname, Socket;
    /// `socket_getpeername(struct socket *sock)`
    murphy_peername at "socket_getpeername" = Getpeername, Socket;
}
