//! AWS's APIs on a free loopback port, by moto's server.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The server; it is killed when it is dropped.
pub struct Moto {
    pub port: u16,
    child: Child,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
            assert!(started.elapsed() < Duration::from_secs(60), "moto does not start");
            sleep(Duration::from_millis(50));
        }
        moto
    }

    /// A call of a JSON protocol.
    pub fn call(&self, service: &str, target: &str, input: &Value) -> Value {
        let headers = format!("X-Amz-Target: {target}\r\nContent-Type: application/x-amz-json-1.1\r\n");
        let answer = self.post(service, &headers, &input.to_string());
        if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
    }

    /// A call of the query protocol.
    pub fn form(&self, service: &str, form: &str) -> String {
        self.post(service, "Content-Type: application/x-www-form-urlencoded\r\n", form)
    }

    fn post(&self, service: &str, headers: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\
             Authorization: AWS4-HMAC-SHA256 \
             Credential=test/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            self.port,
            body.len()
        );
        socket.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, answer) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{service}: {head} {answer}");
        answer.to_owned()
    }

    /// Runs the processor against it: exit code, report and stderr.
    pub fn processor(&self, words: &[&str]) -> (i32, Value, String) {
        let ran = Command::new(env!("CARGO_BIN_EXE_ingot-processor"))
            .args(["--format", "json"])
            .args(words)
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .output()
            .unwrap();
        let report = serde_json::from_slice(&ran.stdout).unwrap_or_default();
        (ran.status.code().unwrap(), report, String::from_utf8_lossy(&ran.stderr).into_owned())
    }
}
