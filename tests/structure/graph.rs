//! Which module uses which: each path that a module names is followed to the module that it leads to.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write;

use crate::source::{Crate, What};

/// The uses between the modules of one crate that have files of their own.
pub struct Graph<'a> {
    of: &'a Crate,
    /// From and to, with one place at which the first uses the second.
    edges: BTreeMap<(usize, usize), Place>,
    /// What the modules use of other crates.
    pub outside: Vec<Outside>,
}

struct Place {
    path: String,
    line: usize,
}

/// A path that leads out of the crate.
pub struct Outside {
    pub module: usize,
    pub path: String,
    pub line: usize,
}

/// Where a path leads.
#[derive(Default)]
struct Way {
    /// The modules that it takes a name from: usually one; through a re-export also the one that a later segment is of.
    modules: Vec<usize>,
    /// The path as another crate would see it, if it leads to one.
    outside: Option<Vec<String>>,
}

impl<'a> Graph<'a> {
    pub fn of(of: &'a Crate) -> Graph<'a> {
        let mut edges = BTreeMap::new();
        let mut outside = Vec::new();
        for (index, module) in of.modules.iter().enumerate() {
            for used in &module.uses {
                let mut way = Way::default();
                follow(of, index, &used.path, used.what, &mut HashSet::new(), &mut way);
                for target in way.modules {
                    let (from, to) = (module.in_file_of, of.modules[target].in_file_of);
                    if from != to {
                        let place = Place { path: used.path.join("::"), line: used.line };
                        edges.entry((from, to)).or_insert(place);
                    }
                }
                if let Some(path) = way.outside {
                    outside.push(Outside { module: index, path: path.join("::"), line: used.line });
                }
            }
        }
        Graph { of, edges, outside }
    }

    /// Every circle: a set of modules each of which leads to each other one, with the places that make it one.
    pub fn circles(&self) -> Vec<String> {
        let reach: Vec<HashSet<usize>> = (0..self.of.modules.len()).map(|module| self.reach(module)).collect();
        let mut seen = HashSet::<usize>::new();
        let mut circles = Vec::new();
        for module in 0..self.of.modules.len() {
            if !reach[module].contains(&module) || seen.contains(&module) {
                continue;
            }
            let mut members: Vec<usize> =
                reach[module].iter().copied().filter(|&other| reach[other].contains(&module)).collect();
            members.sort_unstable();
            circles.push(self.describe(&members));
            seen.extend(members);
        }
        circles
    }

    /// The modules that `module` leads to, directly or through others: itself only if it stands in a circle.
    fn reach(&self, module: usize) -> HashSet<usize> {
        let mut reached = HashSet::new();
        let mut waiting = vec![module];
        while let Some(from) = waiting.pop() {
            waiting.extend(self.targets(from).filter(|&to| reached.insert(to)));
        }
        reached
    }

    fn targets(&self, from: usize) -> impl Iterator<Item = usize> {
        self.edges.range((from, 0)..(from + 1, 0)).map(|(&(_, to), _)| to)
    }

    /// Two lines for each pair of modules that use each other, and where there is no such pair the shortest way round.
    fn describe(&self, members: &[usize]) -> String {
        let both = |&(&a, &b): &(&usize, &usize)| self.edges.contains_key(&(a, b)) && self.edges.contains_key(&(b, a));
        let later = |a: &usize| members.iter().filter(|&b| a < b).collect::<Vec<_>>();
        let pairs = members.iter().flat_map(|a| later(a).into_iter().map(move |b| (a, b)));
        let mut rounds: Vec<Vec<usize>> = pairs.filter(both).map(|(&a, &b)| vec![a, b]).collect();
        if rounds.is_empty() {
            rounds.extend(members.iter().map(|&start| self.round(start)).min_by_key(Vec::len));
        }
        let mut text = format!("a circle of {} modules in {}", members.len(), self.of.name);
        for round in &rounds {
            for (step, &from) in round.iter().enumerate() {
                let to = round[(step + 1) % round.len()];
                let Place { path, line } = &self.edges[&(from, to)];
                let (from_label, to_label, file) =
                    (self.of.label(from), self.of.label(to), &self.of.modules[from].file);
                let _ = write!(text, "\n    {from_label} -> {to_label}   {}:{line}: {path}", file.display());
            }
        }
        let is_shown = |module: &&usize| rounds.iter().any(|round| round.contains(module));
        let others: Vec<String> =
            members.iter().filter(|module| !is_shown(module)).map(|&module| self.of.label(module)).collect();
        if !others.is_empty() {
            let _ = write!(text, "\n    also in it: {}", others.join(", "));
        }
        text
    }

    /// The shortest way from a module back to itself.
    fn round(&self, start: usize) -> Vec<usize> {
        let mut before = BTreeMap::new();
        let mut waiting = VecDeque::from([start]);
        while let Some(from) = waiting.pop_front() {
            for to in self.targets(from) {
                if to == start {
                    let mut round = vec![from];
                    while round[0] != start {
                        round.insert(0, before[&round[0]]);
                    }
                    return round;
                }
                before.entry(to).or_insert_with(|| {
                    waiting.push_back(to);
                    from
                });
            }
        }
        Vec::new()
    }

    /// The uses that leave `inside`, which is a module with all below it, for another module of the crate.
    pub fn leaving(&self, inside: &[&str]) -> Vec<String> {
        let is_inside = |module: usize| self.of.modules[module].is_within(inside);
        let mut found = Vec::new();
        for (&(from, to), place) in &self.edges {
            if is_inside(from) && !is_inside(to) {
                let file = self.of.modules[from].file.display();
                found.push(format!("{file}:{}: {} (of {})", place.line, place.path, self.of.label(to)));
            }
        }
        found
    }
}

/// Follows a path from where it stands. `seen` are the imports that led here, none of which is followed twice.
fn follow(of: &Crate, from: usize, path: &[String], what: What, seen: &mut HashSet<(usize, usize)>, way: &mut Way) {
    let mut module = from;
    let mut rest = path;
    let mut anchored = false;
    while let Some(first) = rest.first() {
        module = match first.as_str() {
            "crate" => 0,
            "self" => module,
            "super" => of.modules[module].parent.unwrap_or(0),
            _ => break,
        };
        anchored = true;
        rest = &rest[1..];
    }
    if anchored {
        return descend(of, module, rest, what, seen, way);
    }
    let Some(name) = rest.first() else { return };
    let here = &of.modules[from];
    let in_scope = here.items.contains(name)
        || here.children.contains_key(name)
        || here
            .imports
            .iter()
            .enumerate()
            .any(|(index, import)| import.name == *name && !seen.contains(&(from, index)));
    if in_scope {
        return descend(of, from, rest, what, seen, way);
    }
    // A macro by its bare name may be one that stands above in a module around this one.
    if what == What::Macro && rest.len() == 1 {
        let mut around = Some(from);
        while let Some(at) = around {
            let below = of.modules[at].macro_children.iter().copied();
            if let Some(owner) = [at].into_iter().chain(below).find(|&owner| of.modules[owner].macros.contains(name)) {
                way.modules.push(owner);
                return;
            }
            around = of.modules[at].parent;
        }
    }
    for glob in &here.globs {
        if let Some(module) = module_at(of, from, glob)
            && of.modules[module].has(name)
        {
            return descend(of, module, rest, what, seen, way);
        }
    }
    way.outside.get_or_insert_with(|| rest.to_vec());
}

/// Follows what is left of a path from the module that it has reached.
fn descend(of: &Crate, module: usize, rest: &[String], what: What, seen: &mut HashSet<(usize, usize)>, way: &mut Way) {
    let here = &of.modules[module];
    let Some(name) = rest.first() else {
        way.modules.push(module);
        return;
    };
    let imported = here.imports.iter().enumerate();
    let imported: Vec<_> =
        imported.filter(|(index, import)| import.name == *name && !seen.contains(&(module, *index))).collect();
    let child = here.children.get(name);
    if let Some(&child) = child
        && (what != What::Macro || rest.len() > 1)
    {
        descend(of, child, &rest[1..], what, seen, way);
        if rest.len() > 1 || (!here.items.contains(name) && imported.is_empty()) {
            return;
        }
    }
    if let [(_, import)] = imported[..]
        && import.path == rest
    {
        // `use name;` of another crate.
        way.outside = Some(rest.to_vec());
        return;
    }
    way.modules.push(module);
    if here.items.contains(name) || rest.len() == 1 {
        return;
    }
    // The name is a re-export of this module's, and the path goes on below it.
    for (index, import) in imported {
        seen.insert((module, index));
        follow(of, module, &[&import.path, &rest[1..]].concat(), what, seen, way);
    }
}

/// The module that a path names, if it names one of this crate by its place or by an import.
fn module_at(of: &Crate, from: usize, path: &[String]) -> Option<usize> {
    let mut module = from;
    for (index, name) in path.iter().enumerate() {
        module = match name.as_str() {
            "crate" => 0,
            "self" => module,
            "super" => of.modules[module].parent?,
            name => match of.modules[module].children.get(name) {
                Some(&child) => child,
                None if index == 0 => {
                    let import = of.modules[from].imports.iter().find(|import| import.name == name)?;
                    if import.path == [name.to_owned()] {
                        return None;
                    }
                    module_at(of, from, &import.path)?
                }
                None => return None,
            },
        };
    }
    Some(module)
}
