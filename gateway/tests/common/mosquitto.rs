//! A real Mosquitto with mutual TLS: the certificate's common name is the user, an ACL plays the policy.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::pki::PemFiles;

/// Each gateway writes below its own name; `bridge` reads what all of them wrote, with Basic Ingest too, and
/// writes to them.
pub const ACL: &str = "\
user bridge
topic readwrite ingot/#
topic read $aws/rules/#
pattern write ingot/bronze/%u/#
pattern write ingot/status/%u
pattern write $aws/rules/ingot_bronze/ingot/bronze/%u/#
pattern read ingot/cmd/%u/#
pattern read ingot/contract/%u
";

/// Longest time for a start or a stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker on a free loopback port; it is killed when it is dropped.
pub struct Mosquitto {
    pub port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one that trusts the clients of `ca` and keeps its files in `dir`.
    pub fn start(dir: &Path, ca: &Path, server: &PemFiles, acl: &str) -> Self {
        let dir = dir.join(format!("mosquitto-{:08x}", fastrand::u32(..)));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("acl"), acl).unwrap();
        let mut broker = Self { port: 0, dir, child: None };
        let started = Instant::now();
        loop {
            broker.port = free_port();
            broker.configure(ca, server);
            if broker.starts() {
                return broker;
            }
            assert!(started.elapsed() < PATIENCE, "mosquitto: {}", broker.log());
        }
    }

    /// What takes effect at the next start; `server` and `ca` may be others than before. A directory as
    /// `ca` is of hashed names (`openssl rehash`), and what is added to it is trusted at once.
    pub fn configure(&self, ca: &Path, server: &PemFiles) {
        let (dir, port) = (self.dir.display(), self.port);
        let trust = if ca.is_dir() { "capath" } else { "cafile" };
        let (ca, cert, key) = (ca.display(), server.cert.display(), server.key.display());
        let config = format!(
            "user root\nper_listener_settings false\npersistence true\npersistence_location {dir}/\n\
             listener {port} 127.0.0.1\n{trust} {ca}\ncertfile {cert}\nkeyfile {key}\n\
             require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n\
             acl_file {dir}/acl\nmessage_size_limit 131072\nmax_inflight_messages 100\n\
             max_queued_messages 0\nmax_keepalive 1200\n"
        );
        fs::write(self.dir.join("mosquitto.conf"), config).unwrap();
    }

    /// A further line of its settings, from the next start on.
    pub fn add_setting(&self, line: &str) {
        let path = self.dir.join("mosquitto.conf");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{config}{line}\n")).unwrap();
    }

    /// Starts it on the same port, with the sessions that it has on disk; returns once it accepts.
    pub fn start_again(&mut self) {
        let started = Instant::now();
        while !self.starts() {
            // Another process may hold the port for a moment.
            assert!(started.elapsed() < PATIENCE, "mosquitto: {}", self.log());
            sleep(Duration::from_millis(50));
        }
    }

    /// `true` once it accepts, `false` if it ended because it could not.
    fn starts(&mut self) -> bool {
        assert!(self.child.is_none(), "it runs");
        // Its own word: on a port that another broker took first, a connection would prove nothing.
        let runs = |log: &str| log.matches(" running\n").count();
        let before = runs(&self.log());
        let mut child = self.spawn();
        while child.try_wait().unwrap().is_none() {
            if runs(&self.log()) > before && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.child = Some(child);
                return true;
            }
            sleep(Duration::from_millis(10));
        }
        false
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        Command::new("/usr/sbin/mosquitto")
            .arg("-c")
            .arg(self.dir.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed (apt-get install mosquitto)")
    }

    /// Stops it in order: it writes its sessions and what waits in them to disk.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "mosquitto does not end");
            sleep(Duration::from_millis(5));
        }
    }

    /// Between a stop and a start: forgets all sessions, and what waits in them.
    pub fn forget_sessions(&self) {
        assert!(self.child.is_none(), "it runs");
        let _ = fs::remove_file(self.dir.join("mosquitto.db"));
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A port that was free a moment ago: the broker cannot choose one by itself. It is below those that the
/// system gives to outgoing connections, so that it is still free after a stop.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).find(free).unwrap()
}
