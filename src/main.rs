//! `muttd`: parses the arguments and runs the command.

use std::process::ExitCode;

fn main() -> ExitCode {
    muttd::cli::run()
}
