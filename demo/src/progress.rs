//! The progress of the run: a bar on a terminal, else a line now and then.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

pub struct Progress {
    bar: ProgressBar,
    total: usize,
    /// The last step that was printed, of [`Progress::STEPS`].
    step: usize,
}

impl Progress {
    /// How often to call [`Progress::show`].
    pub const INTERVAL: Duration = Duration::from_millis(50);

    const STEPS: usize = 5;

    pub fn new(total: usize) -> Self {
        let bar = ProgressBar::new(total as u64);
        let template = "  [{elapsed_precise}] {wide_bar} {human_pos}/{human_len} requests, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, total, step: 0 }
    }

    pub fn show(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if !self.bar.is_hidden() {
            return;
        }
        let step = done * Self::STEPS / self.total.max(1);
        if step > self.step {
            self.step = step;
            eprintln!("  {:>3} % of the requests after {:.1?}", 100 * step / Self::STEPS, self.bar.elapsed());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
