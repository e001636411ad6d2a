//! Circles of files: where one uses what another defines, and the other, directly or not, what this
//! one defines. The top's layers exclude them between modules; this excludes them inside of one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::outline::{Outline, Place, outline};

/// A file as the graph sees it.
struct File {
    /// Path below the folder of sources, with `/`.
    name: String,
    /// Names of its module from the root of its crate; the root's place is first.
    module: Module,
    outline: Outline,
}

type Module = Vec<String>;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Module(Module),
    /// An item in the file with this place.
    Item(usize),
}

/// The files of a folder of sources and what leads from one to another.
pub(super) struct Graph {
    files: Vec<File>,
    by_module: BTreeMap<Module, usize>,
}

/// Files that use each other, as steps that lead from a file back to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// All files that are in circles with each other.
    pub(super) files: BTreeSet<String>,
    /// The shortest way around, as lines to print.
    pub(super) steps: Vec<String>,
}

impl Graph {
    /// Follows the declarations of modules from the roots. `sources`: names of files below the
    /// folder, and their code without comments, texts and tests.
    pub(super) fn new(sources: &BTreeMap<String, String>) -> Self {
        let mut graph = Self {
            files: Vec::new(),
            by_module: BTreeMap::new(),
        };
        for root in sources.keys() {
            let is_root = matches!(root.as_str(), "lib.rs" | "main.rs")
                || root.starts_with("bin/") && root.ends_with("/main.rs");
            if is_root {
                let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
                graph.add(sources, root, folder, vec![root.clone()]);
            }
        }
        graph
    }

    fn add(
        &mut self,
        sources: &BTreeMap<String, String>,
        name: &str,
        folder: &str,
        module: Module,
    ) {
        let outline = outline(&sources[name]);
        let children = outline.children.clone();
        self.by_module.insert(module.clone(), self.files.len());
        self.files.push(File {
            name: name.to_owned(),
            module: module.clone(),
            outline,
        });
        for child in children {
            let below = if folder.is_empty() {
                child.clone()
            } else {
                format!("{folder}/{child}")
            };
            let module = module.iter().cloned().chain([child]).collect::<Vec<_>>();
            for file in [format!("{below}.rs"), format!("{below}/mod.rs")] {
                if sources.contains_key(&file) {
                    self.add(sources, &file, &below, module.clone());
                }
            }
        }
    }

    /// Names of the files that are part of the crates.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// All circles.
    pub(super) fn circles(&self) -> Vec<Circle> {
        let edges = (0..self.files.len())
            .map(|file| self.edges(file))
            .collect::<Vec<_>>();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::<usize>::new();
        for start in 0..self.files.len() {
            if seen.contains(&start) {
                continue;
            }
            let Some(steps) = self.way(&edges, start, start) else {
                continue;
            };
            let ahead = reached(&edges, start);
            let files = ahead
                .into_iter()
                .filter(|file| reached(&edges, *file).contains(&start))
                .collect::<BTreeSet<_>>();
            seen.extend(&files);
            circles.push(Circle {
                files: files
                    .into_iter()
                    .map(|file| self.files[file].name.clone())
                    .collect(),
                steps,
            });
        }
        circles
    }

    /// What a file uses of others: their places, each with where it does.
    fn edges(&self, from: usize) -> BTreeMap<usize, Place> {
        let File {
            module, outline, ..
        } = &self.files[from];
        let mut edges = BTreeMap::new();
        if outline.is_door {
            return edges;
        }
        let named = outline.imports.iter().map(|import| &import.target);
        for place in named.chain(&outline.paths) {
            let mut seen = BTreeSet::new();
            if let Some(Found::Item(to)) = self.resolve(module, &place.path, &mut seen)
                && to != from
            {
                edges.entry(to).or_insert_with(|| place.clone());
            }
        }
        edges
    }

    /// Where a path in a module leads; `None` where that is another crate or no item at all.
    fn resolve(
        &self,
        module: &Module,
        path: &[String],
        seen: &mut BTreeSet<(Module, String)>,
    ) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        let mut here = match first.as_str() {
            "crate" => Found::Module(module[..1].to_vec()),
            "self" => Found::Module(module.clone()),
            "super" => Found::Module(module[..module.len().checked_sub(1)?].to_vec()),
            name => self.look_up(module, name, seen)?,
        };
        for name in rest {
            let Found::Module(module) = &here else {
                return Some(here);
            };
            here = if name == "super" {
                Found::Module(module[..module.len().checked_sub(1)?].to_vec())
            } else {
                self.look_up(module, name, seen)?
            };
        }
        Some(here)
    }

    /// What a name is in a module.
    fn look_up(
        &self,
        module: &Module,
        name: &str,
        seen: &mut BTreeSet<(Module, String)>,
    ) -> Option<Found> {
        if !seen.insert((module.clone(), name.to_owned())) {
            return None;
        }
        let file = *self.by_module.get(module)?;
        let outline = &self.files[file].outline;
        if outline.items.iter().any(|item| item == name) {
            return Some(Found::Item(file));
        }
        let child = module.iter().cloned().chain([name.to_owned()]).collect();
        if self.by_module.contains_key(&child) {
            return Some(Found::Module(child));
        }
        let mut globs = Vec::new();
        for import in &outline.imports {
            match &import.name {
                Some(alias) if alias == name => {
                    let found = self.resolve(module, &import.target.path, seen);
                    if found.is_some() {
                        return found;
                    }
                }
                Some(_) => {}
                None => globs.push(&import.target.path),
            }
        }
        globs.into_iter().find_map(|path| {
            let Found::Module(module) = self.resolve(module, path, seen)? else {
                return None;
            };
            self.look_up(&module, name, seen)
        })
    }

    /// The shortest way from a file to another, by at least one step.
    fn way(&self, edges: &[BTreeMap<usize, Place>], from: usize, to: usize) -> Option<Vec<String>> {
        let mut before = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(file) = queue.pop_front() {
            for next in edges[file].keys() {
                if !before.contains_key(next) {
                    before.insert(*next, file);
                    queue.push_back(*next);
                }
            }
        }
        let mut steps = VecDeque::new();
        let mut at = to;
        loop {
            let user = *before.get(&at)?;
            let Place { path, line } = &edges[user][&at];
            steps.push_front(format!(
                "{}:{line} uses `{}` of {}",
                self.files[user].name,
                path.join("::"),
                self.files[at].name
            ));
            at = user;
            if at == from {
                return Some(steps.into());
            }
        }
    }
}

fn reached(edges: &[BTreeMap<usize, Place>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in edges[file].keys() {
            if reached.insert(*next) {
                open.push(*next);
            }
        }
    }
    reached
}

mod tests {
    use super::*;

    /// Names of the files in each circle of made-up sources.
    fn found(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
        let sources = sources
            .iter()
            .map(|(name, code)| ((*name).to_owned(), super::super::source::strip(code)))
            .collect();
        let circles = Graph::new(&sources).circles();
        circles
            .into_iter()
            .map(|circle| circle.files.into_iter().collect())
            .collect()
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a;");
    const DOOR: (&str, &str) = ("a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C;");

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        for (b, c) in [
            (
                "use super::c::C; struct B(C);",
                "use super::b::B; struct C(B);",
            ),
            (
                "use super::C; struct B(C);",
                "use crate::a::B; struct C(B);",
            ),
            (
                "struct B(super::C);",
                "struct C; fn f() { crate::a::B::new(); }",
            ),
            (
                "use super::c; struct B(c::C);",
                "use crate::a::{self, b}; struct C(b::B);",
            ),
            (
                "use super::{c as d}; struct B(d::C);",
                "use super::*; struct C(super::B);",
            ),
            (
                "struct B; mod i { use super::super::C; }",
                "use super::B as D; struct C;",
            ),
            (
                "struct B; mod i { pub fn f() {} } use super::C;",
                "struct C; fn f() { super::b::i::f(); }",
            ),
            (
                "macro! { struct B; }\nuse super::C;",
                "struct C; impl C { fn f(self) -> super::B { todo() } }",
            ),
        ] {
            let circles = found(&[ROOT, DOOR, ("a/b.rs", b), ("a/c.rs", c)]);
            assert_eq!(circles, [["a/b.rs", "a/c.rs"]], "{b} {c}");
        }
    }

    #[test]
    fn one_way_is_none_nor_are_doors_texts_tests_and_other_crates() {
        for (b, c) in [
            ("use super::c::C; struct B(C);", "struct C;"),
            ("use super::C; struct B(C);", "struct C; // super::B"),
            (
                "use super::C; struct B(C);",
                "struct C; fn f() { x(\"super::B\"); }",
            ),
            (
                "use super::C;",
                "struct C; #[cfg(test)] mod tests { use super::super::B; }",
            ),
            (
                "use super::C; struct B;",
                "struct C; fn f() { other::B::new(); x.B::y(); }",
            ),
            (
                "use super::C; struct B;",
                "struct C; pub(in super::B) fn f() {}",
            ),
            (
                "struct B; impl super::C {}",
                "struct C; fn f(c: &C) { c.method(); B::x(); }",
            ),
        ] {
            let circles = found(&[ROOT, DOOR, ("a/b.rs", b), ("a/c.rs", c)]);
            assert_eq!(circles, [[""; 0]; 0], "{b} {c}");
        }
    }

    #[test]
    fn a_parent_with_items_is_no_door() {
        let uses = ("a/b.rs", "use super::A; struct B(A);");
        assert_eq!(
            found(&[ROOT, ("a/mod.rs", "mod b; pub use b::B; struct A;"), uses]),
            [["a/b.rs", "a/mod.rs"]]
        );
        assert_eq!(
            found(&[ROOT, ("a/mod.rs", "mod b; struct A;"), uses]),
            [[""; 0]; 0],
            "only declared"
        );
        assert_eq!(
            found(&[ROOT, ("a.rs", "mod b; struct A(b::B);"), uses]),
            [["a.rs", "a/b.rs"]]
        );
        assert_eq!(
            found(&[
                ROOT,
                ("a.rs", "mod b; mod c; use c::A; fn f() { b::f(); }"),
                ("a/c.rs", "struct A;"),
                ("a/b.rs", "use super::A; fn f() {}"),
            ]),
            [[""; 0]; 0],
            "what it only imports is defined elsewhere"
        );
    }

    #[test]
    fn a_circle_over_three_corners_is_told_step_by_step() {
        let sources = [
            ROOT,
            ("a.rs", "mod b; mod c; mod d;"),
            ("a/b.rs", "\nuse super::c::C;\nstruct B;"),
            ("a/c.rs", "struct C(\nsuper::d::D);"),
            ("a/d.rs", "use super::b::{\n  B,\n};\nstruct D;"),
        ]
        .map(|(name, code)| (name.to_owned(), code.to_owned()))
        .into();
        assert_eq!(
            Graph::new(&sources).circles(),
            [Circle {
                files: ["a/b.rs", "a/c.rs", "a/d.rs"].map(str::to_owned).into(),
                steps: [
                    "a/b.rs:2 uses `super::c::C` of a/c.rs",
                    "a/c.rs:2 uses `super::d::D` of a/d.rs",
                    "a/d.rs:2 uses `super::b::B` of a/b.rs",
                ]
                .map(str::to_owned)
                .into(),
            }]
        );
    }

    #[test]
    fn programs_are_crates_of_their_own() {
        assert_eq!(
            found(&[
                ("lib.rs", "pub mod b; pub struct A;"),
                ("b.rs", "pub struct B;"),
                ("bin/p/main.rs", "mod b; struct A;"),
                ("bin/p/b.rs", "use crate::A; use crate::b::A as X;"),
            ]),
            [[""; 0]; 0]
        );
        assert_eq!(
            found(&[
                ("bin/p/main.rs", "mod b; struct A(b::B);"),
                ("bin/p/b.rs", "use crate::A; struct B;"),
            ]),
            [["bin/p/b.rs", "bin/p/main.rs"]]
        );
    }
}
