//! The health server: listens, reads one request a connection, and answers as module `http` says.
//!
//! It reads numbers and writes text; nothing can be changed through it. It listens on a unix socket in
//! the spool's directory, or on a loopback address, so that nothing is reachable from the network unless
//! the settings ask for that.
//!
//! Limits: [`CONNECTIONS_MAX`], [`REQUEST_BYTES_MAX`], [`REQUEST_TIME_MAX`]. Whoever is beyond them waits,
//! or is answered and cut off; the gateway's work is not touched.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};

use super::Live;
use super::http::{Answer, answer, asked};
use super::live::POINT_EVERY;

/// Requests answered at the same time; more of them wait.
pub const CONNECTIONS_MAX: usize = 8;

/// Longest request, its headers included, in bytes.
pub const REQUEST_BYTES_MAX: usize = 8_192;

/// Longest time for a request and its answer.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// Wait after the system refused a connection (no file descriptors left).
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Where the health server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// A unix socket; only this user may connect.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// A running server; it ends, and its socket file goes, when this is dropped.
pub struct Server {
    task: JoinHandle<()>,
    points: JoinHandle<()>,
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        self.points.abort();
        if let Some(path) = &self.socket {
            // A socket that stays is replaced by the next run.
            let _ = fs::remove_file(path);
        }
    }
}

impl Server {
    /// Listens and answers with what `live` holds; `None` when it is off.
    ///
    /// Call it while the spool is locked: a socket file that is there is then a dead run's.
    ///
    /// # Errors
    /// The address or path cannot be listened on.
    pub fn start(listen: &Listen, live: Arc<Live>) -> io::Result<Option<Self>> {
        let mut server = Self {
            points: tokio::spawn(note_points(Arc::clone(&live))),
            task: tokio::spawn(std::future::ready(())),
            socket: None,
            address: None,
        };
        match listen {
            Listen::Off => return Ok(None),
            Listen::Unix(path) => {
                // Only ever a socket: a path set by mistake must not cost a file.
                if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                    fs::remove_file(path)?;
                }
                let listener = UnixListener::bind(path)?;
                server.socket = Some(path.clone());
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                server.task = tokio::spawn(accept(live, false, async move || {
                    listener.accept().await.map(|(socket, _)| socket)
                }));
            }
            Listen::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                server.address = Some(listener.local_addr()?);
                let check_host = address.ip().is_loopback();
                server.task = tokio::spawn(accept(live, check_host, async move || {
                    listener.accept().await.map(|(socket, _)| socket)
                }));
            }
        }
        Ok(Some(server))
    }

    /// Ends it, and whoever is being answered: the spool is no longer looked at after this.
    pub async fn end(mut self) {
        for task in [&mut self.task, &mut self.points] {
            task.abort();
            let _ = task.await;
        }
    }

    /// The TCP address that it listens on; the port is the real one where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

async fn note_points(live: Arc<Live>) {
    let mut ticks = interval(POINT_EVERY);
    loop {
        ticks.tick().await;
        live.note_point();
    }
}

async fn accept<S>(live: Arc<Live>, check_host: bool, next: impl AsyncFn() -> io::Result<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let socket = match next().await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "the health server cannot take a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let live = Arc::clone(&live);
        connections.spawn(async move {
            // Who is too slow or gone has no answer to get.
            let _ = timeout(REQUEST_TIME_MAX, serve(socket, &live, check_host)).await;
            drop(place);
        });
    }
}

async fn serve(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    live: &Arc<Live>,
    check_host: bool,
) -> io::Result<()> {
    let mut request = Vec::with_capacity(1_024);
    let head = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break Some(&request[..end]);
        }
        if request.len() >= REQUEST_BYTES_MAX {
            break None;
        }
        let mut piece = [0; 1_024];
        let wanted = piece.len().min(REQUEST_BYTES_MAX - request.len());
        match socket.read(&mut piece[..wanted]).await? {
            0 => return Ok(()),
            read => request.extend_from_slice(&piece[..read]),
        }
    };
    let (answer, with_body) = match head.map(|head| asked(head, check_host)) {
        None => (Answer::text(431, "the request is too long\n"), true),
        Some(Err(refusal)) => (refusal, true),
        Some(Ok((path, with_body))) => {
            let (live, path) = (Arc::clone(live), path.to_owned());
            // A snapshot reads from disk.
            let answer = tokio::task::spawn_blocking(move || answer(&live, &path)).await;
            (answer.map_err(io::Error::other)?, with_body)
        }
    };
    socket.write_all(answer.head().as_bytes()).await?;
    if with_body {
        socket.write_all(answer.body.as_bytes()).await?;
    }
    socket.shutdown().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::spool::{Recovered, Spool, SpoolConfig, WhenFull};
    use tokio::io::duplex;
    use tokio::net::TcpStream;
    use tokio::time::Instant;

    fn live(dir: &std::path::Path) -> Arc<Live> {
        let config = SpoolConfig {
            dir: dir.into(),
            bytes_max: 1 << 20,
            segment_bytes_max: 1 << 16,
            fsync_interval_ms: 0,
            when_full: WhenFull::Refuse,
            live_share_percent: 20,
            live_lag_ms_max: 30_000,
        };
        let undated = SpoolConfig { dir: dir.join("undated"), ..config.clone() };
        let [spool, undated] =
            [config, undated].map(|config| Arc::new(Spool::open(config).unwrap().0.into()));
        Arc::new(Live::new(("gw-1", 7), (spool, undated), Recovered::default()))
    }

    async fn ask(live: &Arc<Live>, request: &[u8]) -> String {
        let (mut near, far) = duplex(1 << 20);
        near.write_all(request).await.unwrap();
        near.shutdown().await.unwrap();
        serve(far, live, true).await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_answers_three_paths_and_refuses_the_rest_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(dir.path());
        for (request, status, part) in [
            ("GET /metrics HTTP/1.1\r\nHost: localhost:9464\r\n\r\n", 200, "ingot_gateway_readings_total 0"),
            ("GET /health?now HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", 200, "\"gateway\":\"gw-1\""),
            ("GET / HTTP/1.0\r\n\r\n", 200, "<h1>gw-1</h1>"),
            ("HEAD / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 200, "content-length: "),
            ("GET /etc/passwd HTTP/1.1\r\n\r\n", 404, "/metrics"),
            ("POST /health HTTP/1.1\r\n\r\n", 405, "allow: GET, HEAD"),
            ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "localhost"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 403, "localhost"),
            ("GET /\r\n\r\n", 400, "wants METHOD"),
            ("\r\n\r\n", 400, "wants METHOD"),
        ] {
            let answer = ask(&live, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}\n{answer}");
            assert!(answer.contains(part), "{request:?}\n{answer}");
        }
        let head = ask(&live, b"HEAD / HTTP/1.1\r\n\r\n").await;
        assert!(head.ends_with("\r\n\r\n") && !head.contains("<html"));
        let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'x'; REQUEST_BYTES_MAX]].concat();
        assert!(ask(&live, &long).await.starts_with("HTTP/1.1 431 "));
        assert_eq!(ask(&live, b"GET / HT").await, "", "an unfinished request has no answer");
    }

    #[tokio::test]
    async fn trouble_makes_health_answer_503() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(dir.path());
        live.sealing.send_modify(|sealing| sealing.not_saved = 3);
        let answer = ask(&live, b"GET /health HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("3 readings were lost"), "{answer}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn slow_clients_cannot_keep_others_out_for_longer_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(dir.path());
        let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
        let server = Server::start(&listen, Arc::clone(&live)).unwrap().unwrap();
        let address = server.address().unwrap();
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            slow.push(TcpStream::connect(address).await.unwrap());
        }
        let started = Instant::now();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(2 * REQUEST_TIME_MAX, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(started.elapsed() > REQUEST_TIME_MAX / 2, "it had to wait for a slow one to be cut off");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_unix_socket_is_this_users_alone_replaces_a_dead_one_and_goes_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let live = live(dir.path());
        let path = dir.path().join("health.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead run's socket file stays");
        let server = Server::start(&Listen::Unix(path.clone()), live).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        client.write_all(b"GET /health HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(server);
        assert!(!path.exists());
    }
}
