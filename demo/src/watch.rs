//! The companion's console, to watch the replay in.

use anyhow::{Context, Result};
use gw_testkit::Server;
use std::path::Path;
use std::process::{Child, Command};

/// The companion; it ends with this value.
pub struct Watch {
    companion: Child,
}

impl Watch {
    /// Starts the companion, whose executable is `gw`, with a console on `port` of 127.0.0.1.
    pub fn start(gw: &Path, port: u16, server: &Server) -> Result<Self> {
        let settings = server.dir().join("gw.toml");
        let text = format!(
            "[server]\nurl = \"redis://127.0.0.1:{}\"\n\n[http]\nlisten = \"127.0.0.1:{port}\"\n\n[console]\n",
            server.port()
        );
        std::fs::write(&settings, text).with_context(|| settings.display().to_string())?;
        let mut command = Command::new(gw);
        // Its log lines about itself would stand between those of the replay.
        command.arg("run").arg("--config").arg(&settings).env("RUST_LOG", "error");
        let companion = command.spawn().with_context(|| gw.display().to_string())?;
        println!("watch it: http://127.0.0.1:{port}/");
        Ok(Self { companion })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It keeps nothing that has to be written; an error means that it has ended.
        let _ = self.companion.kill();
        let _ = self.companion.wait();
    }
}
