//! What is measured: traffic of one program with itself, over the loopback interface. It prints its figures, one a line.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

/// How long a receiver waits for what may still come.
const QUIET: Duration = Duration::from_millis(1500);

/// `latency N PAUSE_US`, `received N` or `bulk SECONDS`.
pub(crate) fn work(words: &[&str]) -> Result<()> {
    match words {
        ["latency", count, pause] => latency(count.parse()?, pause.parse()?),
        ["received", count] => received(count.parse()?),
        ["bulk", seconds] => bulk(seconds.parse()?),
        _ => bail!("no such load: {words:?}"),
    }
}

/// One way each: µs from `send` to when the datagram is there.
fn latency(count: u32, pause: u64) -> Result<()> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    receiver.set_read_timeout(Some(QUIET))?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    let epoch = Instant::now();
    let times = thread::spawn(move || {
        let mut times = Vec::new();
        let mut sent = [0; 8];
        while receiver.recv(&mut sent).is_ok() {
            let now = epoch.elapsed().as_nanos() as u64;
            times.push(now - u64::from_ne_bytes(sent));
            if times.len() as u32 == count {
                break;
            }
        }
        times
    });
    for _ in 0..count {
        sender.send(&(epoch.elapsed().as_nanos() as u64).to_ne_bytes())?;
        thread::sleep(Duration::from_micros(pause));
    }
    for time in times.join().unwrap_or_default() {
        println!("{}", time as f64 / 1000.0);
    }
    Ok(())
}

/// Which of so many numbered datagrams arrive: a line of 1 and 0.
fn received(count: u32) -> Result<()> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    receiver.set_read_timeout(Some(QUIET))?;
    // A receiver that has to wait for a CPU must lose nothing that was not asked for.
    let room: libc::c_int = 64 << 20;
    // SAFETY: the kernel reads an `int`, and its size is right.
    let set = unsafe {
        libc::setsockopt(
            receiver.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const room).cast(),
            size_of_val(&room) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "SO_RCVBUFFORCE: {}", io::Error::last_os_error());
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    let arrived = thread::spawn(move || {
        let mut arrived = vec![b'0'; count as usize];
        let mut number = [0; 4];
        while receiver.recv(&mut number).is_ok() {
            if let Some(place) = arrived.get_mut(u32::from_ne_bytes(number) as usize) {
                *place = b'1';
            }
        }
        arrived
    });
    for number in 0..count {
        sender.send(&number.to_ne_bytes())?;
        if number % 50 == 49 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    println!(
        "{}",
        String::from_utf8_lossy(&arrived.join().unwrap_or_default())
    );
    Ok(())
}

/// Bytes a second over one TCP connection, once it is up to speed; then the segments sent again in that time, for each
/// thousand that were sent.
fn bulk(seconds: u64) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reader = thread::spawn(move || -> Result<(f64, f64)> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 1 << 16];
        let warm = Instant::now();
        while warm.elapsed() < Duration::from_secs(2) {
            let _ = stream.read(&mut buffer)?;
        }
        let before = segments()?;
        let (begun, mut bytes) = (Instant::now(), 0_u64);
        while begun.elapsed() < Duration::from_secs(seconds) {
            bytes += stream.read(&mut buffer)? as u64;
        }
        let after = segments()?;
        let (sent, again) = (after.0 - before.0, after.1 - before.1);
        let rate = bytes as f64 / begun.elapsed().as_secs_f64();
        Ok((rate, again * 1000.0 / sent.max(1.0)))
    });
    let mut stream = TcpStream::connect(address)?;
    let chunk = vec![b'x'; 1 << 16];
    // Until the reader has had enough and closes.
    while stream.write_all(&chunk).is_ok() {}
    match reader.join() {
        Ok(figures) => {
            let (rate, again) = figures?;
            println!("{rate}\n{again}");
            Ok(())
        }
        Err(_) => bail!("the reader panicked"),
    }
}

/// Segments that TCP has sent in this namespace, and sent again.
fn segments() -> Result<(f64, f64)> {
    let counter = |name| tests::net::counter("Tcp", name).map(|count| count as f64);
    Ok((counter("OutSegs")?, counter("RetransSegs")?))
}
