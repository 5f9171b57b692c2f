//! Tests of the check itself, on small made-up trees: it finds circles, and nothing else.

use std::collections::HashMap;
use std::path::Path;

use crate::graph::Graph;
use crate::source::Crate;

/// A crate of these files.
fn tree(files: &[(&str, &str)]) -> Crate {
    let files: HashMap<&str, &str> = files.iter().copied().collect();
    Crate::read("made", Path::new("lib.rs"), &|file| files.get(file.to_str()?).map(|text| (*text).to_owned())).unwrap()
}

/// The first line of each circle, and the modules on its way round.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let describe = |circle: String| {
        let steps = circle.lines().skip(1).filter_map(|line| line.split("   ").find(|part| part.contains("->")));
        steps.map(|step| step.trim().replace("made::", "")).collect::<Vec<_>>().join(", ")
    };
    Graph::of(&tree(files)).circles().into_iter().map(describe).collect()
}

#[test]
fn two_modules_that_use_each_other() {
    let found = circles(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "pub struct B(super::a::A);"),
        ("c.rs", "use crate::a::A;"),
    ]);
    assert_eq!(found, ["a -> b, b -> a"]);
}

#[test]
fn a_child_and_its_parent() {
    let parent = ("a/mod.rs", "mod child; pub const LIMIT: u64 = 1; pub fn f() { child::g() }");
    let found = circles(&[("lib.rs", "mod a;"), parent, ("a/child.rs", "pub fn g() -> u64 { super::LIMIT }")]);
    assert_eq!(found, ["a -> a::child, a::child -> a"]);
    // Declaring a child does not count as a use.
    let found = circles(&[
        ("lib.rs", "mod a;"),
        ("a.rs", "mod child; pub const LIMIT: u64 = 1;"),
        ("a/child.rs", "use super::LIMIT;"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn three_modules_through_a_re_export() {
    let files = [
        ("lib.rs", "mod facade; mod user;"),
        ("facade/mod.rs", "mod inner; pub use inner::Inner;"),
        ("facade/inner.rs", "use crate::user; pub struct Inner(user::User);"),
        ("user.rs", "use crate::facade::Inner; pub struct User(Option<Box<Inner>>);"),
    ];
    assert_eq!(circles(&files), ["facade -> facade::inner, facade::inner -> user, user -> facade"]);
}

#[test]
fn siblings_that_name_each_other_directly_form_no_circle_with_their_facade() {
    let found = circles(&[
        ("lib.rs", "mod facade;"),
        ("facade/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("facade/a.rs", "use super::b::{self, B}; pub struct A(B, b::B);"),
        ("facade/b.rs", "pub struct B;"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn paths_in_expressions_types_and_macros_count() {
    for user in [
        "fn f() { crate::b::g() }",
        "fn f() -> crate::b::B { todo!() }",
        "use crate::b; fn f() { b::g() }",
        "use crate::b as other; fn f() { other::g() }",
        "use crate::*; fn f() { b::g() }",
        "fn f() { use crate::b::g; g() }",
        "fn f() { println!(\"{}\", crate::b::g()) }",
        "macro_rules! m { ($e:expr) => { $crate::b::g($e) }; }",
        "mod inline { fn f() { super::super::b::g() } }",
        "impl<T: crate::b::Trait> Clone for T {}",
    ] {
        let b = ("b.rs", "pub struct B(crate::a::A); pub trait Trait {} pub fn g() {}");
        let found = circles(&[("lib.rs", "mod a; mod b;"), ("a.rs", &format!("pub struct A; {user}")), b]);
        assert_eq!(found, ["a -> b, b -> a"], "{user}");
    }
}

#[test]
fn a_macro_from_above_counts() {
    let found = circles(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "macro_rules! m { () => {}; } mod child; pub use child::C;"),
        ("a/child.rs", "pub struct C; fn f() { m!() }"),
    ]);
    assert_eq!(found, ["a -> a::child, a::child -> a"]);
    // A macro in a module of its own belongs to that module.
    let found = circles(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "#[macro_use] mod macros; mod child; pub use child::C;"),
        ("a/macros.rs", "macro_rules! m { () => {}; }"),
        ("a/child.rs", "pub struct C; fn f() { m!() }"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn names_in_an_exported_macro_are_used_by_other_crates() {
    let found = circles(&[
        ("lib.rs", "mod a; pub use a::f;"),
        ("a.rs", "pub fn f() {} #[macro_export] macro_rules! m { () => { $crate::f() }; }"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn tests_within_a_crate_may_use_anything() {
    let found = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::B;"),
        ("b.rs", "pub struct B(crate::a::A);"),
    ]);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn uses_that_leave_a_layer_are_found() {
    let tree = tree(&[
        ("lib.rs", "mod low; mod high; pub struct Root;"),
        ("low/mod.rs", "mod inner; use std::fmt;"),
        (
            "low/inner.rs",
            "use crate::high::H; use crate::Root; use std::{time, io::Read}; fn f() { time::Instant::now() }",
        ),
        ("high.rs", "pub struct H; use crate::low;"),
    ]);
    let graph = Graph::of(&tree);
    let places = ["low/inner.rs:1: crate::Root (of made)", "low/inner.rs:1: crate::high::H (of made::high)"];
    assert_eq!(graph.leaving(&["low"]), places);
    let outside: Vec<&str> = graph.outside.iter().map(|used| used.path.as_str()).collect();
    assert_eq!(outside, ["std::fmt", "std::time", "std::io::Read", "std::time::Instant::now"]);
}

#[test]
fn unsafe_code_is_found() {
    let of = tree(&[(
        "lib.rs",
        "fn f() { unsafe { g() } }\nunsafe fn g() {}\nunsafe impl Send for S {}\n#[unsafe(no_mangle)]\nfn h() {}\n\
         m!(unsafe { g() });\n#[cfg(test)]\nmod tests { fn f() { unsafe { g() } } }\nfn safe() {}",
    )]);
    let mut lines: Vec<usize> = of.modules.iter().flat_map(|module| module.unsafe_lines.clone()).collect();
    lines.sort();
    assert_eq!(lines, [1, 2, 3, 4, 6, 8]);
}
