//! The commands and their flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingot_gateway::config::Overrides;
use ingot_gateway::provision::command::Provision;
use ingot_gateway::reload::Origin;

#[derive(Parser)]
#[command(version, about = "Edge daemon: sources, agent, spool on disk, MQTT uplink")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Read sources, seal frames, keep them on disk, send them until they are confirmed
    #[command(
        after_help = "SIGHUP reads the settings again; SIGTERM ends in order.\n\nExamples:\n  ingot-gateway run --lake file:///tmp/lake < readings.ndjson\n  ingot-gateway run --config /etc/ingot/gateway.toml"
    )]
    Run(Settings),
    /// Validate the settings and print them as they take effect
    #[command(after_help = "Example:\n  ingot-gateway check --config /etc/ingot/gateway.toml")]
    Check(Settings),
    /// Show how a running gateway is doing, anew each second
    #[command(
        after_help = "Exit code 1: it cannot be reached, or readings are in danger.\n\nExample:\n  ingot-gateway status --config /etc/ingot/gateway.toml"
    )]
    Status {
        #[command(flatten)]
        settings: Settings,
        /// Show it once and end
        #[arg(long)]
        once: bool,
    },
    /// Look at all that a gateway needs, and name what is wrong and what to do
    #[command(
        after_help = "Exit code 1: something failed.\n\nExample:\n  sudo -u ingot ingot-gateway doctor --config /etc/ingot/gateway.toml"
    )]
    Doctor {
        #[command(flatten)]
        settings: Settings,
        /// Also send one empty frame, to see whether the broker lets this gateway publish
        #[arg(long)]
        publish: bool,
    },
    /// Get this gateway its certificate, or a new one
    Provision {
        #[command(subcommand)]
        how: Provision,
        /// Form of the output on stdout; the log goes to stderr
        #[arg(long, value_enum, default_value = "text", global = true)]
        format: Format,
    },
}

#[derive(Args)]
pub struct Settings {
    /// Settings in TOML; see config/gateway.example.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write bronze objects below this URL instead of the configured uplink
    #[arg(long, value_name = "file:///DIR")]
    lake: Option<String>,
    /// The gateway's name
    #[arg(long)]
    name: Option<String>,
    /// The spool's directory
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// Form of the output on stdout; the log goes to stderr
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

impl Settings {
    /// The file and the flags above it.
    pub fn origin(&self) -> Origin {
        let overrides =
            Overrides { name: self.name.clone(), spool: self.spool.clone(), lake: self.lake.clone() };
        Origin { path: self.config.clone(), overrides }
    }
}
