//! `gw top`: what a server or cluster is doing, in the terminal.

mod view;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::out;
use crate::target::Target;
use crate::watch::{Queues, Reading, Sample};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Seconds between two samples
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
    /// Prints one sample, taken over a second, and ends
    #[arg(long)]
    once: bool,
    /// Prints one sample as JSON, and ends
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(&self) -> ExitCode {
        let done = if self.once || self.json { self.print() } else { self.show() };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn print(&self) -> Result<()> {
        let (mut fleet, mut queues) = (self.target.fleet()?, Queues::thorough());
        let before = Reading::take(&mut fleet, &mut queues)?;
        // Rates are of what happens between two readings.
        thread::sleep(Duration::from_secs(1));
        let sample = Sample::new(&before, &Reading::take(&mut fleet, &mut queues)?);
        if self.json {
            out::print(&(serde_json::to_string_pretty(&sample)? + "\n"))?;
        } else {
            out::print(&view::text(&sample))?;
        }
        Ok(())
    }

    fn show(&self) -> Result<()> {
        let (mut fleet, mut queues) = (self.target.fleet()?, Queues::in_passing());
        // Before the terminal is taken: an address that is wrong is told as of any other command.
        let mut before = Reading::take(&mut fleet, &mut queues)?;
        let interval = Duration::from_secs(self.interval);
        // A panic gives the terminal back, too.
        let mut terminal = ratatui::try_init()?;
        let done = (|| {
            let mut shown: Result<Sample> = Ok(Sample::new(&before, &before));
            loop {
                terminal.draw(|frame| view::draw(frame, &shown))?;
                if quits_within(interval)? {
                    return Ok(());
                }
                shown = Reading::take(&mut fleet, &mut queues).map(|now| {
                    let sample = Sample::new(&before, &now);
                    before = now;
                    sample
                });
            }
        })();
        ratatui::try_restore()?;
        done
    }
}

/// Waits, and tells whether q, Esc or Ctrl-C was pressed meanwhile. A new size is drawn at once.
fn quits_within(time: Duration) -> Result<bool> {
    let until = Instant::now() + time;
    while event::poll(until.saturating_duration_since(Instant::now()))? {
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(true),
                _ => {}
            },
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}
