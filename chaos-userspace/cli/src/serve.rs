//! `murphy serve`: the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use nix::sys::signal::Signal;

use super::failure::Failure;
use super::output::tell;
use super::runtime;
use super::signals::Signals;
use murphy_serve::{Settings, serve as run};
use murphy_state::StateDir;

/// The socket's name in the folder of records. Not `.sock`: those are injectors'.
const SOCKET: &str = "api.socket";

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Listen at this Unix socket [default: api.socket in murphy's folder, /run/murphy for root]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Let members of this group ask, beside root and the daemon's user: a name or a number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Listen at this TCP address too, for those who send the token
    #[arg(long, value_name = "ADDRESS:PORT", requires = "token_file")]
    tcp: Option<SocketAddr>,
    /// The file with the token of TCP clients, readable by its owner alone
    #[arg(long, value_name = "FILE", requires = "tcp")]
    token_file: Option<PathBuf>,
}

/// Serves until a signal ends it; then everything is reverted.
pub(super) fn serve(args: &ServeArgs) -> Result<u8, Failure> {
    let group = args.group.as_deref().map(group_id).transpose()?;
    // The folder is made here, so that the socket has a place.
    let folder = StateDir::own()?;
    let settings = Settings {
        socket: args
            .socket
            .clone()
            .unwrap_or_else(|| folder.path().join(SOCKET)),
        group,
        tcp: args.tcp.zip(args.token_file.clone()),
        program: std::env::current_exe().map_err(Failure::io("finding murphy's own program"))?,
    };
    let at = settings.socket.display().to_string();
    if let Some((address, _)) = &settings.tcp
        && !address.ip().is_loopback()
    {
        tell(&format!(
            "murphy: {address} can be reached from elsewhere, and there is no TLS: who can listen on the way learns \
             the token, and with it injects as root"
        ));
        tell("  help: listen at 127.0.0.1, behind a proxy that has TLS");
    }
    runtime()?.block_on(async {
        let signals = Signals::catch().map_err(Failure::io("catching signals"))?;
        let stop = async move {
            while let Ok(arrived) = signals.next().await {
                if matches!(
                    arrived.signal,
                    Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT
                ) {
                    return;
                }
            }
        };
        run(settings, stop, || tell(&format!("murphy: serving at {at}"))).await?;
        Ok(0)
    })
}

/// The id of a group. getent(1) knows what the system's name service knows.
fn group_id(name: &str) -> Result<u32, Failure> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let said = Command::new("getent").args(["group", "--", name]).output();
    said.ok()
        .filter(|said| said.status.success())
        .and_then(|said| String::from_utf8(said.stdout).ok())
        .and_then(|line| line.split(':').nth(2)?.parse().ok())
        .ok_or_else(|| Failure::NoGroup(name.to_owned()))
}
