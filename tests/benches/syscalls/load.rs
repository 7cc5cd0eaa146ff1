//! The load that is measured. It times itself, so that what starts it is not in the figures.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// A load runs at least so long, so that its figure is worth something, and as many calls as that takes.
const AT_LEAST: Duration = Duration::from_millis(300);
/// Calls between two looks at the clock.
const BATCH: u32 = 64;

/// Does what it is told and prints figures, separated by blanks.
pub(crate) fn work(words: &[&str]) -> Result<()> {
    match words {
        ["write"] => timed(&null(libc::O_WRONLY)?, |null| {
            // SAFETY: one byte of a live buffer.
            unsafe { libc::write(*null, c"x".as_ptr().cast(), 1) }
        }),
        ["openat"] => timed(&(), |()| {
            // SAFETY: a string that ends, and a descriptor of ours, if it is one.
            unsafe {
                let file = libc::openat(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_WRONLY);
                libc::close(file);
                file as isize
            }
        }),
        // SAFETY: it takes nothing and cannot fail.
        ["getppid", threads, calls, micros] => late(threads, calls, micros, |_| unsafe {
            libc::getppid();
        }),
        ["nanosleep", threads, calls, micros] => late(threads, calls, micros, thread::sleep),
        _ => bail!("no such load: {words:?}"),
    }
}

fn null(flags: i32) -> Result<i32> {
    // SAFETY: a string that ends.
    let file = unsafe { libc::open(c"/dev/null".as_ptr(), flags) };
    ensure!(file >= 0, "/dev/null: {}", io::Error::last_os_error());
    Ok(file)
}

/// Prints ns a call, and how many of a million failed.
fn timed<T>(of: &T, call: impl Fn(&T) -> isize) -> Result<()> {
    let begun = Instant::now();
    let (mut calls, mut failed) = (0_u64, 0_u64);
    while begun.elapsed() < AT_LEAST {
        for _ in 0..BATCH {
            failed += u64::from(call(of) < 0);
        }
        calls += u64::from(BATCH);
    }
    let each = begun.elapsed().as_nanos() as f64 / calls as f64;
    println!("{each} {}", failed * 1_000_000 / calls);
    Ok(())
}

/// Prints by how many µs each call of each thread took longer than it should.
fn late(threads: &str, calls: &str, micros: &str, call: fn(Duration)) -> Result<()> {
    let calls: u32 = calls.parse()?;
    let wanted = Duration::from_micros(micros.parse()?);
    let one = move || -> Vec<f64> {
        let once = |_| {
            let begun = Instant::now();
            call(wanted);
            begun.elapsed().as_secs_f64() * 1e6 - wanted.as_secs_f64() * 1e6
        };
        (0..calls).map(once).collect()
    };
    let running: Vec<_> = (0..threads.parse::<u32>()?)
        .map(|_| thread::spawn(one))
        .collect();
    for thread in running {
        let times = thread.join().ok().context("a thread panicked")?;
        for time in times {
            print!("{time} ");
        }
    }
    println!();
    Ok(())
}
