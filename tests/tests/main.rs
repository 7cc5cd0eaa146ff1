//! The integration tests: one program, and a group of cases for each file of this folder.
//!
//! `cargo xtask test --file connect` runs a group. A new file is a module and a group here.

mod bounded;
mod calls;
mod connect;
mod convert;
mod delay;
mod dns;
mod doctor;
mod egress;
mod events;
mod experiment;
mod golden;
mod guard;
mod guardian;
mod harness;
mod hostile;
mod http;
mod ingress;
mod inject;
mod interface;
mod library;
mod lifecycle;
mod limit;
mod log;
mod memory;
mod names;
mod netem;
mod observe;
mod open;
mod r#override;
mod own_targets;
mod ownership;
mod paths;
mod policy;
mod privileges;
mod read_write;
mod refusals;
mod replace;
mod reset;
mod run;
mod safety;
mod serve;
mod spin;
mod suites;
mod syscall;
mod targets;
mod unreachable;
mod uprobe;
mod verifier;

/// Pairs each module's group with the module's name.
macro_rules! groups {
    ($($file:ident),* $(,)?) => {
        &[$((stringify!($file), $file::group)),*]
    };
}

fn main() -> std::process::ExitCode {
    tests::run(groups![
        bounded,
        calls,
        connect,
        convert,
        delay,
        dns,
        doctor,
        egress,
        events,
        experiment,
        golden,
        guard,
        guardian,
        harness,
        hostile,
        http,
        ingress,
        inject,
        interface,
        library,
        lifecycle,
        limit,
        log,
        memory,
        names,
        netem,
        observe,
        open,
        r#override,
        own_targets,
        ownership,
        paths,
        policy,
        privileges,
        read_write,
        refusals,
        replace,
        reset,
        run,
        safety,
        serve,
        spin,
        suites,
        syscall,
        targets,
        unreachable,
        uprobe,
        verifier,
    ])
}
