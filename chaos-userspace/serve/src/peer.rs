//! Who asks, and whether they may.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixStream};

use super::places::{Listener, Places};

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Of the Unix socket, by the kernel's word.
    Local {
        /// User id.
        uid: u32,
        /// Group ids, the supplementary ones too.
        groups: Vec<u32>,
    },
    /// Of TCP; only a token says who.
    Remote(SocketAddr),
    /// The kernel did not say.
    Unknown,
}

impl Peer {
    /// The client in words, for records: the user by the kernel's word; over TCP only that it has the token.
    pub(super) fn who(&self) -> String {
        match self {
            Self::Local { uid, .. } => format!("user {uid} over the API"),
            Self::Remote(from) => format!("a holder of the token at {from} over the API"),
            Self::Unknown => "an unknown user over the API".to_owned(),
        }
    }
}

/// Who may ask.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// The daemon's user; root may too.
    pub(super) uid: u32,
    /// The group of the socket.
    pub(super) gid: u32,
    /// What a client of TCP has to know.
    pub(super) token: Option<Token>,
    /// The connections of TCP.
    pub(super) places: Arc<Places>,
}

/// A secret of the administrator's.
#[derive(Clone)]
pub(super) struct Token(Vec<u8>);

/// A shorter one can be guessed.
const SHORTEST: usize = 16;

/// What is longer is no token.
const LONGEST: u64 = 4096;

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Reads it from a file that nobody else can read.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let invalid = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        // A FIFO does not keep the daemon waiting.
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return invalid("it is no regular file".to_owned());
        }
        let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != own && owner != 0 {
            return invalid(format!(
                "it belongs to user {owner}, who knows it and can change it"
            ));
        }
        let mode = metadata.mode();
        if mode & 0o077 != 0 {
            return invalid(format!(
                "others can read it: its mode is {:o}, not 600",
                mode & 0o7777
            ));
        }
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        let token = text.trim_ascii();
        if token.len() < SHORTEST {
            return invalid(format!(
                "a token has at least {SHORTEST} characters, this has {}",
                token.len()
            ));
        }
        Ok(Self(token.to_vec()))
    }

    /// Compares in a time that does not tell how much of it was right.
    fn is(&self, said: &[u8]) -> bool {
        let mut differs = u8::from(self.0.len() != said.len());
        for (at, byte) in self.0.iter().enumerate() {
            differs |= byte ^ said.get(at).copied().unwrap_or(0);
        }
        std::hint::black_box(differs) == 0
    }
}

impl Access {
    /// Whether this one may ask; the error says why not.
    pub(super) fn check(&self, peer: &Peer, authorization: Option<&[u8]>) -> Result<(), String> {
        match peer {
            Peer::Local { uid, groups } => {
                if *uid == 0 || *uid == self.uid || groups.contains(&self.gid) {
                    Ok(())
                } else {
                    Err(format!(
                        "user {uid} is neither root, nor the daemon's user, nor in the socket's group {}",
                        self.gid
                    ))
                }
            }
            Peer::Remote(from) => {
                let said = authorization.and_then(bearer);
                match (&self.token, said) {
                    (Some(token), Some(said)) if token.is(said) => {
                        self.places.know(from);
                        Ok(())
                    }
                    _ => Err(format!(
                        "{from} did not send the token: Authorization: Bearer TOKEN"
                    )),
                }
            }
            Peer::Unknown => Err("the kernel does not say who you are".to_owned()),
        }
    }
}

/// The token of an `Authorization`. The scheme's name is written in any case (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        local(stream.io()).unwrap_or(Self::Unknown)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self::Remote(*stream.remote_addr())
    }
}

fn local(stream: &UnixStream) -> io::Result<Peer> {
    let peer = stream.peer_cred()?;
    let mut groups = groups(stream)?;
    groups.push(peer.gid());
    Ok(Peer::Local {
        uid: peer.uid(),
        groups,
    })
}

/// The supplementary groups of the peer when it connected (`SO_PEERGROUPS`, Linux 4.13).
fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX is 65 536; more than these few are rare, and the kernel says when there are.
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length =
            libc::socklen_t::try_from(groups.len() * size_of::<u32>()).map_err(io::Error::other)?;
        // SAFETY: the buffer is as long as `length` says, and aligned for the ids that the kernel writes.
        let done = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let wanted = length as usize / size_of::<u32>();
        if done == 0 {
            groups.truncate(wanted);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || wanted <= groups.len() {
            return Err(error);
        }
        groups.resize(wanted, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            uid: 100,
            gid: 200,
            token: Some(Token(b"0123456789abcdef".to_vec())),
            places: Arc::new(Places::new()),
        }
    }

    #[test]
    fn who_may() {
        let local = |uid, groups: &[u32]| {
            let groups = groups.to_vec();
            access().check(&Peer::Local { uid, groups }, None).is_ok()
        };
        assert!(local(0, &[]) && local(100, &[]) && local(7, &[1, 200]));
        assert!(!local(7, &[1, 100]));
        assert!(access().check(&Peer::Unknown, None).is_err());
    }

    #[test]
    fn tokens() {
        let from: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let remote = |said: Option<&[u8]>| access().check(&Peer::Remote(from), said).is_ok();
        assert!(remote(Some(b"Bearer 0123456789abcdef")));
        assert!(remote(Some(b"bearer 0123456789abcdef")));
        for wrong in [
            None,
            Some(&b"Bearer 0123456789abcdeX"[..]),
            Some(b"Bearer 0123456789abcde"),
            Some(b"Bearer 0123456789abcdef0"),
            Some(b"0123456789abcdef"),
            Some(b""),
        ] {
            assert!(!remote(wrong), "{wrong:?}");
        }
    }
}
