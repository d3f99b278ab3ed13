//! What systemd is told (sd_notify(3)): starting, ready, reloading, stopping, one line of status, and that the
//! parts still answer.
//!
//! Without `NOTIFY_SOCKET` nothing is sent. `WATCHDOG=1` goes out only while the batcher and the uplink
//! answer: when a thread hangs in the disk the watchdog falls silent and systemd starts the gateway anew.

use std::env;
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::interval;

use crate::health::{Live, Snapshot};

/// From one line of status to the next.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The time asked for again and again while the start lasts.
const START_STEP: Duration = Duration::from_secs(60);

/// A start that takes longer hangs: systemd may end it.
const START_MAX: Duration = Duration::from_secs(3_600);

/// The way to the service manager; without one, nothing happens.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From the variables that systemd sets: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET");
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| meant && *usec > 0).map(Duration::from_micros);
        Self::new(socket.as_deref(), watchdog)
    }

    /// To a socket's path, or to an abstract socket `@name`; `watchdog` is the time that systemd waits.
    pub fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let to = socket.and_then(|path| match open(path) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; systemd will not hear from this run");
                None
            }
        });
        Self { to, watchdog }
    }

    /// Does the work before the gateway is ready, and asks for more time as long as it lasts: reading a
    /// large spool whose counts are gone takes a slow card minutes. After an hour no more: such a start hangs.
    pub async fn starting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        self.status(what);
        let mut work = pin!(work);
        let mut ticks = interval(STATUS_EVERY);
        let begun = Instant::now();
        loop {
            tokio::select! {
                output = &mut work => return output,
                _ = ticks.tick() => if begun.elapsed() < START_MAX {
                    self.send(&format!("EXTEND_TIMEOUT_USEC={}", START_STEP.as_micros()));
                }
            }
        }
    }

    /// Readings are taken.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// New settings are being applied; [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        // sd_notify(3) wants the time of CLOCK_MONOTONIC with RELOADING=1 for Type=notify-reload.
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// Intake has stopped; what is left is sent.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={line}"));
    }

    /// Tells how the run stands, and that it is alive, as long as this is awaited.
    pub async fn watch(&self, live: Arc<Live>) {
        if self.to.is_none() {
            return std::future::pending().await;
        }
        // sd_watchdog_enabled(3) advises half the time; a third leaves room for a late task.
        let every = self.watchdog.map_or(STATUS_EVERY, |watchdog| (watchdog / 3).min(STATUS_EVERY));
        let mut silent_before = Vec::new();
        loop {
            tokio::time::sleep(every).await;
            let silent = live.silent_parts();
            if silent.is_empty() {
                self.send(if self.watchdog.is_some() { "WATCHDOG=1" } else { "" });
            } else if silent != silent_before {
                tracing::error!(?silent, "parts do not answer; the watchdog is not fed");
            }
            silent_before = silent;
            let looked = Arc::clone(&live);
            // A snapshot reads from disk, which may be what hangs: never wait for it.
            let look = tokio::task::spawn_blocking(move || line(&looked.snapshot()));
            if let Ok(Ok(line)) = tokio::time::timeout(every, look).await {
                self.status(&line);
            }
        }
    }

    fn send(&self, message: &str) {
        if let Some((socket, to)) = &self.to
            && !message.is_empty()
            && let Err(error) = socket.send_to_addr(message.as_bytes(), to)
        {
            tracing::debug!(%error, "systemd was not told");
        }
    }
}

fn open(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

fn line(snapshot: &Snapshot) -> String {
    let link = if snapshot.uplink.connected { "connected" } else { "not connected" };
    let spool = &snapshot.spool;
    let mut line = format!(
        "{link}; {} readings taken, {} confirmed, {} frames wait in the spool",
        snapshot.readings.produced, snapshot.readings.acked, spool.frames
    );
    if let Some(problem) = snapshot.problems.first() {
        line = format!("{problem}; {line}");
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::health::live::SILENT_MAX;
    use crate::spool::{Recovered, Spool, SpoolConfig, WhenFull};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn messages_reach_a_path_and_an_abstract_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("ingot-notify-{}", process::id());
        let address = SocketAddr::from_abstract_name(abstract_name.as_bytes()).unwrap();
        for (name, manager) in [
            (path.as_os_str().to_owned(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{abstract_name}").into(), UnixDatagram::bind_addr(&address).unwrap()),
        ] {
            let notifier = Notifier::new(Some(&name), None);
            notifier.ready();
            notifier.reloading();
            notifier.status("fine");
            let mut heard = Vec::new();
            for _ in 0..3 {
                let mut buffer = [0; 200];
                let bytes = manager.recv(&mut buffer).unwrap();
                heard.push(String::from_utf8(buffer[..bytes].to_vec()).unwrap());
            }
            assert_eq!((heard[0].as_str(), heard[2].as_str()), ("READY=1", "STATUS=fine"));
            let usec = heard[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(usec.parse::<u64>().unwrap() > 0);
        }
    }

    #[tokio::test]
    async fn a_long_start_asks_for_more_time() {
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notifier = Notifier::new(Some(dir.path().join("notify").as_os_str()), None);
        assert_eq!(
            notifier
                .starting("reading", async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    7
                })
                .await,
            7
        );
        let mut buffer = [0; 200];
        let mut heard = || {
            let bytes = manager.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..bytes].to_vec()).unwrap()
        };
        assert_eq!([heard(), heard()], ["STATUS=reading", "EXTEND_TIMEOUT_USEC=60000000"]);
    }

    #[test]
    fn without_a_manager_or_with_a_dead_one_nothing_happens() {
        Notifier::default().ready();
        Notifier::new(Some(OsStr::new("/nowhere/at/all")), None).ready();
        Notifier::new(Some(OsStr::new("")), None).ready();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stuck_batcher_stops_the_watchdog_and_one_that_answers_feeds_it() {
        let dir = tempfile::tempdir().unwrap();
        let spool = SpoolConfig {
            dir: dir.path().into(),
            bytes_max: 1 << 20,
            segment_bytes_max: 1 << 16,
            fsync_interval_ms: 0,
            when_full: WhenFull::Refuse,
            live_share_percent: 20,
            live_lag_ms_max: 30_000,
        };
        let undated = SpoolConfig { dir: dir.path().join("undated"), ..spool.clone() };
        let [spool, undated] = [spool, undated].map(|config| Arc::new(Spool::open(config).unwrap().0.into()));
        let live = Arc::new(Live::new(("gw", 1), (spool, undated), Recovered::default()));
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let fed = || {
            let mut buffer = [0; 1_000];
            let messages =
                std::iter::from_fn(|| manager.recv(&mut buffer).ok().map(|bytes| buffer[..bytes].to_vec()));
            messages.filter(|message| message == b"WATCHDOG=1").count()
        };
        let notifier = Notifier::new(Some(path.as_os_str()), Some(Duration::from_millis(300)));
        let watching = tokio::spawn({
            let live = Arc::clone(&live);
            async move { notifier.watch(live).await }
        });
        // The uplink is done; the batcher works for a while, then its thread hangs.
        live.uplink.beside(std::future::ready(())).await;
        let hung = Arc::new(AtomicBool::new(true));
        let batcher = thread::spawn({
            let (live, hung) = (Arc::clone(&live), Arc::clone(&hung));
            move || {
                let work = async {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    while hung.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(20));
                    }
                    tokio::time::sleep(Duration::from_secs(2)).await;
                };
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(live.batcher.beside(work));
            }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(fed() > 0, "it is fed while the batcher answers");
        tokio::time::sleep(SILENT_MAX).await;
        fed();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((fed(), live.silent_parts()), (0, vec!["batcher"]));
        hung.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(fed() > 0, "it is fed again");
        batcher.join().unwrap();
        watching.abort();
    }
}
