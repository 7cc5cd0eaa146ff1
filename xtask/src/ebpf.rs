//! `cargo xtask ebpf`: builds the kernel objects, proves that the committed ones are fresh, or
//! compares the programs with those of another revision.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

mod btf;
mod code;
mod same_code;

mod provenance {
    include!("../../chaos-ebpf/objects/provenance.rs");
}
use provenance::{OBJECTS, recorded, sources_digest};

/// Build the eBPF objects, or check the committed ones
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail if the committed objects are not made from these sources
    #[arg(long)]
    check: bool,
    /// Change nothing; compare the programs built from these sources with the objects committed in
    /// REV. Exits with 0 if they are the same, 1 if they differ, 2 if there is no answer
    #[arg(long, value_name = "REV", conflicts_with = "check")]
    same_code: Option<String>,
}

/// Builds, checks or compares the objects in `chaos-ebpf/objects`. Returns the exit status.
pub(crate) fn run(args: &Args) -> Result<u8> {
    if let Some(revision) = &args.same_code {
        return Ok(same_code::run(&workspace(), revision));
    }
    build_or_check(args.check).map(|()| 0)
}

fn build_or_check(check_only: bool) -> Result<()> {
    let workspace = workspace();
    let digest = sources_digest(&workspace).context("reading the kernel programs' sources")?;
    if check_only {
        return check(&workspace, &digest);
    }
    let toolchain = Toolchain::find()?;
    let built = toolchain.build(&workspace, &digest)?;
    let objects = workspace.join("chaos-ebpf/objects");
    std::fs::create_dir_all(&objects)?;
    for name in OBJECTS {
        let bytes = without_dwarf(&built.join(name))?;
        let to = objects.join(format!("{name}.o"));
        std::fs::write(&to, &bytes)?;
        eprintln!(
            "ebpf: {} ({} KiB)",
            to.strip_prefix(&workspace)?.display(),
            bytes.len() / 1024
        );
    }
    Ok(())
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Compares the digest, and the content if the toolchain that made the committed objects is
/// installed. The line information may differ: it is that of the last build.
fn check(workspace: &Path, digest: &str) -> Result<()> {
    let mut made_by = None;
    let mut committed = Vec::new();
    for name in OBJECTS {
        let path = workspace.join(format!("chaos-ebpf/objects/{name}.o"));
        let object = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let recorded_digest = recorded(&object, "murphy-sources:");
        ensure!(
            recorded_digest.as_deref() == Some(digest),
            "{name}.o was not made from the sources as they are; make it anew: cargo xtask ebpf"
        );
        made_by = recorded(&object, "murphy-toolchain:");
        committed.push((name, object));
    }
    let toolchain = match Toolchain::find() {
        Ok(toolchain) if Some(&toolchain.version) == made_by.as_ref() => toolchain,
        Ok(toolchain) => {
            eprintln!(
                "ebpf: digests agree; bytes not compared: made by {}, here is {}",
                made_by.unwrap_or_default(),
                toolchain.version
            );
            return Ok(());
        }
        Err(error) => {
            eprintln!("ebpf: digests agree; bytes not compared: {error:#}");
            return Ok(());
        }
    };
    let built = toolchain.build(workspace, digest)?;
    let mut result = "byte for byte";
    for (name, object) in committed {
        let fresh = without_dwarf(&built.join(name))?;
        if fresh == object {
            continue;
        }
        result = "but for line information, which comments and white space change";
        ensure!(
            differs_in_lines_only(&object, &fresh)?,
            "{name}.o differs from what the same toolchain makes of the same sources; make it \
             anew: cargo xtask ebpf"
        );
    }
    eprintln!("ebpf: digests agree and the objects are reproduced {result}");
    Ok(())
}

/// Whether two objects hold the same programs, data and types.
fn differs_in_lines_only(committed: &[u8], fresh: &[u8]) -> Result<bool> {
    let code = code::compare(&code::Code::parse(committed)?, &code::Code::parse(fresh)?);
    let is_same = code == code::Difference::default();
    Ok(is_same && btf::types(committed)? == btf::types(fresh)?)
}

/// A compiler that can build `core` for the kernel's target, and the linker.
struct Toolchain {
    cargo: Command,
    version: String,
    path: std::ffi::OsString,
    library: PathBuf,
}

impl Toolchain {
    /// A rustup nightly with `rust-src`, else Debian's rustc-web.
    fn find() -> Result<Self> {
        let (cargo, rustc) = Self::nightly().or_else(Self::debian).context(
            "no compiler for the kernel programs: neither a rustup nightly with rust-src nor \
             Debian's rustc-web and rust-web-src; install one: cargo xtask setup --only ebpf",
        )?;
        let mut path = tools();
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        let path = std::env::join_paths(path)?;
        let linker = output(
            Command::new("bpf-linker")
                .arg("--version")
                .env("PATH", &path),
        )
        .context("no bpf-linker; install it: cargo xtask setup --only ebpf")?;
        let mut command = Command::new(&rustc[0]);
        let sysroot = output(command.args(&rustc[1..]).args(["--print", "sysroot"]))?;
        let mut command = Command::new(&rustc[0]);
        let version = output(command.args(&rustc[1..]).arg("--version"))?;
        let mut command = Command::new(&cargo[0]);
        command.args(&cargo[1..]);
        if rustc.len() == 1 {
            // Unstable flags of a stable compiler: `-Zbuild-std` and BPF assembly.
            command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", &rustc[0]);
        }
        Ok(Self {
            cargo: command,
            version: format!("{version}, {linker}"),
            path,
            library: Path::new(&sysroot).join("lib/rustlib/src/rust"),
        })
    }

    fn nightly() -> Option<(Vec<String>, Vec<String>)> {
        let list = output(Command::new("rustup").args(["toolchain", "list"])).ok()?;
        let name = list.lines().find(|line| line.starts_with("nightly"))?;
        let plus = format!("+{}", name.split_whitespace().next()?);
        let sysroot = output(Command::new("rustc").args([&plus, "--print", "sysroot"])).ok()?;
        let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
        library.exists().then(|| {
            (
                vec!["cargo".into(), plus.clone()],
                vec!["rustc".into(), plus],
            )
        })
    }

    fn debian() -> Option<(Vec<String>, Vec<String>)> {
        let rustc = "/usr/bin/rustc";
        let sysroot = output(Command::new(rustc).args(["--print", "sysroot"])).ok()?;
        let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
        library
            .exists()
            .then(|| (vec!["/usr/bin/cargo".into()], vec![rustc.into()]))
    }

    /// Builds all objects and gives the folder they are in.
    fn build(mut self, workspace: &Path, digest: &str) -> Result<PathBuf> {
        const TARGET: &str = "bpfel-unknown-none";
        let folder = workspace.join("target/ebpf");
        let home = std::env::var_os("CARGO_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
            PathBuf::from,
        );
        // Atomic operations that give a value, and 32-bit arithmetic, are of BPF's v3.
        // No path of this machine may end up in the line information.
        let flags = [
            "-Clinker=bpf-linker".to_owned(),
            "-Ctarget-cpu=v3".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            "-Clink-arg=--disable-memory-builtins".to_owned(),
            format!("--remap-path-prefix={}=/murphy", workspace.display()),
            format!("--remap-path-prefix={}=/cargo", home.display()),
            format!("--remap-path-prefix={}=/rust", self.library.display()),
        ];
        let status = self
            .cargo
            .current_dir(workspace)
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                "chaos-ebpf",
                "--bins",
            ])
            .args([
                "--profile",
                "bpf",
                "--target",
                TARGET,
                "-Zbuild-std=core",
                "--target-dir",
            ])
            .arg(&folder)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("PATH", &self.path)
            .env("MURPHY_SOURCES", digest)
            .env("MURPHY_TOOLCHAIN", &self.version)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO")
            .status()
            .context("starting cargo")?;
        if !status.success() {
            bail!("the kernel programs do not build");
        }
        Ok(folder.join(TARGET).join("bpf"))
    }
}

/// The object less its DWARF, which is nine tenths of it and no loader reads: what
/// the verifier's log shows of the sources comes from BTF.
fn without_dwarf(path: &Path) -> Result<Vec<u8>> {
    let object = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut builder = object::build::elf::Builder::read(object.as_slice())?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    for symbol in &mut builder.symbols {
        let of_debug = symbol
            .section
            .is_some_and(|id| builder.sections.get(id).delete);
        symbol.delete = of_debug;
    }
    builder.delete_orphans();
    // LLVM keeps section names and symbol names in one table, the writer in two.
    let names = builder.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = object::build::elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}

/// Where `cargo xtask setup` puts tools, before the rest of PATH.
fn tools() -> Vec<PathBuf> {
    let cache = std::env::var_os("MURPHY_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let base =
                base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
            base.map(|base| base.join("murphy"))
        });
    cache
        .into_iter()
        .map(|cache| cache.join("tools/bin"))
        .collect()
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! A module.\n\n/// A number.\nconst LIMIT: u8 = 7; // for now\n\
                          fn text() -> &'static str {\n    \"a /* b */ c\"\n}\n";

    /// The digest of a workspace whose only module is this.
    fn digest(source: &str) -> String {
        digest_with("# A comment\n", source)
    }

    fn digest_with(manifest: &str, source: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for crate_name in ["chaos-common", "chaos-ebpf"] {
            let krate = folder.path().join(crate_name);
            std::fs::create_dir_all(krate.join("src")).unwrap();
            std::fs::write(krate.join("Cargo.toml"), manifest).unwrap();
            std::fs::write(krate.join("src/lib.rs"), source).unwrap();
        }
        sources_digest(folder.path()).unwrap()
    }

    #[test]
    fn comments_and_white_space_keep_the_digest() {
        let before = digest(SOURCE);
        for (from, to) in [
            ("// for now", "// /* for ever"),
            ("// for now", "/* for /* ever */ */"),
            ("/// A number.", "/// Another number.\n///\n/// And more."),
            ("/// A number.\n", ""),
            ("/// A number.", "#[doc = \"A number.\"]"),
            (
                "//! A module.",
                "#![doc = \"It's hidden\"]\n#![doc(hidden)]",
            ),
            ("\n\n", "\n\n\n"),
            ("u8 = 7", "u8\n    = 7"),
            ("    ", "\t"),
            (
                "//! A module.",
                "#[cfg(test)]\nmod tests { const LIMIT: u8 = 8; }",
            ),
        ] {
            let changed = SOURCE.replacen(from, to, 1);
            assert_ne!(changed, SOURCE);
            assert_eq!(digest(&changed), before, "{changed}");
        }
        let wrapped = "fn f() { a()?.b(); }";
        assert_eq!(
            digest(wrapped),
            digest("fn f() {\n    a()?\n        .b();\n}")
        );
    }

    #[test]
    fn other_tokens_change_the_digest() {
        let before = digest(SOURCE);
        for (from, to) in [
            ("7", "8"),
            ("7", "0x7"),
            ("LIMIT", "LIMITS"),
            ("/* b */", "/* d */"),
            ("a /* b */ c", "a  /* b */ c"),
            ("\"a", "r\"a"),
            ("'static", "'statik"),
            ("{", "{ {} "),
            ("const", "#[allow(unused)] const"),
            ("const", "#[cfg(test)] const"),
            ("const", "mod tests {} const"),
            ("//! A module.", "#[cfg(not(test))] mod tests {}"),
        ] {
            let changed = SOURCE.replacen(from, to, 1);
            assert_ne!(changed, SOURCE);
            assert_ne!(digest(&changed), before, "{changed}");
        }
        assert_ne!(
            digest("const A: bool = a && b;"),
            digest("const A: bool = a & &b;")
        );
        assert_ne!(
            digest("const A: u8 = b'/';"),
            digest("const A: u8 = b'//';")
        );
    }

    #[test]
    fn a_manifest_counts_for_what_is_built() {
        let of = |manifest: &str| digest_with(manifest, SOURCE);
        let before = of("[package]\nname = \"a\"\n\n[dependencies]\nb = \"1\"\n");
        let same = "[package]\nname = \"c\"\nreadme = \"d\"\n# e\n[dependencies]\nb = \"1\"\n";
        assert_eq!(of(same), before);
        let other = of("[package]\nname = \"a\"\n\n[dependencies]\nb = \"2\"\n");
        assert_ne!(other, before);
    }

    #[test]
    fn what_is_no_rust_counts_as_it_is() {
        assert_ne!(digest("fn f( {"), digest("fn f( { // a comment"));
    }
}
