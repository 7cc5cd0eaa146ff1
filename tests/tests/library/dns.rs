//! Names: a dnsmasq, and dig as the application.

use anyhow::ensure;
use tests::{
    Outcome,
    dns::{A, Dns},
    program,
};

use super::scene::{Apps, experiment, play};

pub(crate) fn nxdomain() -> Outcome {
    let dns = Dns::start()?;
    let apps = Apps::new()?;
    let app = apps.copy("dig")?;
    let port = dns.address.port().to_string();
    let ask = |full: bool| {
        let mut words = dns.question("shop.example.com", "A");
        words.retain(|word| !full || word != "+short");
        program(&app).args(words).run()
    };
    let injected = play(
        experiment!("dns/nxdomain"),
        &app,
        &[("DNS_PORT", &port)],
        || {
            let done = ask(false)?;
            ensure!(done.stdout.trim() == A, "{done}");
            Ok(())
        },
        || {
            let done = ask(true)?;
            ensure!(done.stdout.contains("status: NXDOMAIN"), "{done}");
            let neighbour = dns.ask("shop.example.com")?;
            ensure!(neighbour.stdout.trim() == A, "the neighbour: {neighbour}");
            Ok(())
        },
    )?;
    ensure!(injected == 1, "one question, answered {injected} times");
    Ok(())
}
