//! The configurations in the docs are right.

use std::fs;
use std::process::Command;

use gw_testkit::project_root;

#[test]
fn configurations_in_the_docs_are_accepted() {
    let folder = std::env::temp_dir().join(format!("gw-ship-docs-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let mut found = 0;
    for page in ["companion/index.md", "companion/ship.md", "guides/log-shipping.md"] {
        let text = fs::read_to_string(project_root().join("docs/src").join(page)).unwrap();
        for part in text.split("```toml\n").skip(1) {
            let file = folder.join("gw.toml");
            fs::write(&file, part.split("```").next().unwrap()).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_gw"));
            check.args(["run", "--check", "--config"]).arg(&file);
            check
                .env("GW_URL", "redis://10.0.0.8")
                .env("GW_REDIS", "redis://10.0.0.9")
                .env("GW_DATABASE", "postgres://user:word@host/logs");
            let checked = check.output().unwrap();
            assert!(checked.status.success(), "{page}: {}", String::from_utf8_lossy(&checked.stderr));
            found += 1;
        }
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found, 4);
}
