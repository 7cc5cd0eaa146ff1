//! Refuses objects that were not made from the sources beside them: a program that injects
//! something else than its sources say would be the worst of bugs.

use std::path::Path;

mod provenance {
    include!("provenance.rs");
}

fn main() -> Result<(), String> {
    // Relative to the package, where cargo runs this: two checkouts may share a target folder, and
    // with it this program.
    let workspace = Path::new("../..");
    for name in provenance::OBJECTS {
        println!("cargo::rerun-if-changed={name}.o");
    }
    // A published package has the objects alone.
    if !workspace.join("chaos-ebpf/Cargo.toml").exists() {
        return Ok(());
    }
    for source in provenance::SOURCES {
        println!("cargo::rerun-if-changed=../../{source}");
    }
    let digest = provenance::sources_digest(workspace).map_err(|error| error.to_string())?;
    for name in provenance::OBJECTS {
        let path = format!("{name}.o");
        let object = std::fs::read(&path).map_err(|error| {
            format!("chaos-ebpf/objects/{path}: {error}; make it: cargo xtask ebpf")
        })?;
        if provenance::recorded(&object, "murphy-sources:") != Some(digest.clone()) {
            return Err(format!(
                "chaos-ebpf/objects/{name}.o was not made from the kernel programs' sources as \
                 they are now; make it anew: cargo xtask ebpf"
            ));
        }
    }
    Ok(())
}
