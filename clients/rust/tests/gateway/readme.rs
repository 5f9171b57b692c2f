use std::process::Command;

use gw_testkit::Server;

/// Builds the README's example in a crate of its own, which takes this one by its path, and runs it.
#[test]
fn the_readmes_example_prints_what_it_says() {
    let server = Server::start().unwrap();
    let here = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{here}/README.md")).unwrap();
    let block = |heading: &str, at: usize| {
        let inner = text.split(&format!("```{heading}\n")).nth(at).unwrap();
        inner.split("```").next().unwrap().to_owned()
    };
    let directory = server.dir().join("example");
    std::fs::create_dir_all(directory.join("src")).unwrap();
    let manifest = block("toml", 1).replace("../redis-gateway/clients/rust", here);
    let package = "[package]\nname = \"example\"\nedition = \"2024\"\n\n[workspace]\n\n";
    std::fs::write(directory.join("Cargo.toml"), format!("{package}{manifest}")).unwrap();
    // The versions that are tested with, and nothing is fetched.
    std::fs::copy(gw_testkit::project_root().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let program = block("rust,no_run", 1)
        .replace("127.0.0.1:6379", &format!("127.0.0.1:{}", server.port()))
        // A busy machine is slow.
        .replace(
            "Settings::default()",
            "Settings { timeout: std::time::Duration::from_secs(20), connect_timeout: std::time::Duration::from_secs(20), \
             ..Settings::default() }",
        );
    std::fs::write(directory.join("src/main.rs"), program).unwrap();
    let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme");
    let run = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline"])
        .current_dir(&directory)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&run.stdout), block("text", 1), "{errors}");
}
