//! `ingot-gateway provision`: what the user types, in what order the steps run, what is said at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::claim::{Claim, connect_as};
use super::connection::Endpoint;
use super::folder::{CERT, CURRENT, Folder, Generation, KEY};
use super::{ProvisionError, Step, settings};
use crate::key::is_name;
use crate::uplink::tls::TlsPaths;

/// How the gateway gets its identity.
#[derive(Clone, Debug, Subcommand)]
pub enum Provision {
    /// With an operator's AWS credentials: thing, policy, certificate, endpoint
    #[cfg(feature = "aws")]
    #[command(
        after_help = "Region and credentials come from the usual AWS environment (AWS_REGION, AWS_PROFILE, …).\n\n\
        Examples:\n  ingot-gateway provision create --name gw-1 --dir /var/lib/ingot/identity\n  \
        ingot-gateway provision create --name gw-1 --dir /var/lib/ingot/identity --rotate\n\
        Then:\n  ingot-gateway run --config /var/lib/ingot/identity/gateway.toml"
    )]
    Create(Create),
    /// With a claim certificate, on the device: fleet provisioning over MQTT
    #[command(
        after_help = "Examples:\n  ingot-gateway provision claim --name gw-1 --dir /var/lib/ingot/identity \\\n    \
        --host example-ats.iot.eu-west-1.amazonaws.com --template ingot-fleet \\\n    \
        --claim-cert claim.cert.pem --claim-key claim.key.pem --parameter SerialNumber=0042\n  \
        the same with --rotate: a new key and certificate, proven, then switched to"
    )]
    Claim(ClaimArgs),
    /// Go back to the key and certificate before the last rotation
    #[command(after_help = "Example:\n  ingot-gateway provision rollback --dir /var/lib/ingot/identity")]
    Rollback(Rollback),
}

/// What both ways share.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The gateway's name; the thing has the same: A-Z a-z 0-9 _ -
    #[arg(long)]
    name: String,
    /// Keys, certificates and progress; the private key never leaves it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Root certificates of the endpoint, in PEM
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/Amazon_Root_CA_1.pem")]
    ca: PathBuf,
    /// MQTT port of the endpoint
    #[arg(long, default_value_t = 8883)]
    port: u16,
    /// Longest time to connect, and for an answer
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=120_000))]
    wait_ms_max: u64,
    /// Make a new key and certificate beside the ones in use, prove them, switch to them
    #[arg(long)]
    rotate: bool,
}

/// `provision create`
#[cfg(feature = "aws")]
#[derive(Clone, Debug, Args)]
pub struct Create {
    #[command(flatten)]
    common: Common,
    /// AWS region (default: of the environment)
    #[arg(long)]
    region: Option<String>,
    /// Endpoint to write into the settings and to prove the certificate at (default: the account's)
    #[arg(long)]
    host: Option<String>,
    /// The policy's name; one serves the fleet
    #[arg(long, default_value = "ingot-gateway")]
    policy: String,
    /// If the policy exists with another document, give it a new default version
    #[arg(long)]
    update_policy: bool,
    /// Let the gateway take credentials for the direct path to S3 under this role alias
    #[arg(long, value_name = "ALIAS")]
    role_alias: Option<String>,
    /// Put certificates of the thing that this folder does not know out of use
    #[arg(long)]
    replace: bool,
    /// Do not connect with the new certificate, e.g. where port 8883 cannot be reached from
    #[arg(long, conflicts_with = "rotate")]
    no_check: bool,
}

/// `provision claim`
#[derive(Clone, Debug, Args)]
pub struct ClaimArgs {
    #[command(flatten)]
    common: Common,
    /// The account's data endpoint
    #[arg(long)]
    host: String,
    /// The provisioning template
    #[arg(long)]
    template: String,
    /// The claim certificate, in PEM
    #[arg(long, value_name = "FILE")]
    claim_cert: PathBuf,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE")]
    claim_key: PathBuf,
    /// A parameter of the template; may be repeated (ThingName is the gateway's name)
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
}

/// `provision rollback`
#[derive(Clone, Debug, Args)]
pub struct Rollback {
    /// Keys, certificates and progress
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// What was done; nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provisioned {
    /// The thing's name.
    pub thing: String,
    /// The id of its certificate in use.
    pub certificate_id: String,
    /// Whether the certificate was proven by a connection in this run.
    pub checked: bool,
    /// Ids of certificates that were put out of use and removed.
    pub retired: Vec<String>,
    /// Where the private key is.
    pub key: PathBuf,
    /// Where the certificate is.
    pub cert: PathBuf,
    /// The settings to run with.
    pub settings: PathBuf,
}

impl fmt::Display for Provisioned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thing, certificate_id, checked, retired, settings, .. } = self;
        let how = if *checked { "connected with it" } else { "not yet connected with it" };
        writeln!(out, "thing {thing}, certificate {certificate_id} ({how})")?;
        for id in retired {
            writeln!(out, "removed certificate {id}")?;
        }
        write!(out, "run with: ingot-gateway run --config {}", settings.display())
    }
}

impl Provision {
    /// Does it.
    ///
    /// # Errors
    /// A step failed; the same command goes on from there.
    pub async fn run(self) -> Result<Provisioned, ProvisionError> {
        match self {
            #[cfg(feature = "aws")]
            Self::Create(create) => create.run().await,
            Self::Claim(claim) => claim.run().await,
            Self::Rollback(rollback) => rollback.run(),
        }
    }
}

#[cfg(feature = "aws")]
impl Create {
    async fn run(self) -> Result<Provisioned, ProvisionError> {
        let Self { common, region, host, policy, update_policy, role_alias, replace, no_check } = self;
        let wanted = super::operator::Wanted { policy, update_policy, role_alias, replace };
        let operator = super::operator::Operator::new(region, wanted).await?;
        let (folder, mut generation) = common.begin()?;
        let others = folder.other_certificates(&generation)?;
        operator.register(&mut generation, &others).await?;
        let host = host.or_else(|| generation.progress.endpoint.clone()).unwrap_or_default();
        if !no_check {
            common.check(&host, &generation).await?;
        }
        let mut done = common.put_to_use(&folder, &generation, &host)?;
        done.checked = !no_check;
        done.retired = operator.retire(&common.name, &done.certificate_id, &others).await?;
        // What is removed in the cloud is nothing to go back to.
        folder.forget_others(&generation)?;
        Ok(done)
    }
}

impl ClaimArgs {
    async fn run(self) -> Result<Provisioned, ProvisionError> {
        let Self { common, host, template, claim_cert, claim_key, parameters } = self;
        let tls = TlsPaths { ca: common.ca.clone(), cert: claim_cert, key: claim_key };
        let endpoint = common.endpoint(&host);
        let claim = Claim { endpoint, tls, template, parameters: BTreeMap::from_iter(parameters) };
        let (folder, mut generation) = common.begin()?;
        claim.register(&mut generation).await?;
        common.check(&host, &generation).await?;
        let mut done = common.put_to_use(&folder, &generation, &host)?;
        done.checked = true;
        Ok(done)
    }
}

impl Rollback {
    fn run(self) -> Result<Provisioned, ProvisionError> {
        let folder = Folder::open(&self.dir)?;
        let Some(generation) = folder.roll_back()? else {
            return Err(ProvisionError::new(Step::Folder, "there is nothing before the identity in use"));
        };
        Ok(provisioned(&folder, &generation, folder.path().join(SETTINGS)))
    }
}

/// The settings file in the identity's folder.
const SETTINGS: &str = "gateway.toml";

impl Common {
    /// The folder, and the generation to work on: with `--rotate` a new one, else the one there is.
    fn begin(&self) -> Result<(Folder, Generation), ProvisionError> {
        let name = &self.name;
        // AWS IoT's names of things have no dot; frames and topics would take one.
        if !is_name(name) || name.contains('.') {
            let why = format!("{name:?} is no name for it; 1 to 64 characters of A-Z a-z 0-9 _ -");
            return Err(ProvisionError::new(Step::Thing, why));
        }
        let folder = Folder::open(&self.dir)?;
        let generation = match folder.current()? {
            Some(current) if !self.rotate => current.of(name)?,
            _ => folder.stage(name, now_ms())?,
        };
        Ok((folder, generation))
    }

    fn endpoint(&self, host: &str) -> Endpoint {
        Endpoint { host: host.into(), port: self.port, wait_ms_max: self.wait_ms_max }
    }

    /// Proves the new certificate by a connection under the gateway's own name. A running gateway of that
    /// name loses its connection for a moment, and makes it anew.
    async fn check(&self, host: &str, generation: &Generation) -> Result<(), ProvisionError> {
        let tls = TlsPaths { ca: self.ca.clone(), cert: generation.cert_path(), key: generation.key_path() };
        let connected = connect_as(&self.endpoint(host), &tls, generation).await;
        let connection = connected.map_err(|why| {
            let kept = if self.rotate { "; the old certificate stays in use" } else { "" };
            ProvisionError::new(
                Step::Check,
                format!("{why}{kept}; run the command again, it goes on from here"),
            )
        })?;
        connection.close().await;
        Ok(())
    }

    fn put_to_use(
        &self,
        folder: &Folder,
        generation: &Generation,
        host: &str,
    ) -> Result<Provisioned, ProvisionError> {
        folder.switch(generation)?;
        let ca = self.ca.canonicalize().unwrap_or_else(|_| self.ca.clone());
        let lines = settings::lines(&self.name, host, self.port, folder.path(), &ca);
        let settings = folder.write(SETTINGS, &lines)?;
        Ok(provisioned(folder, generation, settings))
    }
}

fn provisioned(folder: &Folder, generation: &Generation, settings: PathBuf) -> Provisioned {
    let progress = &generation.progress;
    let current = folder.path().join(CURRENT);
    Provisioned {
        thing: progress.thing.clone(),
        certificate_id: progress.certificate.as_ref().map(|found| found.id.clone()).unwrap_or_default(),
        checked: false,
        retired: Vec::new(),
        key: current.join(KEY),
        cert: current.join(CERT),
        settings,
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("wants NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
