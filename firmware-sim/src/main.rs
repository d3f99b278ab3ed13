//! `ingot-sim`: load, a single virtual sensor node, and checks against the ground truth.

mod command;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "ingot-sim", version, about)]
enum Command {
    /// Produce the readings of many devices as NDJSON, and the ground truth about them
    Fleet(command::fleet::Args),
    /// Be one sensor node: print its readings in real time, as NDJSON or as frames
    Device(command::device::Args),
    /// Hold the ground truth against a lake, reading for reading
    #[cfg(feature = "lake")]
    Verify(command::verify::Args),
    /// Run the whole road on this machine: fleet, gateways, broker, landing, processing, proof, report
    #[cfg(feature = "lake")]
    Demo(command::demo::Args),
}

/// Exits with 0, 1 (the work failed) or, by clap, 2 (usage).
fn main() -> ExitCode {
    let done = match Command::parse_from(words()) {
        Command::Fleet(args) => command::fleet::run(args),
        Command::Device(args) => command::device::run(args),
        #[cfg(feature = "lake")]
        Command::Verify(args) => command::verify::run(args),
        #[cfg(feature = "lake")]
        Command::Demo(args) => command::demo::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ingot-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line. `cargo demo -- --seed 7` hands over `demo -- --seed 7`: that `--` is cargo's, not ours.
fn words() -> impl Iterator<Item = OsString> {
    let ours = |(place, word): &(usize, OsString)| *place != 2 || word != "--";
    std::env::args_os().enumerate().filter(ours).map(|(_, word)| word)
}
