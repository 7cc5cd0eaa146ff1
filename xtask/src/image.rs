//! The root file system of the guests: a small Debian of the host's release, built once, read-only.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use crate::{apt, cache::Cache, sh};

/// What tests may call in a guest.
pub(crate) const PACKAGES: [&str; 27] = [
    "busybox-static",
    "ca-certificates",
    "curl",
    "dnsmasq-base",
    "dnsutils",
    "ethtool",
    "fiu-utils",
    "git",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libcap2-bin",
    "netcat-openbsd",
    "nftables",
    "nginx-light",
    "postgresql",
    "procps",
    "psmisc",
    "python3",
    "redis-server",
    "redis-tools",
    "sqlite3",
    "strace",
    "sudo",
    "util-linux",
    "wrk",
];

/// Changes when the way it is built does.
const FORMAT: &str = "1";

/// An image that was not read for so long is removed when another is built.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where the image for this list of packages and this release is, or will be.
pub(crate) fn path(cache: &Cache) -> Result<PathBuf> {
    let release = apt::codename()?;
    let mut hash = Sha256::new();
    for part in PACKAGES.iter().chain(&[release.as_str(), FORMAT]) {
        hash.update(part);
        hash.update([0]);
    }
    let digest = hash.finalize();
    let key: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    Ok(cache.images().join(format!("root-{release}-{key}.sqfs")))
}

/// The image if it was built.
pub(crate) fn find(cache: &Cache) -> Result<PathBuf> {
    let path = path(cache)?;
    anyhow::ensure!(
        path.is_file(),
        "the guests' root image is not built ({}): run `cargo xtask setup --only vm`",
        path.display()
    );
    Ok(path)
}

/// Builds it. Needs root or unprivileged user namespaces.
pub(crate) fn build(cache: &Cache) -> Result<String> {
    let to = path(cache)?;
    fs::create_dir_all(cache.images())?;
    let release = apt::codename()?;
    let source = apt::mirror(&release)?.line(&release)?;
    // Not in the cache: an unprivileged build maps other user ids, which need a path open to them.
    let dir = tempfile::Builder::new().prefix("murphy-image-").tempdir()?;
    let root = dir.path().join("root");
    let slim = ["doc", "man", "locale", "info"]
        .map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*"));
    let built = sh::run(
        sh::tool("mmdebstrap")?
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .args(slim)
            .arg(&release)
            .arg(&root)
            .arg(&source)
            .env("LC_ALL", "C"),
    );
    built.context("mmdebstrap could not build the guests' root file system")?;
    for folder in ["murphy", "lib/modules"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost murphy\n::1 localhost ip6-localhost\n",
    )?;
    fs::write(root.join("etc/hostname"), "murphy\n")?;
    let new = to.with_extension("new");
    // lz4: the guest unpacks it under emulation.
    sh::run(
        sh::tool("mksquashfs")?
            .arg(&root)
            .arg(&new)
            .args(["-comp", "lz4", "-noappend", "-quiet", "-no-progress"])
            .args([
                "-e",
                "dev",
                "-e",
                "proc",
                "-e",
                "sys",
                "-e",
                "var/lib/apt/lists",
            ]),
    )?;
    fs::rename(&new, &to)?;
    // Images of other package lists may be another branch's, until nobody has booted them for long.
    for entry in fs::read_dir(cache.images())?.flatten() {
        let used = entry.metadata()?.accessed()?;
        if entry.path() != to && used.elapsed().is_ok_and(|ago| ago > UNUSED) {
            fs::remove_file(entry.path())?;
        }
    }
    let size = fs::metadata(&to)?.len() / 1_000_000;
    Ok(format!("Debian {release}, {size} MB"))
}
