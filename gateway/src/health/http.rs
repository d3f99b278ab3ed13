//! A few lines of HTTP/1.1: `GET /metrics`, `/health` and `/`, nothing else.
//!
//! Requests that name another host are refused: a web page elsewhere cannot read the gateway's through the
//! browser of somebody who sits here (DNS rebinding).

use std::net::IpAddr;

use super::{Live, metrics, page};

/// The path that is asked for, and whether its body is wanted; or why there is no answer.
pub(super) fn asked(head: &[u8], check_host: bool) -> Result<(&str, bool), Answer> {
    let bad = |why: &str| Answer::text(400, &format!("{why}\n"));
    let head = str::from_utf8(head).map_err(|_| bad("the request is not text"))?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(bad("wants METHOD PATH HTTP/1.1"));
    };
    let host = lines
        .filter_map(|line| line.split_once(':'))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("host").then_some(value.trim()));
    if check_host && host.is_some_and(|host| !is_here(host)) {
        return Err(Answer::text(403, "ask for this machine by its address or as localhost\n"));
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(Answer::text(405, "only GET and HEAD\n")),
    };
    Ok((target.split_once('?').map_or(target, |(path, _)| path), with_body))
}

/// Whether a Host header names this machine by `localhost` or by a loopback address, with or without port.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What `path` shows of a run.
pub(super) fn answer(live: &Live, path: &str) -> Answer {
    match path {
        "/" => Answer::new(200, "text/html; charset=utf-8", page::html(&live.snapshot(), &live.points())),
        "/metrics" => Answer::new(200, metrics::CONTENT_TYPE, metrics::text(&live.snapshot())),
        "/health" => {
            let snapshot = live.snapshot();
            let status = if snapshot.problems.is_empty() { 200 } else { 503 };
            match serde_json::to_string(&snapshot) {
                Ok(json) => Answer::new(status, "application/json", json + "\n"),
                Err(error) => Answer::text(500, &format!("{error}\n")),
            }
        }
        _ => Answer::text(404, "here are /, /health and /metrics\n"),
    }
}

/// What goes back.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, body }
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.to_owned())
    }

    /// Status line and headers.
    pub(super) fn head(&self) -> String {
        let Self { status, content_type, body } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\n\
             content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
             {}connection: close\r\n\r\n",
            body.len(),
            if *status == 405 { "allow: GET, HEAD\r\n" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_request_is_understood_or_refused(head in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = asked(&head, true);
        }

        #[test]
        fn nearly_right_requests_too(head in "(GET|HEAD|PUT) {1,2}/[a-z?/]{0,9} HTTP/1.[01](\r\n(Host|X): ?[a-z.:\\[\\]0-9]{0,20}){0,3}") {
            let _ = asked(head.as_bytes(), true);
        }
    }
}
