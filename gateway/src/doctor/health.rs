//! Whether the health server can have its port or socket.

use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;

use super::Report;
use crate::health::server::Listen;

/// Longest path of a unix socket on Linux, in bytes (unix(7): 108 with the closing zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(super) fn check(report: &mut Report, listen: &Listen, running: bool) {
    match listen {
        Listen::Off => {
            report.warn("health", "the health server is off", "set [health] listen to see how it is doing")
        }
        Listen::Unix(path) if path.as_os_str().as_bytes().len() > SOCKET_PATH_BYTES_MAX => report.fail(
            "health",
            format!("{} is too long for a socket: at most {SOCKET_PATH_BYTES_MAX} bytes", path.display()),
            "set [health] listen = \"unix:/a/shorter/path\"",
        ),
        Listen::Unix(path) => report.ok("health", format!("socket {}", path.display())),
        Listen::Tcp(address) => match TcpListener::bind(address) {
            Ok(_) => report.ok("health", format!("{address} is free")),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && running => {
                report.ok("health", format!("{address} is in use; a gateway runs on this spool"));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => report.fail(
                "health",
                format!("{address} is in use by another program"),
                format!(
                    "`ss -ltnp sport = {}` names it; or set [health] listen to another port",
                    address.port()
                ),
            ),
            Err(error) => report.fail("health", format!("{address}: {error}"), "set [health] listen"),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_taken_port_is_named_unless_it_is_our_gateways() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = Listen::Tcp(taken.local_addr().unwrap());
        let mut report = Report::default();
        check(&mut report, &listen, true);
        assert!(!report.has_failed(), "{report}");
        check(&mut report, &listen, false);
        assert!(report.has_failed() && report.findings[1].what.contains("another program"), "{report}");
        let mut report = Report::default();
        check(&mut report, &Listen::Unix(format!("/{}", "x".repeat(107)).into()), false);
        assert!(report.has_failed());
    }
}
