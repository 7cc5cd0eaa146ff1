//! `PostgreSQL`, and psql as the application.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{Finished, Outcome, postgres::Postgres, victim};

use super::scene::{Apps, experiment, play};

struct Store {
    postgres: Postgres,
    app: PathBuf,
    port: String,
    apps: Apps,
}

impl Store {
    fn open() -> Result<Self> {
        let (postgres, apps) = (Postgres::start()?, Apps::new()?);
        Ok(Self {
            app: apps.copy(postgres.program("psql"))?,
            port: postgres.port().to_string(),
            postgres,
            apps,
        })
    }

    fn variables(&self) -> [(&'static str, &str); 2] {
        [("POSTGRES_PORT", &self.port), ("FAULT_SHARE", "100%")]
    }

    fn app(&self) -> Result<Finished> {
        let app = self.postgres.client(&self.app);
        app.env("PGCONNECT_TIMEOUT", "2")
            .args(["-XAtqc", "select 40+2"])
            .run()
    }

    fn works(&self) -> Outcome {
        answered(&self.app()?)
    }

    fn neighbour(&self) -> Outcome {
        answered(&self.postgres.sql("select 40+2")?).context("the neighbour")
    }
}

fn answered(done: &Finished) -> Outcome {
    ensure!(done.stdout.trim() == "42", "{done}");
    Ok(())
}

pub(crate) fn refused() -> Outcome {
    let store = Store::open()?;
    let injected = play(
        experiment!("postgres/connection-failure"),
        &store.app,
        &store.variables(),
        || store.works(),
        || {
            let done = store.app()?;
            ensure!(
                done.code == Some(2) && done.stderr.contains("Connection refused"),
                "{done}"
            );
            // The fault is on the port: the Unix socket is another way in.
            answered(&store.postgres.local(&store.app, "select 40+2")?)?;
            store.neighbour()
        },
    )?;
    ensure!(injected == 1, "one connection, refused {injected} times");
    Ok(())
}

pub(crate) fn partition() -> Outcome {
    let store = Store::open()?;
    play(
        experiment!("postgres/partition"),
        &store.app,
        &store.variables(),
        || store.works(),
        || {
            let done = store.app()?;
            ensure!(
                done.code == Some(2) && done.stderr.contains("timeout expired"),
                "{done}"
            );
            store.neighbour()
        },
    )?;
    Ok(())
}

pub(crate) fn pool() -> Outcome {
    let store = Store::open()?;
    let app = store.apps.copy(victim::self_path())?;
    let address = format!("127.0.0.1:{}", store.port);
    let connect = |who, n| {
        tests::Program::args(tests::program(who), victim::words(["connect", &address, n])).run()
    };
    let mut seen = 0;
    let injected = play(
        experiment!("postgres/pool-exhaustion"),
        &app,
        &[("POSTGRES_PORT", &store.port)],
        || {
            let done = connect(&app, "1")?;
            ensure!(victim::seen(&done.stdout, "ok") == 1, "{done}");
            store.works()
        },
        || {
            // 30 % of 100, and five standard deviations.
            let done = connect(&app, "100")?;
            seen = victim::seen(&done.stdout, "ECONNREFUSED");
            ensure!((8..=52).contains(&seen), "{seen} refused: {done}");
            ensure!(victim::seen(&done.stdout, "ok") == 100 - seen, "{done}");
            store.neighbour()
        },
    )?;
    ensure!(injected == seen, "counted {injected}, seen {seen}");
    Ok(())
}

/// A connection that is there already is slow: what a pool's clients see.
pub(crate) fn slow_query() -> Outcome {
    let store = Store::open()?;
    let go = store.apps.path().join("go");
    let wait = format!("\\! until [ -e '{}' ]; do sleep 0.1; done", go.display());
    let session = store
        .postgres
        .client(&store.app)
        .args(["-XAtq", "-c", "select 40+2", "-c", &wait])
        .args(["-c", "\\timing on", "-c", "select 'late'"])
        .spawn()?;
    tests::wait_until(Duration::from_secs(60), || {
        session.stdout().is_ok_and(|said| said.contains("42"))
    })
    .context("the session began")?;
    let mut session = Some(session);
    play(
        experiment!("postgres/slow-query"),
        &store.app,
        &store.variables(),
        || store.works(),
        || {
            fs::write(&go, "")?;
            let done = session
                .take()
                .context("once")?
                .finish(Duration::from_secs(20))?;
            // Time: 3012.345 ms
            let took = done.stdout.split("Time: ").nth(1);
            let took = took.and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
            ensure!(
                done.stdout.contains("late") && took.is_some_and(|ms| ms >= 2500),
                "{done}"
            );
            store.neighbour()
        },
    )?;
    Ok(())
}

/// A full disk under the server: it panics rather than to lie, and has everything that it promised.
pub(crate) fn disk() -> Outcome {
    let mut store = Store::open()?;
    let made = store
        .postgres
        .sql("create table t as select 7 as promised")?;
    ensure!(made.code == Some(0), "{made}");
    let server = fs::canonicalize(store.postgres.program("postgres"))?;
    let injected = play(
        experiment!("storage/disk-full"),
        &server,
        &[],
        || Ok(()),
        || {
            let done = store.postgres.sql("insert into t values (8)")?;
            ensure!(done.code != Some(0), "a promise: {done}");
            Ok(())
        },
    )?;
    store.postgres.restart()?;
    let there = store.postgres.sql("select promised from t")?;
    ensure!(there.stdout.trim() == "7", "{there}");
    let more = store
        .postgres
        .sql("insert into t values (9) returning promised")?;
    ensure!(more.stdout.trim() == "9", "{more}");
    ensure!(injected > 0);
    Ok(())
}
