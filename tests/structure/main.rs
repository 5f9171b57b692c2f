//! Checks the structure of the source: no circles between modules, no layer that knows one above it, `unsafe` in few
//! places. Needs no server.

mod graph;
mod made_up;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use graph::Graph;
use source::Crate;

/// Modules that use only what is below them in their crate: a target's name and the module's path.
const LAYERS: &[(&str, &[&str])] = &[("redis_gateway", &["server"])];

/// Paths that a crate's modules must not name, with all below them, by the target's name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    // The algorithms use neither the server nor a clock nor I/O.
    (
        "gateway_core",
        &[
            "redis_module",
            "redis",
            "std::env",
            "std::fs",
            "std::net",
            "std::process",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    ),
];

/// The packages of the workspace that a package may depend on, apart from its tests. Packages that are not named here
/// are free.
const DEPENDENCIES: &[(&str, &[&str])] =
    &[("gateway-core", &[]), ("redis-gateway", &["gateway-core"]), ("gw-testkit", &[]), ("gw-bare", &[])];

/// Packages that no other package may depend on.
const LEAVES: &[&str] = &["redis-gateway", "gw-demo", "gw-bare"];

/// The folders whose code may be unsafe.
const UNSAFE: &[&str] = &["src/server", "benches/bare"];

#[test]
fn no_module_leads_back_to_itself() {
    let circles: Vec<String> = WORKSPACE.crates.iter().flat_map(|of| Graph::of(of).circles()).collect();
    assert_none("import circles (a use of a child by its parent and of the parent by the child is one, too)", &circles);
}

#[test]
fn layers_use_nothing_from_above() {
    for (name, inside) in LAYERS {
        let of = WORKSPACE.target(name);
        assert!(of.modules.iter().any(|module| module.path == *inside), "there is no {} in {name}", inside.join("::"));
        assert_none(
            &format!("uses by {name}::{} of modules above it", inside.join("::")),
            &Graph::of(of).leaving(inside),
        );
    }
}

#[test]
fn crates_use_nothing_that_is_forbidden() {
    for (name, forbidden) in FORBIDDEN {
        let of = WORKSPACE.target(name);
        let is_forbidden = |path: &str| {
            forbidden
                .iter()
                .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
        };
        let graph = Graph::of(of);
        let found = graph.outside.iter().filter(|used| is_forbidden(&used.path));
        let found =
            found.map(|used| format!("{}:{}: {}", of.modules[used.module].file.display(), used.line, used.path));
        assert_none(&format!("uses by {name} of what it must not name"), &found.collect::<Vec<_>>());
    }
}

#[test]
fn packages_depend_one_way() {
    let mut found = Vec::new();
    for (package, dependencies) in &WORKSPACE.dependencies {
        let allowed = DEPENDENCIES.iter().find(|(name, _)| name == package).map(|(_, allowed)| *allowed);
        for dependency in dependencies {
            let is_too_much = allowed.is_some_and(|allowed| !allowed.contains(&dependency.as_str()));
            if is_too_much || LEAVES.contains(&dependency.as_str()) {
                found.push(format!("{package} depends on {dependency}"));
            }
        }
    }
    assert_none("dependencies against the direction of the layers", &found);
}

#[test]
fn unsafe_code_is_in_few_places() {
    let mut found = Vec::new();
    for module in WORKSPACE.crates.iter().flat_map(|of| &of.modules) {
        if !UNSAFE.iter().any(|folder| module.file.starts_with(folder)) {
            found.extend(module.unsafe_lines.iter().map(|line| format!("{}:{line}", module.file.display())));
        }
    }
    assert_none(&format!("unsafe code outside {}", UNSAFE.join(" and ")), &found);
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{} {what}:\n\n{}\n", found.len(), found.join("\n"));
}

/// All targets of the workspace, and the dependencies between its packages, apart from tests.
struct Workspace {
    crates: Vec<Crate>,
    dependencies: Vec<(String, Vec<String>)>,
}

static WORKSPACE: LazyLock<Workspace> = LazyLock::new(|| Workspace::read().unwrap_or_else(|error| panic!("{error}")));

impl Workspace {
    fn read() -> Result<Workspace, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
        let output = Command::new(env!("CARGO")).current_dir(root).args(arguments).output();
        let output = output.map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();

        std::env::set_current_dir(root).map_err(|error| error.to_string())?;
        let mut workspace = Workspace { crates: Vec::new(), dependencies: Vec::new() };
        for package in list(&metadata["packages"]) {
            // A dependency on a member of the workspace has a path; those for tests have the kind "dev".
            let dependencies = list(&package["dependencies"]).into_iter();
            let inner = dependencies.filter(|of| !of["path"].is_null() && of["kind"].as_str() != Some("dev"));
            workspace.dependencies.push((text(&package["name"]), inner.map(|of| text(&of["name"])).collect()));
            for target in list(&package["targets"]) {
                let file = PathBuf::from(text(&target["src_path"]));
                let file = file.strip_prefix(root).unwrap_or(&file);
                workspace.crates.push(Crate::load(&text(&target["name"]).replace('-', "_"), file)?);
            }
        }
        Ok(workspace)
    }

    fn target(&self, name: &str) -> &Crate {
        self.crates.iter().find(|of| of.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
    }
}
