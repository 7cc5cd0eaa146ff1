//! Where something is measured.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::rows::Row;
use crate::{
    progress::Step,
    sh,
    vm::build::{self, Profile, static_cargo},
};

/// A machine that measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// This one, with its kernel.
    Host,
    /// A VM with this kernel, as of `cargo xtask vm`.
    Vm(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => {
                let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
                write!(f, "host, Linux {}", release.trim())
            }
            Self::Vm(kernel) => write!(f, "VM (emulated), {kernel}"),
        }
    }
}

impl Place {
    /// Measures a group there, in a boot of its own.
    pub(super) fn measure(
        &self,
        program: &Program,
        group: &str,
        repetitions: usize,
    ) -> Result<Vec<Row>> {
        let step = Step::start(format!("{group}: {self}"));
        let mut command = match self {
            Self::Host => {
                let mut command = Command::new(&program.path);
                command.env("MURPHY_BIN", &program.murphy);
                let path = env::var_os("PATH").unwrap_or_default();
                let folders = program.beside.iter().filter_map(|tool| tool.parent());
                let folders = folders.map(Path::to_owned).chain(env::split_paths(&path));
                command.env("PATH", env::join_paths(folders)?);
                command
            }
            Self::Vm(kernel) => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["vm", "--timeout", "60m", "--kernel", kernel, "--payload"]);
                command.arg(&program.path);
                for tool in &program.beside {
                    command.arg("--payload").arg(tool);
                }
                command.arg("--");
                command.arg(program.path.file_name().unwrap_or_default());
                command
            }
        };
        let done = sh::output(command.args([group, &repetitions.to_string()]))?;
        ensure!(done.status.success(), "{group}: {}", done.stderr);
        let rows = done.stdout.lines().map(Row::parse);
        let rows = rows.collect::<Result<Vec<_>>>()?;
        step.end("done", "");
        // What could not be measured, and why.
        eprint!("{}", done.stderr);
        Ok(rows)
    }
}

/// What measures, and murphy, both built statically: the same run here and in a VM.
pub(super) struct Program {
    path: PathBuf,
    murphy: PathBuf,
    /// Programs that it finds on its PATH.
    beside: Vec<PathBuf>,
}

impl Program {
    /// Builds both.
    pub(super) fn build(name: &str) -> Result<Self> {
        let step = Step::start("building murphy and what measures it");
        let murphy = build::murphy(Profile::Release)?;
        let mut cargo = static_cargo("build", Profile::Release);
        cargo.args(["-p", "tests", "--bench", name]);
        let built = build::artifacts(cargo)?;
        if !built.errors.is_empty() {
            bail!("{}", built.errors);
        }
        let found = built.artifacts.into_iter().find(|made| made.name == name);
        let path = found
            .map(|made| made.path)
            .with_context(|| format!("cargo built no {name}"))?;
        step.end("done", "");
        let beside = Vec::new();
        Ok(Self {
            path,
            murphy,
            beside,
        })
    }

    /// With another program on its PATH.
    pub(super) fn beside(mut self, tool: PathBuf) -> Self {
        self.beside.push(tool);
        self
    }
}

/// Prints what was measured, and writes it to a file if there is to be one.
pub(super) fn show(measured: &[(Place, Vec<Row>)], file: Option<&Path>) -> Result<()> {
    for (place, rows) in measured {
        let place = place.to_string();
        super::rows::print(&place, rows);
        if let Some(file) = file {
            super::rows::write(file, &place, rows)?;
        }
    }
    Ok(())
}
