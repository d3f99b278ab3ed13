//! `ingot-gateway doctor`: looks at all that a gateway needs, in the order in which it needs it, and says
//! in words what is wrong and what to do.
//!
//! It changes nothing, except that with `--publish` it sends one empty frame. While a gateway runs on the
//! same spool it makes no MQTT connection: a broker ends the older of two with one client id.

mod certificates;
mod clock;
mod device;
mod disk;
mod health;
mod link;
mod sources;
mod tls;

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::config::{Config, UplinkConfig};
use crate::reload::Origin;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The gateway can run, but look at it.
    Warn,
    /// The gateway cannot do its work.
    Fail,
    /// Not looked at, because of what was found before.
    Skip,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found, in words.
    pub what: String,
    /// What to do about it; empty when nothing.
    pub todo: String,
}

/// All findings, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One a check.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether anything keeps the gateway from its work.
    pub fn has_failed(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Fail)
    }

    fn add(
        &mut self,
        check: &'static str,
        verdict: Verdict,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.findings.push(Finding { check, verdict, what: what.into(), todo: todo.into() });
    }

    fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(check, Verdict::Ok, what, "");
    }

    fn warn(&mut self, check: &'static str, what: impl Into<String>, todo: impl Into<String>) {
        self.add(check, Verdict::Warn, what, todo);
    }

    fn fail(&mut self, check: &'static str, what: impl Into<String>, todo: impl Into<String>) {
        self.add(check, Verdict::Fail, what, todo);
    }

    fn skip(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, Verdict::Skip, why, "");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, verdict, what, todo } in &self.findings {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
                Verdict::Skip => "-",
            };
            let what = what.replace('\n', "\n                     ");
            writeln!(to, "{verdict:<5}{check:<15} {what}")?;
            if !todo.is_empty() {
                writeln!(to, "{:21}-> {todo}", "")?;
            }
        }
        let count = |wanted| self.findings.iter().filter(|finding| finding.verdict == wanted).count();
        write!(
            to,
            "\n{} ok, {} warnings, {} failures",
            count(Verdict::Ok),
            count(Verdict::Warn),
            count(Verdict::Fail)
        )
    }
}

/// Looks at everything. `publish`: also sends one empty frame, to see whether the broker lets it.
pub async fn examine(origin: &Origin, publish: bool) -> Report {
    let mut report = Report::default();
    let config = match origin.load() {
        Ok(config) => config,
        Err(error) => {
            report.fail(
                "config",
                error.to_string(),
                "mend these keys; config/gateway.example.toml shows all of them",
            );
            return report;
        }
    };
    let file =
        origin.path.as_deref().map_or("defaults and flags".into(), |path: &Path| path.display().to_string());
    report.ok("config", format!("{file}: gateway {}", config.name));
    let running = disk::check(&mut report, &config.spool);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    clock::check(&mut report, &config.clock, &config.spool.dir);
    uplink(&mut report, &config, now_s, running, publish).await;
    sources::check(&mut report, &config.sources, running).await;
    health::check(&mut report, &config.health, running);
    report
}

async fn uplink(report: &mut Report, config: &Config, now_s: u64, running: bool, publish: bool) {
    match &config.uplink {
        UplinkConfig::Lake(lake) => disk::check_lake(report, &lake.root),
        UplinkConfig::Mqtt(mqtt) => {
            if let Some(tls) = &mqtt.tls {
                certificates::check(report, tls, &mqtt.client_id, now_s);
            }
            let topic = config.contract_updates.as_ref().map(|updates| updates.topic.as_str());
            link::check(report, mqtt, (&config.name, topic), running, publish).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_table_counts_and_says_what_to_do() {
        let mut report = Report::default();
        report.ok("config", "fine");
        report.warn("spool", "two\nlines", "do this");
        let said = report.to_string();
        assert!(said.contains("warn spool           two\n                     lines\n"), "{said}");
        assert!(said.contains("-> do this") && said.ends_with("1 ok, 1 warnings, 0 failures"), "{said}");
    }
}
