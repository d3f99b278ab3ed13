//! AWS's APIs on a free loopback port, by moto's server.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take to start on a machine with much else to do.
const START_MAX: Duration = Duration::from_secs(240);

/// The server; it is killed when it is dropped.
pub struct Moto {
    pub port: u16,
    child: Child,
}

impl Moto {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let in_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/moto_server");
        let server = match env::var_os("MOTO_SERVER") {
            Some(server) => server,
            None if in_tests.exists() => in_tests.into(),
            None => "moto_server".into(),
        };
        let child = Command::new(server)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server is installed (tests/python/requirements.txt) or named in MOTO_SERVER");
        let moto = Self { port, child };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < START_MAX, "moto does not start");
            sleep(Duration::from_millis(50));
        }
        moto
    }

    /// Status and body of a request to `service`; each of `headers` ends its line.
    pub fn send(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let scope = format!("Credential=test/20260101/eu-west-1/{service}/aws4_request");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\
             Authorization: AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0\r\n\r\n",
            self.port,
            body.len()
        );
        socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    /// From now on signatures and rights are checked, or not.
    pub fn check_rights(&self, check: bool) {
        let unchecked: &[u8] = if check { b"0" } else { b"1000000" };
        assert_eq!(self.send("s3", "POST", "/moto-api/reset-auth", "", unchecked).0, 200);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
