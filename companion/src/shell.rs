//! What a shell and `man` know of the command line, made from its declaration.

use std::io::Write;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use crate::out;

#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Such as bash, zsh or fish
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(&self, mut command: Command) -> ExitCode {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "gw", &mut text);
        print(&text)
    }
}

#[derive(Debug, clap::Args)]
pub struct Man {}

impl Man {
    /// One page: the program, then each command with its options.
    pub fn run(&self, mut command: Command) -> ExitCode {
        // Completes the options of the commands with those that all have.
        command.build();
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(command.clone()).render(&mut text).and_then(|()| {
            for part in command.get_subcommands().filter(|part| part.get_name() != "help") {
                writeln!(text, ".SH \"GW {}\"", part.get_name().to_uppercase())?;
                writeln!(text, "{}", part.get_about().map(ToString::to_string).unwrap_or_default())?;
                writeln!(text, ".PP")?;
                let man = clap_mangen::Man::new(part.clone());
                man.render_synopsis_section(&mut text)?;
                man.render_options_section(&mut text)?;
            }
            Ok(())
        });
        match rendered {
            Ok(()) => print(&text),
            Err(error) => {
                eprintln!("gw: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn print(text: &[u8]) -> ExitCode {
    match out::print(&String::from_utf8_lossy(text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gw: {error}");
            ExitCode::FAILURE
        }
    }
}
