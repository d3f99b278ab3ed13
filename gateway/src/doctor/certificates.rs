//! The gateway's certificate, its key and the roots: readable, private, fitting, in time, for this client.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::{Error, InconsistentKeys};

use super::Report;
use crate::certificate::{self, Facts};
use crate::clock::date_utc;
use crate::uplink::tls::{TlsError, TlsPaths, client_config};

/// A certificate that ends within this time is warned of.
const RENEW_BEFORE_S: u64 = 30 * 86_400;

/// AWS IoT gives this name to the certificates that it makes; the policy ties them to a thing.
const AWS_COMMON_NAME: &str = "AWS IoT Certificate";

pub(super) fn check(report: &mut Report, tls: &TlsPaths, client_id: &str, now_s: u64) {
    for (check, path) in [("root cert", &tls.ca), ("certificate", &tls.cert)] {
        match certificate::read(path) {
            Ok(facts) => {
                validity(report, check, path, &facts, now_s);
                if check == "certificate" {
                    subject(report, path, &facts, client_id);
                }
            }
            Err(error) => report.fail(
                check,
                format!("{}: {error}", path.display()),
                "wants a PEM file that begins with -----BEGIN CERTIFICATE-----",
            ),
        }
    }
    key(report, tls);
}

fn validity(report: &mut Report, check: &'static str, path: &Path, facts: &Facts, now_s: u64) {
    let date = |s: u64| date_utc(i64::try_from(s).unwrap_or(0).saturating_mul(1_000));
    let (from, until) = (date(facts.not_before_s), date(facts.not_after_s));
    let path = path.display();
    if now_s > facts.not_after_s {
        report.fail(
            check,
            format!("{path} expired on {until}; the clock shows {}", date(now_s)),
            "renew it; if the clock is wrong, set it",
        );
    } else if now_s < facts.not_before_s {
        report.fail(
            check,
            format!("{path} is not valid before {from}; the clock shows {}", date(now_s)),
            "the clock is most likely behind: set it; else wait or get another certificate",
        );
    } else if facts.not_after_s - now_s < RENEW_BEFORE_S {
        let days = (facts.not_after_s - now_s) / 86_400;
        report.warn(check, format!("{path} expires on {until}, in {days} days"), "renew it");
    } else {
        report.ok(check, format!("{path} is valid from {from} until {until}"));
    }
}

fn subject(report: &mut Report, path: &Path, facts: &Facts, client_id: &str) {
    let common_name = facts.common_name.as_deref().unwrap_or_default();
    let named = common_name == client_id || facts.dns_names.iter().any(|name| name == client_id);
    if named || common_name == AWS_COMMON_NAME {
        report.ok("subject", format!("{common_name:?} fits client_id {client_id:?}"));
    } else {
        report.warn(
            "subject",
            format!("{} is for {common_name:?}, and client_id is {client_id:?}", path.display()),
            "a broker whose policy ties the client id to the certificate refuses this: set \
             uplink.mqtt.client_id (or name) to the certificate's name",
        );
    }
}

fn key(report: &mut Report, tls: &TlsPaths) {
    let path = tls.key.display();
    let mode = fs::metadata(&tls.key).map(|found| found.permissions().mode() & 0o777).unwrap_or(0);
    let todo = format!("`chmod 600 {path}`");
    if mode & 0o007 != 0 {
        report.fail(
            "key mode",
            format!("{path} is open to every user of this machine (mode {mode:o})"),
            todo,
        );
    } else if mode & 0o070 != 0 {
        report.warn("key mode", format!("{path} is open to its group (mode {mode:o})"), todo);
    } else {
        report.ok("key mode", format!("{path} is its owner's alone (mode {mode:o})"));
    }
    match client_config(tls) {
        Ok(_) => report.ok("key", "it belongs to the certificate"),
        Err(TlsError::Unfit { source: Error::InconsistentKeys(InconsistentKeys::KeyMismatch), .. }) => report
            .fail(
                "key",
                format!("{path} is not the key of {}", tls.cert.display()),
                "take certificate and key of the same pair",
            ),
        Err(error) => {
            report.fail("key", error.to_string(), "wants PEM files: a chain, its private key, the roots")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn validity_is_judged_at_both_ends() {
        let facts = Facts {
            common_name: None,
            dns_names: Vec::new(),
            not_before_s: 1_000,
            not_after_s: 1_000 + RENEW_BEFORE_S + 10,
        };
        let mut report = Report::default();
        for now_s in [999, 1_000, 1_011, facts.not_after_s, facts.not_after_s + 1] {
            validity(&mut report, "certificate", Path::new("x.pem"), &facts, now_s);
        }
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        use Verdict::{Fail, Ok, Warn};
        assert_eq!(verdicts, [Fail, Ok, Warn, Warn, Fail], "{report}");
        assert!(report.findings[0].what.contains("not valid before 1970-01-01"));
        assert!(report.findings[4].what.contains("expired on 1970-01-31"));
    }
}
