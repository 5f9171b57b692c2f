//! How long the disk of the server's data takes to keep what is written.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::measure::{self, Times};

/// Where a server says that its data are.
pub struct Place {
    pub process: u32,
    /// `None` if it does not say.
    pub directory: Option<PathBuf>,
}

impl Place {
    /// The directory, if that process is on this machine and works there.
    fn here(&self) -> Option<&PathBuf> {
        let works_in = fs::read_link(format!("/proc/{}/cwd", self.process)).ok()?;
        self.directory.as_ref().filter(|directory| fs::canonicalize(directory).is_ok_and(|real| real == works_in))
    }
}

/// Appends to a file of its own there, which it removes. `None` if the data are not on this machine, or this user may
/// not write there.
///
/// # Errors
/// If the disk fails.
pub fn fsync(place: &Place, time: Duration) -> io::Result<Option<Times>> {
    let Some(directory) = place.here() else { return Ok(None) };
    let path = directory.join(format!(".gw-bench-{}", std::process::id()));
    let Ok(mut file) = OpenOptions::new().create_new(true).append(true).open(&path) else { return Ok(None) };
    let times = measure::times(time, || {
        file.write_all(&[0; 4_096])?;
        file.sync_data()
    });
    fs::remove_file(&path)?;
    times.map(Some)
}
