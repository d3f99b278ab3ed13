//! The words of the command line, with their help.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingot_processor::lambda::runtime::API_VARIABLE;

use crate::commands::alerts::{AlertTargets, AlertsArgs};
use crate::commands::audit::AuditArgs;
use crate::commands::catalog::CatalogArgs;
use crate::commands::contract::ContractArgs;
use crate::commands::cost::CostArgs;
use crate::commands::forget::ForgetArgs;
use crate::commands::lambda::LambdaArgs;
use crate::commands::lineage::LineageTarget;
use crate::commands::redrive::{RebuildArgs, RedriveArgs};
use crate::commands::trace::TraceArgs;
use crate::commands::upkeep::{CompactArgs, MaintainArgs};

/// From bronze to silver, discard and gold: check, redact, promote exactly once, account for every row.
#[derive(Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 work failed or an audit found a gap, 2 wrong usage or contract."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How the summary is printed.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
}

/// How a summary is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object (for `query`, one per row).
    Json,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Process what is in bronze and not in the ledger, once
    #[command(
        after_help = "Example:\n  ingot-processor run --lake file:///data/lake\n  ingot-processor run --lake file:///data/lake --contract contracts/orders.yaml --lineage file:///data/lineage.ndjson"
    )]
    Run(Run),
    /// Keep processing what arrives, until interrupted
    #[command(after_help = "Example:\n  ingot-processor watch --lake file:///data/lake --every-s 30")]
    Watch(Watch),
    /// Store what gateways publish to a broker as bronze objects, as the AWS IoT rule does
    #[command(after_help = "Example:\n  ingot-processor land --lake file:///data/lake --mqtt 127.0.0.1:1883")]
    Land(Land),
    /// Prove from the lake alone that every row is in exactly one place; exit 1 where it is not
    #[command(
        after_help = "Example:\n  ingot-processor audit --lake file:///data/lake --format json\n  ingot-processor audit --lake file:///data/lake --requeue\n  ingot-processor audit --lake s3://bucket/lake --requeue --queue-url https://sqs.eu-west-1.amazonaws.com/111122223333/bronze"
    )]
    Audit(AuditArgs),
    /// Judge the contracts' alerts and list those that are open; exit 1 where one is
    #[command(
        after_help = "Example:\n  ingot-processor alerts --lake file:///data/lake --format json\n  ingot-processor alerts --lake file:///data/lake --alert-webhook https://example.org/hook"
    )]
    Alerts(AlertsArgs),
    /// Judge again, from bronze and by the contract as it is now, what a rule discarded, and only that
    #[command(
        after_help = "Example:\n  ingot-processor redrive --lake file:///data/lake --contract contracts/orders.yaml --rule bad_currency --since 2026-01-31"
    )]
    Redrive(RedriveArgs),
    /// Make silver, discard, gold and ledger anew from bronze alone, in a lake beside the old one, and compare
    #[command(
        after_help = "Example:\n  ingot-processor rebuild --lake file:///data/lake --into file:///data/lake-2\n\nStop the processors, exchange the two folders and start them again when it is done."
    )]
    Rebuild(RebuildArgs),
    /// Erase a person or a device from bronze, silver, discard and gold, for good, and leave a signed receipt
    #[command(
        after_help = "Example:\n  ingot-processor forget --lake file:///data/lake --pseudonym-key-file key --subject device=d1\n  echo customer_email=ann@example.org | ingot-processor forget --lake file:///data/lake --subject -\n  ingot-processor forget --lake file:///data/lake --verify receipts/5f0c.json"
    )]
    Forget(ForgetArgs),
    /// Follow a cell of gold to its silver rows, their bronze objects and the gateway's batches
    #[command(
        after_help = "Example:\n  ingot-processor trace --lake file:///data/lake --gold sensor_hourly --where \"device = 'd1' AND window_start = '2026-01-01T10:00:00Z'\""
    )]
    Trace(TraceArgs),
    /// Ask the lake in SQL: silver.<dataset>, gold.<name>, discard, ledger
    #[command(
        after_help = "Example:\n  ingot-processor query --lake file:///data/lake \"SELECT rule, count(*) FROM discard GROUP BY rule\""
    )]
    Query(Query),
    /// Write the many small files of partitions anew as few; no row changes
    #[command(
        after_help = "Example:\n  ingot-processor compact --lake file:///data/lake --dry-run\n  ingot-processor compact --lake file:///data/lake --closed-after-days 2"
    )]
    Compact(CompactArgs),
    /// Do the upkeep that is due: compaction, checkpoints, old log files, unused and unfinished files
    #[command(
        after_help = "Example:\n  ingot-processor maintain --lake file:///data/lake --dry-run\n  ingot-processor maintain --lake file:///data/lake --keep-hours 48"
    )]
    Maintain(MaintainArgs),
    /// What a billion readings cost on AWS, by line item, and what batch settings would change
    #[command(
        after_help = "Example:\n  ingot-processor cost --lake file:///data/lake --readings-per-s 20 --latency-s 300"
    )]
    Cost(CostArgs),
    /// What Athena sees: Glue's tables and Athena's views, as the lake and its contracts say
    Catalog(CatalogArgs),
    /// Ingest by events, as a function of AWS Lambda; there, no word at all means this
    #[command(
        after_help = "Example, with Lambda's Runtime API played by a program of your own:\n  ingot-processor lambda --lake s3://bucket/lake --runtime-api 127.0.0.1:9001"
    )]
    Lambda(LambdaArgs),
    /// Contracts: find their mistakes, try their rules, compare versions
    Contract(ContractArgs),
}

/// The words that the program was started with; Lambda starts it with none.
pub fn words() -> Vec<OsString> {
    let mut words: Vec<OsString> = env::args_os().collect();
    if words.len() == 1 && env::var_os(API_VARIABLE).is_some() {
        words.push("lambda".into());
    }
    words
}

/// Where the lake is and what rules it.
#[derive(Args)]
pub struct Place {
    /// The lake, e.g. file:///data/lake or s3://bucket/prefix (region and credentials from AWS_REGION, AWS_ACCESS_KEY_ID, …)
    #[arg(long, env = "INGOT_LAKE")]
    pub lake: String,
    /// A contract file; may be given more than once. Without it and --contracts, the built-in sensor_readings and orders
    #[arg(long = "contract", value_name = "FILE")]
    pub contracts: Vec<PathBuf>,
    /// A folder of contract files (*.yaml); --contract goes before it
    #[arg(long = "contracts", value_name = "DIR", env = "INGOT_CONTRACTS")]
    pub contracts_folder: Option<PathBuf>,
    /// The key of pseudonyms, at least 32 bytes; or the key itself in INGOT_PSEUDONYM_KEY
    #[arg(long, env = "INGOT_PSEUDONYM_KEY_FILE", value_name = "FILE")]
    pub pseudonym_key_file: Option<PathBuf>,
    /// The secret of Secrets Manager, by ARN or name, that holds the key of pseudonyms
    #[arg(
        long,
        env = "INGOT_PSEUDONYM_KEY_SECRET",
        value_name = "ARN",
        conflicts_with = "pseudonym_key_file"
    )]
    pub pseudonym_key_secret: Option<String>,
}

/// `run`.
#[derive(Args)]
pub struct Run {
    /// The lake and its contracts.
    #[command(flatten)]
    pub place: Place,
    /// Who is told of alerts.
    #[command(flatten)]
    pub alerts: AlertTargets,
    /// Where lineage goes.
    #[command(flatten)]
    pub lineage: LineageTarget,
}

/// `watch`.
#[derive(Args)]
pub struct Watch {
    /// The lake and its contracts.
    #[command(flatten)]
    pub place: Place,
    /// Who is told of alerts.
    #[command(flatten)]
    pub alerts: AlertTargets,
    /// Where lineage goes.
    #[command(flatten)]
    pub lineage: LineageTarget,
    /// Seconds between two looks at bronze
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub every_s: u64,
}

/// `land`.
#[derive(Args)]
pub struct Land {
    /// The lake, e.g. file:///data/lake or s3://bucket/prefix; a folder is made where there is none
    #[arg(long, env = "INGOT_LAKE")]
    pub lake: String,
    /// The broker's host and port, on this machine: the connection is not encrypted
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub mqtt: std::net::SocketAddr,
    /// Names the session in which the broker keeps what arrives while this program is away
    #[arg(long, default_value = "ingot-land")]
    pub client_id: String,
}

/// `query`.
#[derive(Args)]
pub struct Query {
    /// The lake and its contracts.
    #[command(flatten)]
    pub place: Place,
    /// One SELECT statement
    pub sql: String,
}
