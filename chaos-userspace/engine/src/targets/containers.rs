//! Containers: what their cgroups are called, and the names people give them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// What runtimes put before the id in the name of a systemd scope or a cgroup.
/// `libpod-payload` is what podman makes where it splits a cgroup.
const PREFIXES: [&str; 6] = [
    "docker-",
    "cri-containerd-",
    "crio-",
    "libpod-payload-",
    "libpod-",
    "nerdctl-",
];

/// Length of an id: 32 bytes in hexadecimal.
const ID: usize = 64;

/// The id of the container whose cgroup has this name. Its monitor (`crio-conmon-ID`,
/// `libpod-conmon-ID`) is not it.
pub(super) fn id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let id = PREFIXES
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let is_id = id.len() == ID
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_id.then_some(id)
}

/// The id of the container that a cgroup path lies in; the innermost, where one is in another.
pub(super) fn id_in_path(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(id)
}

/// Ids that somebody may mean: those that begin like it, and those of containers called so.
pub(super) fn meant(word: &str, present: &BTreeSet<String>) -> BTreeSet<String> {
    let named = named(word);
    present
        .iter()
        .filter(|id| id.starts_with(word) || named.contains(*id))
        .cloned()
        .collect()
}

/// What docker notes of a container, as far as it is asked.
#[derive(Deserialize)]
struct Docker {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
}

/// What podman and cri-o note.
#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

/// Ids of containers that have this name.
fn named(name: &str) -> BTreeSet<String> {
    let with_name = |(id, of): (String, String)| (of == name).then_some(id);
    noted().into_iter().filter_map(with_name).collect()
}

/// The names of a container.
pub(crate) fn names(id: &str) -> Vec<String> {
    let of_id = |(of, name): (String, String)| (of == id).then_some(name);
    noted().into_iter().filter_map(of_id).collect()
}

/// Ids with names. What runtimes note on disk is read, so none of them is asked.
fn noted() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let docker = fs::read_dir("/var/lib/docker/containers");
    for entry in docker.into_iter().flatten().flatten() {
        if let Ok(text) = fs::read(entry.path().join("config.v2.json"))
            && let Ok(container) = serde_json::from_slice::<Docker>(&text)
        {
            let name = container.name.trim_start_matches('/').to_owned();
            found.push((container.id, name));
        }
    }
    for storage in [
        "/var/lib/containers/storage/overlay-containers",
        "/var/lib/containers/storage/vfs-containers",
    ] {
        for list in ["containers.json", "volatile-containers.json"] {
            found.extend(stored(&Path::new(storage).join(list)));
        }
    }
    found
}

fn stored(list: &Path) -> Vec<(String, String)> {
    let Ok(text) = fs::read(list) else {
        return Vec::new();
    };
    let containers: Vec<Stored> = serde_json::from_slice(&text).unwrap_or_default();
    let pairs = |container: Stored| {
        let id = container.id;
        let names = container.names.into_iter();
        names.map(move |name| (id.clone(), name))
    };
    containers.into_iter().flat_map(pairs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn ids_as_runtimes_write_them() {
        for path in [
            format!("/system.slice/docker-{A}.scope"),
            format!("/docker/{A}"),
            format!("/docker/{A}/inner/cgroup"),
            format!("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{A}.scope"),
            format!("/kubepods/burstable/pod1-2/{A}"),
            format!("/kubepods.slice/crio-{A}.scope"),
            format!("/machine.slice/libpod-{A}.scope/container"),
        ] {
            assert_eq!(id_in_path(&path), Some(A), "{path}");
        }
        for path in [
            "/",
            "/system.slice/docker.service",
            "/kubepods.slice",
            "/docker/0123",
        ] {
            assert_eq!(id_in_path(path), None, "{path}");
        }
        assert_eq!(id(&format!("libpod-conmon-{A}.scope")), None);
        assert_eq!(id(&format!("crio-conmon-{A}.scope")), None);
        assert_eq!(id(&A.to_uppercase()), None);
    }

    #[test]
    fn the_beginning_of_an_id_means_it() {
        let present = BTreeSet::from([A.to_owned(), A.replace('0', "1")]);
        assert_eq!(meant("01", &present), BTreeSet::from([A.to_owned()]));
        assert_eq!(meant("no such container", &present), BTreeSet::new());
    }

    #[test]
    fn names_that_podman_notes() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("containers.json");
        let text = r#"[{"id":"a","names":["web"],"image":"x"},{"id":"b"}]"#;
        fs::write(&list, text).unwrap();
        assert_eq!(stored(&list), [("a".to_owned(), "web".to_owned())]);
        fs::write(&list, "not JSON").unwrap();
        assert!(stored(&list).is_empty());
    }
}
