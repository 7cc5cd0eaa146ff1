//! `toxic-proxy LISTEN UPSTREAM [LATENCY_MS]`: a TCP proxy of Toxiproxy's kind, with one toxic or none, until it is killed.

use std::{env, error::Error, process::ExitCode};

use noxious::{
    proxy::{ProxyConfig, ProxyRunner, Runner, Toxics},
    signal::{Close, Stop},
    socket::TcpListener,
    toxic::{StreamDirection, Toxic, ToxicKind},
};

#[tokio::main]
async fn main() -> ExitCode {
    match serve(env::args().skip(1).collect()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toxic-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let (listen, upstream, latency) = match &words[..] {
        [listen, upstream] => (listen, upstream, None),
        [listen, upstream, latency] => (listen, upstream, Some(latency.parse()?)),
        _ => return Err("toxic-proxy LISTEN UPSTREAM [LATENCY_MS]".into()),
    };
    let config = ProxyConfig {
        name: "measured".to_owned(),
        listen: listen.clone(),
        upstream: upstream.clone(),
        enabled: true,
        rand_seed: None,
    };
    let mut toxics = Toxics::empty();
    toxics.downstream.extend(latency.map(|latency| Toxic {
        kind: ToxicKind::Latency { latency, jitter: 0 },
        name: "latency".to_owned(),
        toxicity: 1.0,
        direction: StreamDirection::Downstream,
    }));
    let (listener, proxy) = ProxyRunner::initialize_proxy::<TcpListener>(config, toxics).await?;
    // Nobody sends: toxics stay as they are, and nobody stops it.
    let (_events, received) = bmrng::channel(1);
    let (stop, _stopper) = Stop::new();
    let (_close, closer) = Close::new();
    ProxyRunner::run_proxy(listener, proxy, received, stop, closer).await?;
    Ok(())
}
