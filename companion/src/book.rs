//! Tables of the book that are made of the source: compared with it, or with GW_WRITE_DOCS=1 written anew.

use std::path::Path;

/// Compares the part of a page between `<!-- generated: name -->` and `<!-- /generated -->` with what it has to be.
pub fn assert_shows(page: &str, name: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/companion").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- /generated -->\n");
    let (top, rest) = text.split_once(&begin).expect("a line that begins the table");
    let (shown, rest) = rest.split_once(end).expect("a line that ends the table");
    if std::env::var_os("GW_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{top}{begin}{table}{end}{rest}")).unwrap();
    } else {
        assert_eq!(shown, table, "{page} differs: run the tests with GW_WRITE_DOCS=1 to write it");
    }
}
