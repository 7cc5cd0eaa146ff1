//! The module graph has no cycles: a module can be read, tested and moved to a crate of its own
//! without the modules that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The path of a module below the crate's root: `["engine", "session"]`.
type Module = Vec<String>;

/// Collects the paths that a file names, as far as they are written out.
struct Named<'m> {
    /// The module that is being read.
    here: &'m Module,
    found: Vec<Module>,
}

impl Named<'_> {
    /// Adds a path that begins with `crate`, `self` or `super`.
    fn add(&mut self, words: &[String]) {
        let mut from = match words.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.here.clone(),
            _ => return,
        };
        let mut words = words;
        while let [first, rest @ ..] = words {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => {
                    from.pop();
                }
                _ => break,
            }
            words = rest;
        }
        from.extend(words.iter().cloned());
        self.found.push(from);
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.add(&with(name.ident.to_string())),
            UseTree::Rename(name) => self.add(&with(name.ident.to_string())),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.tree(before, tree);
                }
            }
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test")
    })
}

impl<'ast> Visit<'ast> for Named<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_for_tests(&module.attrs) => {}
            Item::Use(import) if is_for_tests(&import.attrs) => {}
            Item::Use(import) => self.tree(&[], &import.tree),
            other => visit::visit_item(self, other),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        self.add(&words);
        visit::visit_path(self, path);
    }
}

/// All modules of a folder with their files. `mod.rs` and `lib.rs` are the folder's own.
fn files(folder: &Path, of: &Module, found: &mut Vec<(Module, PathBuf)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let stem = stem.to_owned();
        if path.is_dir() {
            files(&path, &[&of[..], &[stem]].concat(), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = match stem.as_str() {
                "mod" | "lib" => of.clone(),
                // The binary's, and files of tests alone.
                "main" | "tests" => continue,
                _ => [&of[..], &[stem]].concat(),
            };
            found.push((module, path));
        }
    }
}

/// Which siblings use which, by the module that they are in.
type Edges = BTreeMap<Module, BTreeMap<String, BTreeMap<String, PathBuf>>>;

fn edges(modules: &[(Module, PathBuf, syn::File)]) -> Edges {
    let known: BTreeSet<&Module> = modules.iter().map(|(module, ..)| module).collect();
    let mut edges = Edges::new();
    for (module, file, parsed) in modules {
        let mut named = Named {
            here: module,
            found: Vec::new(),
        };
        named.visit_file(parsed);
        for path in named.found {
            let common = module.iter().zip(&path).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (module.get(common), path.get(common)) else {
                continue;
            };
            // An item of the module that both are in is no sibling.
            if known.contains(&path[..=common].to_vec()) {
                edges
                    .entry(module[..common].to_vec())
                    .or_default()
                    .entry(from.clone())
                    .or_default()
                    .entry(to.clone())
                    .or_insert_with(|| file.clone());
            }
        }
    }
    edges
}

/// A way from a node back to itself.
fn cycle(of: &BTreeMap<String, BTreeMap<String, PathBuf>>, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in of.get(way.last()?).into_iter().flatten() {
            if next.0 == start {
                return Some([way, vec![start.to_owned()]].concat());
            }
            if seen.insert(next.0.clone()) {
                ways.push([&way[..], std::slice::from_ref(next.0)].concat());
            }
        }
    }
    None
}

#[test]
fn modules_do_not_use_each_other_in_circles() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = fs::read_dir(here).unwrap();
    let crates = folders.map(|entry| entry.unwrap().path().join("src"));
    let mut wrong = Vec::new();
    let mut read = 0;
    for source in crates
        .chain([here.join("src")])
        .filter(|path| path.is_dir())
    {
        read += circles(&source, &mut wrong);
    }
    assert!(read > 100, "{read}");
    assert!(wrong.is_empty(), "cycles:\n{}", wrong.join("\n"));
}

/// Adds the circles of one crate, and returns how many modules it has.
fn circles(source: &Path, wrong: &mut Vec<String>) -> usize {
    let mut modules = Vec::new();
    files(source, &Vec::new(), &mut modules);
    let parsed: Vec<_> = modules
        .into_iter()
        .filter_map(|(module, file)| {
            let text = fs::read_to_string(&file).ok()?;
            Some((module, file, syn::parse_file(&text).ok()?))
        })
        .collect();
    for (parent, mut of) in edges(&parsed) {
        // Files of one folder may work together; folders may not.
        let is_folder = |name: &String| {
            let path = parent.iter().chain([name]).collect::<PathBuf>();
            source.join(path).is_dir()
        };
        of.retain(|name, _| is_folder(name));
        for targets in of.values_mut() {
            targets.retain(|name, _| is_folder(name));
        }
        let starts: Vec<_> = of.keys().cloned().collect();
        for start in starts {
            let Some(way) = cycle(&of, &start) else {
                continue;
            };
            let files: Vec<_> = way
                .windows(2)
                .map(|step| of[&step[0]][&step[1]].display().to_string())
                .collect();
            wrong.push(format!(
                "{}: {} ({})",
                parent.join("::"),
                way.join(" -> "),
                files.join(", ")
            ));
        }
    }
    parsed.len()
}

#[test]
fn a_cycle_is_found() {
    let one = |to: &str| BTreeMap::from([(to.to_owned(), PathBuf::new())]);
    let mut of = BTreeMap::from([("a".to_owned(), one("b")), ("b".to_owned(), one("c"))]);
    assert_eq!(cycle(&of, "a"), None);
    of.insert("c".to_owned(), one("a"));
    assert_eq!(cycle(&of, "a").unwrap(), ["a", "b", "c", "a"]);
}
