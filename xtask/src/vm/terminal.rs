//! A person's terminal joined to the guest's.

use std::{
    io::{IsTerminal as _, Read as _, Write as _, stdin, stdout},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use anyhow::Result;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal's settings from before, restored when this goes.
pub(crate) struct Raw(Option<Termios>);

impl Raw {
    /// Every key goes to the guest, Ctrl-C too.
    pub(crate) fn enter() -> Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // There is no terminal left to mend if this fails.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Rows and columns.
pub(crate) fn size() -> (u16, u16) {
    tcgetwinsize(stdout()).map_or((24, 80), |s| match (s.ws_row, s.ws_col) {
        (0, _) | (_, 0) => (24, 80),
        size => size,
    })
}

/// Carries bytes both ways until the guest closes.
pub(crate) fn join(stream: UnixStream) -> Result<()> {
    let mut to_guest = stream.try_clone()?;
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stdin().read(&mut buffer) {
            if to_guest.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
        // End of input for the shell; the write fails only if the guest is gone.
        let _ = to_guest.write_all(b"\x04");
    });
    let mut from_guest = stream;
    let mut buffer = [0; 4096];
    let mut out = stdout();
    while let Ok(n @ 1..) = from_guest.read(&mut buffer) {
        out.write_all(&buffer[..n])?;
        out.flush()?;
    }
    from_guest.shutdown(Shutdown::Both).ok();
    Ok(())
}
