//! Golden files: what murphy prints, compared with the files in `tests/golden`.
//!
//! They show in a diff how a change alters help texts, JSON and error messages. After a change that is
//! meant, `MURPHY_BLESS=1 cargo xtask test --file golden --host-only` writes them anew.

use tests::{Group, case, needs};

mod compare;
mod help;
mod json;
mod malformed;
mod normalise;
mod serve;

pub(crate) fn group() -> Group {
    let net = || needs![Root, Cgroup2, Atomics, Tool("diff")];
    tests::group([
        case("help of every command", needs![Tool("diff")], help::all),
        case(
            "answers to malformed expressions",
            needs![Tool("diff")],
            malformed::answers,
        ),
        case("JSON of run", net(), json::run),
        case(
            "JSON of run by seccomp",
            needs![Tool("diff")],
            json::run_by_seccomp,
        ),
        case("JSON of run --dry-run", net(), json::dry_run),
        case("JSON of inject, status and stop", net(), json::inject),
        case("an events file", net(), json::events),
        case("JSON of doctor", net(), json::doctor),
        case("the journal of an experiment", net(), json::journal),
        case("metrics", net(), serve::metrics),
        case("the OpenAPI document", net(), serve::openapi),
    ])
    // What murphy prints is no kernel's business.
    .host_only()
}
