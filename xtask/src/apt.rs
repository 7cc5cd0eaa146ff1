//! Debian packages without touching the system's apt configuration.
//!
//! What is only unpacked (QEMU, kernels) is resolved and fetched by an apt of our own: own sources,
//! own lists, an empty dpkg status. Its mirror and key are those of the system's sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use crate::{cache::Cache, sh};

/// Where the system gets Debian's main archive from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    uri: String,
    /// The value of `Signed-By`, which may be a key written out over several lines.
    signed_by: Option<String>,
}

/// A private apt state: a set of suites under one folder.
pub(crate) struct Area {
    dir: PathBuf,
}

/// One package that apt would fetch.
pub(crate) struct Deb {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// The codename of the system's Debian release.
pub(crate) fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |key: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
            .map(|v| v.trim_matches('"').to_owned())
    };
    match (field("ID").as_deref(), field("VERSION_CODENAME")) {
        (Some("debian"), Some(name)) => Ok(name),
        (id, _) => bail!(
            "this is not Debian but {}: setup knows only Debian's packages; install what \
             `cargo xtask setup --dry-run` lists by hand, on Debian",
            id.unwrap_or("an unknown system")
        ),
    }
}

/// Reads the mirror of `suite` from the system's sources, both kinds.
pub(crate) fn mirror(suite: &str) -> Result<Mirror> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<_> = dir.flatten().map(|e| e.path()).collect();
        more.sort();
        files.extend(more);
    }
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        let found = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => from_list(&text, suite),
            Some("sources") => from_deb822(&text, suite),
            _ => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    bail!("no source for Debian {suite} main in /etc/apt/sources.list or sources.list.d: add one")
}

/// One-line style: `deb [signed-by=KEY arch=…] URI SUITE COMPONENT…`.
fn from_list(text: &str, suite: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(r) => r.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?.to_owned();
        if words.next()? != suite || !words.any(|c| c == "main") {
            return None;
        }
        let signed_by = options
            .split_whitespace()
            .find_map(|o| o.strip_prefix("signed-by="))
            .map(str::to_owned);
        Some(Mirror { uri, signed_by })
    })
}

/// deb822 style: stanzas of `Field: value`, continued by indented lines.
fn from_deb822(text: &str, suite: &str) -> Option<Mirror> {
    let text: String = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .flat_map(|l| [l, "\n"])
        .collect();
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let mut lines = stanza.lines();
            let first = lines.find_map(|l| {
                let (key, value) = l.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })?;
            let more = lines
                .take_while(|l| l.starts_with([' ', '\t']))
                .map(|l| format!("\n{l}"));
            Some(
                std::iter::once(first.to_owned())
                    .chain(more)
                    .collect::<String>(),
            )
        };
        let has = |name: &str, word: &str| {
            field(name).is_some_and(|v| v.split_whitespace().any(|w| w == word))
        };
        let enabled = field("Enabled").is_none_or(|v| v != "no" && v != "false");
        if !enabled || !has("Types", "deb") || !has("Suites", suite) || !has("Components", "main") {
            return None;
        }
        Some(Mirror {
            uri: field("URIs")?.split_whitespace().next()?.to_owned(),
            signed_by: field("Signed-By"),
        })
    })
}

impl Mirror {
    /// The mirror as a one-line source with its key, for programs that take one.
    pub(crate) fn line(&self, suite: &str) -> Result<String> {
        let options = match &self.signed_by {
            None => String::new(),
            Some(key) if key.contains('\n') => {
                bail!(
                    "the key of {} is written into the source itself; move it to a file",
                    self.uri
                )
            }
            Some(key) => format!("[signed-by={key}] "),
        };
        Ok(format!("deb {options}{} {suite} main", self.uri))
    }
}

impl Area {
    /// Opens (and writes, if need be) the area `name` for `suites` of the system's mirror.
    pub(crate) fn open(cache: &Cache, name: &str, suites: &[&str]) -> Result<Self> {
        let mirror = mirror(&codename()?)?;
        let dir = cache.apt(name);
        for sub in ["sources", "lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        fs::write(dir.join("status"), "")?;
        let mut source = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n",
            mirror.uri,
            suites.join(" ")
        );
        if let Some(key) = &mirror.signed_by {
            source += &format!("Signed-By: {key}\n");
        }
        let file = dir.join("sources/murphy.sources");
        if fs::read_to_string(&file).unwrap_or_default() != source {
            // Lists of other suites would be used without being asked for.
            fs::remove_dir_all(dir.join("lists"))?;
            fs::create_dir_all(dir.join("lists/partial"))?;
            fs::write(&file, source)?;
        }
        Ok(Self { dir })
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = sh::tool(program)?;
        let dir = self.dir.display();
        for option in [
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            format!("Dir::Etc::SourceParts={dir}/sources"),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::State::extended_states={dir}/extended_states"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}"),
            format!("Dir::Cache::archives={dir}/archives"),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        Ok(command)
    }

    /// Fetches the package lists unless those of the last hours are there.
    pub(crate) fn update(&self, force: bool) -> Result<()> {
        let stamp = self.dir.join("updated");
        let fresh = fs::metadata(&stamp)
            .and_then(|m| m.modified())
            .is_ok_and(|t| {
                SystemTime::now().duration_since(t).unwrap_or_default()
                    < Duration::from_secs(6 * 3600)
            });
        let sources = fs::metadata(self.dir.join("sources/murphy.sources"))?.modified()?;
        let newer = fs::metadata(&stamp)
            .and_then(|m| m.modified())
            .is_ok_and(|t| t >= sources);
        if fresh && newer && !force {
            return Ok(());
        }
        // A suite that is gone is a warning for apt; here it is an error.
        sh::run(self.command("apt-get")?.args([
            "-qq",
            "-o",
            "APT::Update::Error-Mode=any",
            "update",
        ]))?;
        fs::write(stamp, "")?;
        Ok(())
    }

    /// What installing `packages` on an empty system would fetch.
    pub(crate) fn resolve(&self, suite: &str, packages: &[&str]) -> Result<Vec<Deb>> {
        let text = sh::run(
            self.command("apt-get")?
                .args(["install", "--print-uris", "-qq", "-y", "-t", suite])
                .args(packages),
        )?;
        let debs = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (name, _) = words.next()?.split_once('_')?;
            let bytes = words.next()?.parse().ok()?;
            let name = name.to_owned();
            Some(Deb { name, bytes })
        });
        Ok(debs.collect())
    }

    /// Fetches packages (verified by apt) and unpacks them into `into`.
    pub(crate) fn unpack(&self, suite: &str, packages: &[String], into: &Path) -> Result<()> {
        let archives = self.dir.join("archives");
        sh::run(
            self.command("apt-get")?
                .current_dir(&archives)
                .args(["download", "-qq", "-t", suite])
                .args(packages),
        )?;
        fs::create_dir_all(into)?;
        for entry in fs::read_dir(&archives)? {
            let file = entry?.path();
            if file.extension().is_some_and(|e| e == "deb") {
                sh::run(sh::tool("dpkg-deb")?.arg("-x").arg(&file).arg(into))?;
                fs::remove_file(&file)?;
            }
        }
        Ok(())
    }
}

/// Which of `packages` the system lacks.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |name: &str| {
        let Ok(mut query) = sh::tool("dpkg-query") else {
            return false;
        };
        sh::output(query.args(["-W", "-f", "${Status}", name]))
            .is_ok_and(|done| done.stdout.ends_with("ok installed"))
    };
    packages.iter().copied().filter(|p| !installed(p)).collect()
}

/// Installs packages from the system's own sources.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "installing packages needs root. Run\n    sudo apt-get install --no-install-recommends {}\n\
             and then `cargo xtask setup` again, which needs no root",
            packages.join(" ")
        );
    }
    let attempt = || {
        sh::run(
            sh::tool("apt-get")?
                .args(["-qq", "-y", "--no-install-recommends", "install"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive")
                // Maintainer scripts see a rescue run level: no service is started.
                .env("RUNLEVEL", "1"),
        )
    };
    // Fresh machines have no lists, or old ones.
    if attempt().is_err() {
        sh::run(sh::tool("apt-get")?.args(["-qq", "update"]))?;
        attempt()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources() {
        let text = "# deb http://a bookworm main\n\
                    deb http://b/debian-security bookworm-security main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://c/debian bookworm contrib main\n";
        let got = from_list(text, "bookworm").unwrap();
        assert_eq!(got.uri, "http://c/debian");
        assert_eq!(got.signed_by.as_deref(), Some("/k.gpg"));
        assert_eq!(from_list(text, "trixie"), None);
    }

    #[test]
    fn deb822_sources() {
        let text = "Types: deb\nURIs: http://off\nSuites: bookworm\nComponents: main\nEnabled: no\n\n\
                    Types: deb deb-src\n# old\nURIs: http://a/debian http://b\n\
                    Suites: bookworm bookworm-updates\nComponents: main contrib\n\
                    Signed-By:\n -----BEGIN\n .\n -----END\n";
        let got = from_deb822(text, "bookworm").unwrap();
        assert_eq!(got.uri, "http://a/debian");
        assert_eq!(
            got.signed_by.as_deref(),
            Some("\n -----BEGIN\n .\n -----END")
        );
        assert!(got.line("sid").is_err());
        assert_eq!(from_deb822(text, "sid"), None);
    }
}
