//! The page's files, which are part of the program: it works without the internet.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Scripts and styles come from here alone, and nobody may put the page into a frame.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES: [(&str, &str, &str); 7] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("app.js", "text/javascript", include_str!("page/app.js")),
    ("dom.js", "text/javascript", include_str!("page/dom.js")),
    ("pages.js", "text/javascript", include_str!("page/pages.js")),
    ("style.css", "text/css", include_str!("page/style.css")),
    ("uplot.js", "text/javascript", include_str!("page/vendor/uplot.js")),
    ("uplot.css", "text/css", include_str!("page/vendor/uplot.css")),
];

/// A file by its name; `None` if there is none.
pub fn file(name: &str) -> Option<Response> {
    let (_, kind, text) = FILES.iter().find(|(known, _, _)| *known == name)?;
    // Another version of the program has other files.
    Some(([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *text).into_response())
}
