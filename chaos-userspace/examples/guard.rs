//! A test that refuses its own connections, asserts that it was hit, and goes on unharmed.
//!
//! As root, after `cargo build`: `cargo run --example guard`

use std::error::Error;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use murphy::Injection;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?;
    TcpStream::connect(address)?;

    let fault = format!("connect:error=ETIMEDOUT:port={}:times=1", address.port());
    let mut injection = Injection::new([fault]).this_process();
    if let Some(program) = murphy::beside_this_program() {
        injection = injection.program(program);
    }
    let guard = injection.start()?;

    let failed = TcpStream::connect(address).map(drop);
    assert_eq!(
        failed.map_err(|error| error.kind()),
        Err(ErrorKind::TimedOut)
    );
    TcpStream::connect(address)?; // times=1: the second one works
    let report = guard.stop()?;
    assert_eq!(
        (report.faults[0].matched, report.faults[0].injected),
        (2, 1)
    );

    TcpStream::connect(address)?;
    println!("hit once, and none the worse for it");
    Ok(())
}
