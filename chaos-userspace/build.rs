//! Embeds the kernel objects and refuses stale ones: a program that injects
//! something else than its sources say would be the worst of bugs.

use std::path::Path;

mod provenance {
    include!("../chaos-ebpf/provenance.rs");
}

fn main() -> Result<(), String> {
    // Relative to the package, where cargo runs this: two checkouts may share a target folder, and with it this program.
    let workspace = Path::new("..");
    for source in provenance::SOURCES {
        println!("cargo::rerun-if-changed=../{source}");
    }
    let objects = workspace.join("chaos-ebpf/objects");
    println!("cargo::rerun-if-changed={}", objects.display());

    let digest = provenance::sources_digest(workspace).map_err(|error| error.to_string())?;
    for name in provenance::OBJECTS {
        let path = objects.join(format!("{name}.o"));
        let object = std::fs::read(&path)
            .map_err(|error| format!("{}: {error}; make it: cargo xtask ebpf", path.display()))?;
        if provenance::recorded(&object, "murphy-sources:") != Some(digest.clone()) {
            return Err(format!(
                "chaos-ebpf/objects/{name}.o was not made from the kernel programs' sources as \
                 they are now; make it anew: cargo xtask ebpf"
            ));
        }
    }
    Ok(())
}
