//! The initrd of one boot: busybox, the modules that reach the root, our scripts and the payload.
//!
//! A "newc" cpio archive, written here because it is sixty lines and saves a program and its races.

use std::{
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{kernels::Kernel, sh};

/// What the guest is to do.
pub(crate) struct Job<'a> {
    /// A shell script.
    pub(crate) command: String,
    /// `NAME=VALUE` for it.
    pub(crate) environment: Vec<(String, String)>,
    /// Files for `/murphy/bin`.
    pub(crate) payload: &'a [PathBuf],
}

/// Writes the archive.
pub(crate) fn write(to: &Path, kernel: &Kernel, job: &Job) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut cpio = Cpio {
        out: BufWriter::with_capacity(1 << 20, file),
        inode: 1,
    };
    for dir in ["bin", "boot", "dev", "payload", "payload/bin"] {
        cpio.entry(dir, 0o040_755, &[])?;
    }
    // The kernel wants a console before /dev is mounted.
    cpio.device("dev/console", 5, 1)?;
    let busybox =
        sh::which("busybox").context("busybox is missing: run `cargo xtask setup --only vm`")?;
    cpio.file("bin/busybox", 0o755, &busybox)?;
    for module in &kernel.boot_modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        cpio.file(&format!("boot/{name}"), 0o644, module)?;
    }
    cpio.entry("init", 0o100_755, include_bytes!("guest-init.sh"))?;
    cpio.entry(
        "payload/boot.sh",
        0o100_644,
        include_bytes!("guest-boot.sh"),
    )?;
    cpio.entry("payload/command.sh", 0o100_644, job.command.as_bytes())?;
    let environment: String = job
        .environment
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quote(value)))
        .collect();
    cpio.entry("payload/environment", 0o100_644, environment.as_bytes())?;
    for file in job.payload {
        let name = file
            .file_name()
            .with_context(|| format!("{} has no file name", file.display()))?
            .to_string_lossy();
        let mode = std::fs::metadata(file)
            .with_context(|| format!("cannot read the payload {}", file.display()))?
            .permissions()
            .mode();
        cpio.file(&format!("payload/bin/{name}"), mode & 0o777, file)?;
    }
    cpio.entry("TRAILER!!!", 0, &[])?;
    cpio.out.flush()?;
    Ok(())
}

/// A word as the shell reads it back.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

struct Cpio<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    fn header(&mut self, name: &str, mode: u32, size: usize, device: (u32, u32)) -> Result<()> {
        let size = u32::try_from(size).context("a payload file of 4 GB or more")?;
        write!(
            self.out,
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name}\0",
            self.inode,
            0,
            0,
            1,
            0,
            0,
            0,
            device.0,
            device.1,
            name.len() + 1,
            0,
        )?;
        self.inode += 1;
        self.pad(110 + name.len() + 1)
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.header(name, mode, data.len(), (0, 0))?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        self.header(name, 0o020_600, 0, (major, minor))
    }

    fn file(&mut self, name: &str, mode: u32, source: &Path) -> Result<()> {
        let data =
            std::fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        self.entry(name, 0o100_000 | mode, &data)
    }

    /// Names and data begin at multiples of four.
    fn pad(&mut self, written: usize) -> Result<()> {
        Ok(self
            .out
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_layout() {
        let mut cpio = Cpio {
            out: Vec::new(),
            inode: 1,
        };
        cpio.entry("ab", 0o100_644, b"hello").unwrap();
        let out = cpio.out;
        assert_eq!(&out[..6], b"070701");
        assert_eq!(&out[54..62], b"00000005");
        // 110 + 3 = 113, padded to 116.
        assert_eq!(&out[110..121], b"ab\0\0\0\0hello");
        assert_eq!(out.len() % 4, 0);
    }

    #[test]
    fn quoting() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
