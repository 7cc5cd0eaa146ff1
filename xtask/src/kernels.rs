//! The kernels to test on: Debian's cloud kernels, unpacked into the cache, never installed.
//!
//! A kernel in the cache is a folder with `vmlinuz`, `release` (what `uname -r` says), `boot/NN-x.ko`
//! (the modules that reach the root file system, in loading order) and `modules.sqfs` (all of them).

pub(crate) mod build;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    apt::Area,
    cache::{self, Cache},
    sh,
};

/// A Debian suite and the kernel series it is here for.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) series: &'static str,
}

/// Newest last, except that the oldest is best effort: its suite moves to an archive one day.
pub(crate) const SUITES: [Suite; 4] = [
    Suite {
        name: "bookworm",
        series: "6.1",
    },
    Suite {
        name: "trixie",
        series: "6.12",
    },
    Suite {
        name: "sid",
        series: "newest",
    },
    Suite {
        name: "bullseye",
        series: "5.10",
    },
];

/// What must be loaded before the root file system and our ports are reachable.
const BOOT_MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "squashfs",
    "overlay",
];

/// Changes when the layout of the folder does.
const FORMAT: &str = "1";

/// A kernel ready to boot.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// `bookworm`, `override`, or the path it was given by.
    pub(crate) name: String,
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    pub(crate) boot_modules: Vec<PathBuf>,
    pub(crate) modules: Option<PathBuf>,
}

/// The metapackage that names the current kernel of a suite.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// What of a kernel's dependencies is unpacked; the rest is for installing it.
fn wanted(package: &str) -> bool {
    ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .any(|p| {
            package
                .strip_prefix(p)
                .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        })
}

/// The private apt state of a suite.
fn area(cache: &Cache, suite: &Suite) -> Result<Area> {
    Area::open(cache, suite.name, &[suite.name])
}

/// Whether the cache holds a kernel of this suite: its release.
pub(crate) fn cached(cache: &Cache, suite: &Suite) -> Option<String> {
    let dir = cache.kernel(suite.name);
    (fs::read_to_string(dir.join("format")).ok()? == FORMAT)
        .then(|| fs::read_to_string(dir.join("release")).ok())
        .flatten()
}

/// Fetches the newest kernel of a suite, unless the cache holds that very one. Returns a remark.
pub(crate) fn fetch(cache: &Cache, suite: &Suite, refresh: bool) -> Result<String> {
    let area = area(cache, suite)?;
    area.update(refresh).with_context(|| {
        format!(
            "the mirror has no suite {} (it may have moved to an archive)",
            suite.name
        )
    })?;
    let debs = area.resolve(suite.name, &[METAPACKAGE])?;
    let debs: Vec<_> = debs.into_iter().filter(|d| wanted(&d.name)).collect();
    if debs.is_empty() {
        bail!("{METAPACKAGE} of {} leads to no kernel", suite.name);
    }
    let have = cached(cache, suite);
    if let Some(have) = have.filter(|h| debs.iter().all(|d| d.name.ends_with(h.as_str()))) {
        return Ok(format!("{have} is the newest"));
    }
    let to = cache.kernel(suite.name);
    let bytes: u64 = debs.iter().map(|d| d.bytes).sum();
    let new = cache::scratch(&to)?;
    let unpacked = new.join("unpacked");
    let names: Vec<String> = debs.into_iter().map(|d| d.name).collect();
    area.unpack(suite.name, &names, &unpacked)?;
    let release = arrange(&unpacked, &new)?;
    fs::remove_dir_all(&unpacked)?;
    fs::write(new.join("format"), FORMAT)?;
    cache::publish(&new, &to)?;
    Ok(format!("{release}, {} MB fetched", bytes / 1_000_000))
}

/// Turns unpacked packages into the folder described above.
fn arrange(unpacked: &Path, to: &Path) -> Result<String> {
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|d| unpacked.join(d))
        .into_iter()
        .find(|d| d.is_dir())
        .context("the kernel package has no modules folder")?;
    let release = fs::read_dir(&modules)?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .next()
        .context("the modules folder is empty")?;
    let tree = modules.join(&release);
    let image = [
        unpacked.join(format!("boot/vmlinuz-{release}")),
        tree.join("vmlinuz"),
    ]
    .into_iter()
    .find(|f| f.is_file())
    .context("the kernel package has no vmlinuz")?;
    fs::rename(image, to.join("vmlinuz"))?;
    // depmod and modprobe expect the tree at BASE/lib/modules.
    let base = to.join("base");
    fs::create_dir_all(base.join("lib/modules"))?;
    fs::rename(&tree, base.join("lib/modules").join(&release))?;
    sh::run(sh::tool("depmod")?.arg("-b").arg(&base).arg(&release))?;
    let tree = base.join("lib/modules").join(&release);
    copy_boot_modules(&tree, &to.join("boot"))?;
    sh::run(
        sh::tool("mksquashfs")?
            .arg(base.join("lib/modules"))
            .arg(to.join("modules.sqfs"))
            .args([
                "-comp",
                "lz4",
                "-noappend",
                "-quiet",
                "-no-progress",
                "-all-root",
            ]),
    )?;
    fs::remove_dir_all(&base)?;
    fs::write(to.join("release"), &release)?;
    Ok(release)
}

/// Copies the modules of [`BOOT_MODULES`] and what they need, uncompressed, numbered in loading order.
fn copy_boot_modules(tree: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let dep = fs::read_to_string(tree.join("modules.dep"))?;
    let deps: Vec<(&str, Vec<&str>)> = dep
        .lines()
        .filter_map(|l| l.split_once(':'))
        .map(|(file, needs)| (file, needs.split_whitespace().collect()))
        .collect();
    let mut order: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for name in BOOT_MODULES {
        // A module that is not listed is built in.
        if let Some((file, needs)) = deps.iter().find(|(f, _)| stem(f) == name) {
            // modules.dep lists the nearest dependency first; the farthest loads first.
            for f in needs.iter().rev().chain([file]) {
                if seen.insert(*f) {
                    order.push(f);
                }
            }
        }
    }
    for (n, file) in order.iter().enumerate() {
        let target = to.join(format!("{n:02}-{}.ko", stem(file)));
        let source = tree.join(file);
        match source.extension().and_then(|e| e.to_str()) {
            Some("ko") => {
                fs::copy(&source, &target)?;
            }
            Some(kind @ ("xz" | "zst")) => {
                let program = if kind == "xz" { "xz" } else { "zstd" };
                let out = fs::File::create(&target)?;
                let status = sh::tool(program)?
                    .arg("-qdc")
                    .arg(&source)
                    .stdout(out)
                    .status()?;
                if !status.success() {
                    bail!("{program} cannot unpack {}", source.display());
                }
            }
            _ => bail!("a module compressed in a way not known here: {file}"),
        }
    }
    Ok(())
}

/// `kernel/fs/squashfs/squashfs.ko.xz` → `squashfs`.
fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name)
}

/// Finds a kernel by suite name, `override`, or path (of a folder as above or of a bare image).
pub(crate) fn find(cache: &Cache, name: &str) -> Result<Kernel> {
    let path = Path::new(name);
    let is_suite = SUITES.iter().any(|s| s.name == name);
    let dir = if is_suite || name == build::NAME {
        cache.kernel(name)
    } else if path.exists() {
        path.to_path_buf()
    } else {
        let names: Vec<_> = SUITES.iter().map(|s| s.name).collect();
        bail!(
            "no kernel {name:?}: expected {}, override, or the path of a vmlinuz",
            names.join(", ")
        );
    };
    if dir.is_file() {
        return Ok(Kernel {
            name: name.to_owned(),
            release: "unknown".to_owned(),
            image: dir,
            boot_modules: Vec::new(),
            modules: None,
        });
    }
    let image = dir.join("vmlinuz");
    if !image.is_file() {
        let remedy = if name == build::NAME {
            "cargo xtask kernel override"
        } else {
            "cargo xtask setup --only vm"
        };
        bail!(
            "kernel {name} is not in the cache ({}): run `{remedy}`",
            dir.display()
        );
    }
    let release = fs::read_to_string(dir.join("release")).unwrap_or_else(|_| "unknown".to_owned());
    let mut boot_modules: Vec<PathBuf> = match fs::read_dir(dir.join("boot")) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => Vec::new(),
    };
    boot_modules.sort();
    let modules = Some(dir.join("modules.sqfs")).filter(|m| m.is_file());
    Ok(Kernel {
        name: name.to_owned(),
        release: release.trim().to_owned(),
        image,
        boot_modules,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernel_itself_is_unpacked() {
        assert!(wanted("linux-image-6.1.0-50-cloud-amd64"));
        assert!(wanted("linux-modules-7.2.13+deb14-cloud-amd64"));
        assert!(!wanted("linux-image-cloud-amd64"));
        assert!(!wanted("linux-base-7.2.13+deb14-cloud-amd64"));
    }

    #[test]
    fn module_names() {
        assert_eq!(stem("kernel/fs/squashfs/squashfs.ko.xz"), "squashfs");
        assert_eq!(stem("kernel/fs/overlayfs/overlay.ko"), "overlay");
    }
}
