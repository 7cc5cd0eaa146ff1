//! Rules about the sources that no lint knows.

use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A process that is named by its number may be another by the time of use: only one module works
/// with such numbers, and pins what they name.
#[test]
fn one_module_handles_process_numbers() {
    const FORBIDDEN: [&str; 4] = ["process_vm_", "kill(", "\"/proc/{", "pidfd_open("];
    let mut files = Vec::new();
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        rust_files(&entry.unwrap().path().join("src"), &mut files);
    }
    rust_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    assert!(files.len() > 100, "{}", files.len());
    let mut wrong = Vec::new();
    let mut allowed = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if !FORBIDDEN.iter().any(|word| line.contains(word)) {
                continue;
            }
            if file.ends_with("sys/src/process.rs") {
                allowed += 1;
            } else {
                wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "use murphy_sys::process instead:\n{}",
        wrong.join("\n")
    );
    assert!(allowed > 0);
}
