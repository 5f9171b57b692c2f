//! A clock that a test can set.

use crate::error::Error;
use crate::paths::new_dir;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A wall clock for servers, which a test can set (see [`Options::clock`](crate::Options::clock)). Dropping it removes
/// its files; servers that use it keep it until they end.
///
/// It is a library that is preloaded into the server. It is compiled with the compiler that links Rust's programs, too.
#[derive(Debug)]
pub struct Clock {
    dir: PathBuf,
}

impl Clock {
    /// A clock that shows the correct time.
    ///
    /// # Errors
    /// If there is no C compiler.
    pub fn new() -> Result<Self, Error> {
        let clock = Self { dir: new_dir()? };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(clock.library()).arg(&source);
        let output = compiler.output().map_err(|error| Error::new(format!("cannot run cc: {error}")))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("cannot compile {}:\n{told}", source.display())));
        }
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock `ms` ahead of the system's clock, or behind it if `ms` is negative.
    ///
    /// # Errors
    /// If the file that servers read cannot be written.
    pub fn set(&self, ms: i64) -> Result<(), Error> {
        // Written in place, because servers have mapped this very file.
        let file = File::options().create(true).write(true).truncate(false).open(self.offset());
        Ok(file.and_then(|mut file| file.write_all(&(ms * 1_000).to_ne_bytes()))?)
    }

    /// The program, with its arguments, under which a server runs to have this clock.
    pub(crate) fn wrapper(&self) -> [String; 3] {
        let (library, offset) = (self.library(), self.offset());
        ["env".into(), format!("LD_PRELOAD={}", library.display()), format!("GW_CLOCK={}", offset.display())]
    }

    fn library(&self) -> PathBuf {
        self.dir.join("clock.so")
    }

    fn offset(&self) -> PathBuf {
        self.dir.join("offset")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // Anything that cannot be removed stays in the temporary directory.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
