//! The `override` kernel: Debian's source with function error injection, which Debian's own kernels lack and Ubuntu's and
//! Fedora's are said to have. Built once into the cache; a whole run of
//! the tests has it only if it is there.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::FORMAT;
use crate::{
    apt::{self, Area},
    cache::{self, Cache},
    progress::Step,
    sh,
};

/// The name under which it is booted: `--kernel override`.
pub(crate) const NAME: &str = "override";

/// Where the source comes from: a suite and its package.
const SUITE: &str = "trixie";
const SOURCE: &str = "linux-source-6.12";

/// What building a kernel needs beyond a C compiler and make.
const PACKAGES: [&str; 9] = [
    "bc",
    "bison",
    "dwarves",
    "flex",
    "gcc",
    "libelf-dev",
    "libssl-dev",
    "make",
    "xz-utils",
];

/// The options, over `make tinyconfig`.
const FRAGMENT: &str = include_str!("override.config");

/// Build a kernel with function error injection into the cache (a quarter of an hour on two cores)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which kernel
    #[arg(value_parser = [NAME])]
    name: String,
    /// Build it again though it is there, or begun
    #[arg(long)]
    again: bool,
}

/// Whether it was built.
pub(crate) fn is_cached(cache: &Cache) -> bool {
    cache.kernel(NAME).join("vmlinuz").is_file()
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cache = Cache::open()?;
    let to = cache.kernel(&args.name);
    let release = to.join("release");
    if !args.again && fs::read_to_string(to.join("fragment")).is_ok_and(|built| built == FRAGMENT) {
        let remark = fs::read_to_string(&release)?;
        Step::start(format!("kernel {}", args.name)).end("present", remark.trim());
        return Ok(());
    }
    step("packages for building a kernel", || {
        apt::install(&apt::missing(&PACKAGES)).map(|()| String::new())
    })?;
    // A build that was interrupted goes on where it was.
    let new = match args.again {
        true => cache::scratch(&to)?,
        false => cache::unfinished(&to)?,
    };
    let source = new.join("source");
    if !source.is_dir() {
        step(&format!("source: {SOURCE} of {SUITE}"), || {
            fetch(&cache, &source)
        })?;
    }
    let source = only_folder(&source)?;
    step("configuration", || configure(&source))?;
    step("compiling", || compile(&source, &new))?;
    fs::remove_dir_all(new.join("source"))?;
    fs::write(new.join("fragment"), FRAGMENT)?;
    fs::write(new.join("format"), FORMAT)?;
    cache::publish(&new, &to)
}

fn step(name: &str, act: impl FnOnce() -> Result<String>) -> Result<()> {
    let step = Step::start(name);
    match act() {
        Ok(remark) => {
            step.end("done", &remark);
            Ok(())
        }
        Err(error) => {
            step.end("FAILED", "");
            Err(error)
        }
    }
}

/// Fetches the source package and unpacks the archive in it. Where `to` is, the source is whole.
fn fetch(cache: &Cache, to: &Path) -> Result<String> {
    let area = Area::open(cache, SUITE, &[SUITE])?;
    area.update(false)?;
    let package = to.with_extension("package");
    area.unpack(SUITE, &[SOURCE.to_owned()], &package)?;
    let archive = package.join(format!("usr/src/{SOURCE}.tar.xz"));
    let part = to.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    sh::run(
        sh::tool("tar")?
            .arg("-xJf")
            .arg(&archive)
            .arg("-C")
            .arg(&part),
    )?;
    let bytes = fs::metadata(&archive)?.len();
    fs::remove_dir_all(&package)?;
    fs::rename(&part, to)?;
    Ok(format!("{} MB", bytes / 1_000_000))
}

fn only_folder(of: &Path) -> Result<std::path::PathBuf> {
    let mut entries = fs::read_dir(of)?.flatten();
    entries
        .next()
        .map(|entry| entry.path())
        .with_context(|| format!("{SOURCE} holds nothing"))
}

fn make(source: &Path) -> Result<Command> {
    let mut make = sh::tool("make")?;
    // Nothing in the image tells when and where it was built.
    make.current_dir(source)
        .arg("-s")
        .env("KBUILD_BUILD_USER", "murphy")
        .env("KBUILD_BUILD_HOST", "murphy")
        .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01");
    Ok(make)
}

fn configure(source: &Path) -> Result<String> {
    fs::write(source.join("murphy.config"), FRAGMENT)?;
    sh::run(make(source)?.arg("tinyconfig"))?;
    sh::run(
        Command::new(source.join("scripts/kconfig/merge_config.sh"))
            .current_dir(source)
            .args(["-m", ".config", "murphy.config"]),
    )?;
    sh::run(make(source)?.arg("olddefconfig"))?;
    // kconfig drops without a word what lacks a dependency.
    let got = fs::read_to_string(source.join(".config"))?;
    let missing: Vec<_> = FRAGMENT
        .lines()
        .filter(|line| line.ends_with("=y") && !got.lines().any(|have| have == *line))
        .collect();
    if missing.is_empty() {
        Ok(format!("{} options", FRAGMENT.lines().count()))
    } else {
        bail!(
            "the kernel's configuration does not take {}",
            missing.join(", ")
        )
    }
}

fn compile(source: &Path, to: &Path) -> Result<String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    sh::run(make(source)?.arg(format!("-j{jobs}")).arg("bzImage"))?;
    let release = sh::run(make(source)?.arg("kernelrelease"))?;
    fs::copy(source.join("arch/x86/boot/bzImage"), to.join("vmlinuz"))?;
    fs::write(to.join("release"), release.trim())?;
    Ok(release.trim().to_owned())
}
