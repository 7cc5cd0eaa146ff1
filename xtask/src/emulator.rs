//! QEMU: the system's if there is one, else one unpacked into the cache with all its libraries.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    apt::{self, Area},
    cache::{self, Cache},
    sh,
};

/// The emulator's program.
const PROGRAM: &str = "qemu-system-x86_64";

/// How to start QEMU.
pub(crate) enum Emulator {
    System(PathBuf),
    Unpacked(PathBuf),
}

/// Looks for a QEMU.
pub(crate) fn find(cache: &Cache) -> Result<Emulator> {
    if let Some(path) = sh::which(PROGRAM) {
        return Ok(Emulator::System(path));
    }
    let root = cache.qemu();
    if root.join("usr/bin").join(PROGRAM).is_file() {
        return Ok(Emulator::Unpacked(root));
    }
    bail!(
        "{PROGRAM} is neither on PATH nor in {}: run `cargo xtask setup --only vm`",
        cache.root().display()
    )
}

impl Emulator {
    /// The command to which the machine's options are added.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::System(path) => Command::new(path),
            Self::Unpacked(root) => {
                // Its own loader and libraries: it does not depend on those of the system, nor they on it.
                let lib = root.join("usr/lib/x86_64-linux-gnu");
                let paths = [
                    lib.clone(),
                    root.join("lib/x86_64-linux-gnu"),
                    lib.join("pulseaudio"),
                ];
                let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
                let mut command = Command::new(loader(root));
                command
                    .arg("--library-path")
                    .arg(paths.join(":"))
                    .arg(root.join("usr/bin").join(PROGRAM))
                    .env("QEMU_MODULE_DIR", lib.join("qemu"))
                    .arg("-L")
                    .arg(root.join("usr/share/qemu"))
                    .arg("-L")
                    .arg(root.join("usr/share/seabios"));
                command
            }
        }
    }

    /// What it says its version is; proves that it starts.
    pub(crate) fn version(&self) -> Result<String> {
        let text = sh::run(self.command().arg("--version"))?;
        let line = text.lines().next().unwrap_or_default();
        let number = line.split_whitespace().nth(3).unwrap_or(line);
        Ok(match self {
            Self::System(path) => format!("{number} at {}", path.display()),
            Self::Unpacked(_) => format!("{number} in the cache"),
        })
    }
}

fn loader(root: &Path) -> PathBuf {
    const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
    let merged = root.join("usr").join(LOADER);
    if merged.is_file() {
        merged
    } else {
        root.join(LOADER)
    }
}

/// The suites QEMU comes from: bookworm's own is too old, later ones are not.
fn suites() -> Result<[String; 2]> {
    let release = apt::codename()?;
    Ok([format!("{release}-backports"), release])
}

/// Fetches QEMU and unpacks it into the cache. Returns a remark.
pub(crate) fn fetch(cache: &Cache) -> Result<String> {
    let [backports, release] = suites()?;
    // A release without backports of its own has a QEMU that is new enough.
    let (area, suite) = match Area::open(cache, "qemu", &[&release, &backports]) {
        Ok(area) if area.update(false).is_ok() => (area, backports.as_str()),
        _ => {
            let area = Area::open(cache, "qemu", &[&release])?;
            area.update(true)?;
            (area, release.as_str())
        }
    };
    let debs = area.resolve(suite, &["qemu-system-x86"])?;
    let names: Vec<String> = debs.iter().map(|d| d.name.clone()).collect();
    let bytes: u64 = debs.iter().map(|d| d.bytes).sum();
    let new = cache::scratch(&cache.qemu())?;
    area.unpack(suite, &names, &new)?;
    let version = Emulator::Unpacked(new.clone()).version()?;
    cache::publish(&new, &cache.qemu())?;
    Ok(format!("{version}, {} MB fetched", bytes / 1_000_000))
}
