// Included by `cargo xtask ebpf`, which records the digest in the objects, and by
// the build script of chaos-userspace, which compares it.

/// Names of the objects: the binaries of this crate, one per hook family.
pub(crate) const OBJECTS: [&str; 5] = ["net", "lsm", "kprobe", "trace", "uprobe"];

/// Folders and files that the objects are made from, below the workspace.
pub(crate) const SOURCES: [&str; 4] = [
    "chaos-common/Cargo.toml",
    "chaos-common/src",
    "chaos-ebpf/Cargo.toml",
    "chaos-ebpf/src",
];

/// SHA-256 over the names and contents of all sources, in hexadecimal.
pub(crate) fn sources_digest(workspace: &std::path::Path) -> std::io::Result<String> {
    use sha2::Digest as _;

    let mut files = Vec::new();
    for source in SOURCES {
        collect(&workspace.join(source), &mut files)?;
    }
    files.sort();
    let mut digest = sha2::Sha256::new();
    for file in &files {
        let name = file.strip_prefix(workspace).unwrap_or(file);
        let content = std::fs::read(file)?;
        digest.update(name.to_string_lossy().as_bytes());
        digest.update([0]);
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(&content);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn collect(path: &std::path::Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

/// What an object says after `key` in its `.murphy` section, up to the line's end.
pub(crate) fn recorded(object: &[u8], key: &str) -> Option<String> {
    let start = object.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let line = object[start..].split(|&byte| byte == b'\n').next()?;
    String::from_utf8(line.to_vec()).ok()
}
