//! The load that is measured: a child that does one operation so often as it is told.

use std::io::{BufRead as _, BufReader, Write as _, stdin, stdout};
use std::net::UdpSocket;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

/// A child that waits to be told.
pub(crate) struct Load {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it said first: the port of `udp`, else 0.
    pub(crate) port: u16,
}

impl Load {
    /// Starts one: `udp`, `connect`, `socket`, `write` or `wait`; with so many children of its own that wait.
    pub(crate) fn start(what: &str, children: usize) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["load", what, &children.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipes");
        };
        let mut load = Self {
            child,
            orders,
            answers: BufReader::new(answers),
            port: 0,
        };
        load.port = load.answer()? as u16;
        Ok(load)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Lets it do its operation so often; gives ns each.
    pub(crate) fn run(&mut self, count: u32) -> Result<f64> {
        writeln!(self.orders, "{count}")?;
        Ok(self.answer()? as f64 / f64::from(count))
    }

    fn answer(&mut self) -> Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim()
            .parse()
            .with_context(|| format!("the load said {line:?}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Its children go with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child itself.
pub(crate) fn work(words: &[&str]) -> Result<()> {
    let [what, children] = words else {
        bail!("what, and how many children");
    };
    let mut port = 0;
    let mut operation: Box<dyn FnMut() -> std::io::Result<()>> = match *what {
        "udp" => {
            // To itself; nobody reads, so the receiving side only drops once its buffer is full.
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let to = socket.local_addr()?;
            port = to.port();
            socket.connect(to)?;
            Box::new(move || socket.send(b"x").map(drop))
        }
        "socket" => Box::new(|| UdpSocket::bind("127.0.0.1:0").map(drop)),
        "connect" => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            // A refused one is no error here: it is what is measured.
            Box::new(move || {
                let _ = socket.connect("127.0.0.1:9");
                Ok(())
            })
        }
        "write" => {
            let mut file = std::fs::File::create("/dev/null")?;
            Box::new(move || file.write(b"x").map(drop))
        }
        "wait" => Box::new(|| Ok(())),
        _ => bail!("no load {what}"),
    };
    for _ in 0..children.parse::<usize>()? {
        fork_sleeper()?;
    }
    println!("{port}");
    for line in stdin().lines() {
        let count: u32 = line?.parse()?;
        let begun = Instant::now();
        for _ in 0..count {
            operation()?;
        }
        println!("{}", begun.elapsed().as_nanos());
        stdout().flush()?;
    }
    Ok(())
}

/// A child that does nothing until this process ends.
fn fork_sleeper() -> Result<()> {
    // SAFETY: there is one thread; the child calls nothing but prctl, pause and _exit.
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: as above.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::pause();
            libc::_exit(0);
        }
    }
    Ok(())
}
