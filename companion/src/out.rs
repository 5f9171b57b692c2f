//! What a command prints.

use std::io::{self, Write};

/// Prints a text whole. If a reader has seen enough (`gw export | head`), that is not an error.
///
/// # Errors
/// If it cannot be written otherwise.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
