//! Roads around a policy, each of which is closed: other names of a file, faults without filters, labels that cannot be read,
//! policies of flags.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::ensure;
use tests::{Outcome, murphy, murphy_path, program};

use super::{NOT_ALLOWED, REFUSED, inject, with_etc};

/// Links, mounts and `/proc/PID/root` lead to restricted files and forbidden programs, and are refused as these.
pub(crate) fn names() -> Outcome {
    let folder = tempfile::tempdir()?;
    let at = |below: &str| format!("{}/{below}", folder.path().display());
    for inner in ["secret", "mounted", "bin"] {
        fs::create_dir(at(inner))?;
    }
    fs::write(at("secret/file"), "")?;
    fs::copy("/bin/true", at("bin/postgres"))?;
    fs::hard_link(at("bin/postgres"), at("hard"))?;
    for (to, link) in [
        ("secret", "link"),
        ("bin/postgres", "innocent"),
        ("bin", "tools"),
    ] {
        std::os::unix::fs::symlink(to, at(link))?;
    }
    let policy = folder.path().join("policy.toml");
    // In a mount namespace, for the mount.
    let run = |rule: &str, fault: &str, command: &str| {
        fs::write(&policy, rule)?;
        let script = "mount --bind \"$0/secret\" \"$0/mounted\"; cd \"$0/bin\"; exec \"$@\"";
        program("unshare")
            .args(["-m", "sh", "-c", script])
            .args([folder.path()])
            .args([murphy_path()])
            .args(["run", "-q", "-e", fault, "--policy"])
            .args([&policy])
            .args(["--", command])
            .run()
    };
    let restricted = format!("[paths]\nrestricted = [\"{}\"]", at("secret"));
    let own = std::process::id();
    for path in [
        at("secret/file"),
        at("link/file"),
        at("link/**"),
        at("mounted/file"),
        at("m*/file"),
        at("bin/../secret/*"),
        format!("/proc/{own}/root{}", at("secret/file")),
        format!("/proc/*/root{}", at("secret/*")),
        "/**".to_owned(),
    ] {
        let done = run(
            &restricted,
            &format!("openat:error=EIO:path={path}"),
            "true",
        )?;
        ensure!(
            done.code == Some(125) && done.stderr.contains(":2: restricted"),
            "{path}: {done}"
        );
    }
    let fine = format!("openat:error=EIO:path={}", at("other/**"));
    let done = run(&restricted, &fine, "true")?;
    ensure!(done.code == Some(0), "{done}");
    // murphy's own rule goes by the same comparison.
    std::os::unix::fs::symlink("/boot", at("start"))?;
    let done = run(
        "",
        &format!("openat:error=EIO:path={}", at("start/*")),
        "true",
    )?;
    ensure!(
        done.code == Some(125) && done.stderr.contains("/boot"),
        "{done}"
    );
    let script = at("script");
    fs::write(&script, format!("#! {}\n", at("innocent")))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    for rule in ["bin/postgres", "bin/post*", "tools/postgres"] {
        let rule = format!("[targets]\nforbid = [\"exe:{}\"]", at(rule));
        for command in [
            "./postgres".to_owned(),
            at("bin/postgres"),
            at("innocent"),
            at("hard"),
            at("tools/postgres"),
            script.clone(),
            format!("/proc/self/root{}", at("innocent")),
        ] {
            let done = run(&rule, REFUSED, &command)?;
            ensure!(
                done.code == Some(125) && done.stderr.contains(":2: forbid"),
                "{rule}, {command}: {done}"
            );
        }
        let done = run(&rule, REFUSED, "true")?;
        ensure!(done.code == Some(0), "{rule}: {done}");
    }
    Ok(())
}

/// Faults without the filters that would keep them away from what is protected.
pub(crate) fn reach() -> Outcome {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let run = |rule: &str, fault: &str| {
        fs::write(&policy, rule)?;
        murphy(["run", "--dry-run", "-e", fault, "--policy"])
            .args([&policy])
            .args(["--", "true"])
            .run()
    };
    let ports = "[network]\nforbid_ports = [22]";
    let allowed = "[network]\nallow_ports = [80]";
    let paths = "[paths]\nrestricted = [\"/etc\"]";
    let interfaces = "[network]\nforbid_interfaces = [\"not-there\"]";
    for (rule, fault, refused) in [
        (ports, "read:error=EIO", true),
        (ports, "write:error=EIO:fd=3", true),
        (ports, "shutdown:error=EIO", true),
        (ports, "sendfile:error=EIO", true),
        (ports, "sendfile:error=EIO:on=file", true),
        (ports, "splice:error=EIO:path=/srv/**", true),
        (ports, "sendto:error=EIO", true),
        (ports, "recvfrom:error=EIO", true),
        (ports, "close:error=EIO", true),
        (ports, "poll:error=EIO", true),
        (allowed, "writev:error=EIO", true),
        (allowed, "connect:error=EIO:port=80-81", true),
        (ports, "read:error=EIO:on=file", false),
        (ports, "read:error=EIO:path=/srv/**", false),
        (ports, "openat:error=EIO", false),
        (ports, "sendto:error=EIO:port=80", false),
        (allowed, "connect:error=EIO:port=80", false),
        (paths, "openat:error=EIO", true),
        (paths, "write:error=EIO", true),
        (paths, "write:error=EIO:on=pipe", true),
        (paths, "sendfile:error=EIO:on=socket", true),
        (paths, "openat:error=EIO:path=/srv/**", false),
        (paths, "connect:error=EIO", false),
        (paths, "write:error=EIO:on=socket", false),
        (paths, "getpid:retval=1", false),
        (interfaces, "egress:loss=1%", true),
        (interfaces, "egress:loss=1%:interface=not-*", true),
        (interfaces, "egress:loss=1%:interface=lo", false),
        (interfaces, "connect:error=EIO", false),
    ] {
        let done = run(rule, fault)?;
        let code = if refused { 125 } else { 0 };
        ensure!(done.code == Some(code), "{rule}, {fault}: {done}");
        ensure!(
            !refused || done.stderr.contains("help: "),
            "{rule}, {fault}: {done}"
        );
    }
    // Processes that come later.
    let sleep = program("sleep").args(["600"]).spawn()?;
    for (rule, args, refused) in [
        ("forbid = [\"comm:nobody\"]", &["--uid", "4242"][..], true),
        (
            "forbid = [\"comm:nobody\"]",
            &["--uid", "4242", "--comm", "!nobody"],
            false,
        ),
        (
            "forbid = [\"comm:nobody*\"]",
            &["--uid", "4242", "--comm", "!nobody"],
            true,
        ),
        ("forbid = [\"comm:nobody\"]", &["--comm", "sleep"], false),
        ("forbid = [\"uid:root\"]", &["--comm", "!x"], true),
        ("forbid = [\"uid:65534\"]", &["--comm", "!x"], false),
    ] {
        fs::write(&policy, format!("[targets]\n{rule}"))?;
        let args = [args, &["--dry-run"]].concat();
        let done = inject(&policy, sleep.pid(), &args)?;
        let code = if refused { NOT_ALLOWED } else { 0 };
        ensure!(done.code == Some(code), "{rule}, {args:?}: {done}");
    }
    Ok(())
}

fn under(
    folder: &Path,
    policy: &str,
    commands: &str,
    args: &[&str],
) -> anyhow::Result<tests::Finished> {
    with_etc(folder, policy, commands)
        .args([murphy_path()])
        .args(["run", "-q", "-e", REFUSED])
        .args(args)
        .args(["--", "true"])
        .env("MURPHY_ENVIRONMENT", "")
        .run()
}

/// Everything that may hide "production" is refused, without any rule of a policy.
pub(crate) fn labels() -> Outcome {
    for (label, words) in [
        ("printf '\\nproduction\\n' > environment", "environment"),
        (
            "printf '# here\\nproduction\\n' > environment",
            "more than one line",
        ),
        (
            "printf '\\357\\273\\277production\\n' > environment",
            "no label",
        ),
        ("printf 'prod\\377\\n' > environment", "UTF-8"),
        ("printf ' staging\\n' > environment", "no label"),
        ("printf '' > environment", "says nothing"),
        ("head -c 100000 /dev/zero > environment", "longer"),
        ("mkfifo environment", "no regular file"),
        ("mkdir environment", "no regular file"),
        ("ln -s nowhere environment", "No such file"),
        ("ln -s /dev/zero environment", "no regular file"),
    ] {
        let folder = tempfile::tempdir()?;
        let done = under(folder.path(), "", label, &[])?;
        ensure!(
            done.code == Some(125) && done.stderr.contains("cannot read the label"),
            "{label}: {done}"
        );
        for word in [words, "/etc/murphy/environment", "help: "] {
            ensure!(done.stderr.contains(word), "{label}: no `{word}` in {done}");
        }
    }
    for label in ["rm -f environment", "printf staging > environment"] {
        let done = under(tempfile::tempdir()?.path(), "", label, &[])?;
        ensure!(done.code == Some(0), "{label}: {done}");
    }
    let variable = murphy(["run", "-q", "-e", REFUSED, "--", "true"])
        .env("MURPHY_ENVIRONMENT", " production")
        .run()?;
    ensure!(variable.code == Some(125), "{variable}");
    Ok(())
}

/// A policy of a flag adds to the machine's and replaces nothing of it.
pub(crate) fn flags() -> Outcome {
    let folder = tempfile::tempdir()?;
    let flag = folder.path().join("flag.toml");
    let site = folder.path().join("site");
    let args = ["--policy", flag.to_str().unwrap_or_default()];
    let production = "printf production > environment";
    let staging = "printf staging > environment";
    let names = "[environment]\nrequire = [\"production\", \"staging\", \"test\"]";
    let file = format!("[environment]\nfile = \"{}\"", site.display());
    let file_and_names = format!("{names}\nfile = \"{}\"", site.display());
    for (machine, label, flag_says, site_says, code) in [
        // Only the machine's policy may name production.
        ("", production, names, "test", 125),
        ("", production, &file, "test", 125),
        ("", production, &file_and_names, "test", 125),
        (names, production, "", "test", 0),
        // A further label counts beside the machine's.
        ("", staging, &file, "test", 0),
        ("", staging, &file, "production", 125),
        ("", staging, &file_and_names, "test", 0),
        ("", staging, &file_and_names, "elsewhere", 125),
        (
            "[environment]\nrequire = [\"staging\"]",
            staging,
            &file,
            "test",
            125,
        ),
        // The machine's own further file does not replace its label either.
        (&file, production, "", "test", 125),
        // A label that is named and not there.
        (
            "",
            staging,
            "[environment]\nfile = \"/nowhere/at/all\"",
            "",
            125,
        ),
    ] {
        fs::write(&flag, flag_says)?;
        fs::write(&site, site_says)?;
        let etc = tempfile::tempdir()?;
        let done = under(etc.path(), machine, label, &args)?;
        ensure!(
            done.code == Some(code),
            "{machine}, {label}, {flag_says}, {site_says}: {done}"
        );
    }
    Ok(())
}
