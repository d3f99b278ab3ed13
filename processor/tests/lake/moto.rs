//! AWS's APIs on a free loopback port, by moto's server.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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
            assert!(started.elapsed() < Duration::from_secs(240), "moto does not start");
            sleep(Duration::from_millis(50));
        }
        moto
    }

    /// A call of a JSON protocol.
    pub fn call(&self, service: &str, target: &str, input: &Value) -> Value {
        let headers = format!("X-Amz-Target: {target}\r\nContent-Type: application/x-amz-json-1.1\r\n");
        let answer = self.ask(service, "POST", "/", &headers, input.to_string().as_bytes());
        if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() }
    }

    /// A call of the query protocol.
    pub fn form(&self, service: &str, form: &str) -> String {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        String::from_utf8(self.ask(service, "POST", "/", headers, form.as_bytes())).unwrap()
    }

    /// A bucket.
    pub fn bucket(&self, name: &str) {
        let place = "<LocationConstraint>eu-west-1</LocationConstraint>";
        let body = format!("<CreateBucketConfiguration>{place}</CreateBucketConfiguration>");
        self.ask("s3", "PUT", &format!("/{name}"), "", body.as_bytes());
    }

    /// An object.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.ask("s3", "PUT", &path(bucket, key), "", bytes);
    }

    /// An object's text.
    pub fn get(&self, bucket: &str, key: &str) -> String {
        String::from_utf8(self.ask("s3", "GET", &path(bucket, key), "", b"")).unwrap()
    }

    /// A request that succeeds; its answer.
    pub fn ask(&self, service: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\
             Authorization: AWS4-HMAC-SHA256 \
             Credential=test/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            self.port,
            body.len()
        );
        socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let text = String::from_utf8_lossy(&answer[end..]);
        assert!(head.starts_with("HTTP/1.1 20"), "{service} {method} {path}: {head} {text}");
        answer.split_off(end + 4)
    }

    /// From now on signatures and rights are checked, or not.
    pub fn check_rights(&self, check: bool) {
        self.ask("s3", "POST", "/moto-api/reset-auth", "", if check { b"0" } else { b"1000000" });
    }

    /// A user with these rights on everything: the id and the secret of its access key.
    pub fn user(&self, name: &str, actions: &[&str]) -> [String; 2] {
        let version = "Version=2010-05-08";
        self.form("iam", &format!("Action=CreateUser&UserName={name}&{version}"));
        let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": "*"}
        ]});
        self.form(
            "iam",
            &format!("Action=PutUserPolicy&UserName={name}&PolicyName=p&PolicyDocument={policy}&{version}"),
        );
        let made = self.form("iam", &format!("Action=CreateAccessKey&UserName={name}&{version}"));
        let field = |tag: &str| {
            let (_, rest) = made.split_once(&format!("<{tag}>")).unwrap();
            rest.split_once("</").unwrap().0.to_owned()
        };
        ["AccessKeyId", "SecretAccessKey"].map(field)
    }

    /// The processor, about to run against it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ingot-processor"));
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    /// Runs the processor against it: exit code, report and stderr.
    pub fn processor(&self, words: &[&str]) -> (i32, Value, String) {
        ended(&self.command().args(["--format", "json"]).args(words).output().unwrap())
    }

    /// The rows that the lake answers.
    pub fn rows(&self, lake: &str, sql: &str) -> Vec<Value> {
        let ran = self.command().args(["--format", "json", "query", "--lake", lake, sql]).output().unwrap();
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        let lines = String::from_utf8(ran.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn path(bucket: &str, key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let encoded = key
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    format!("/{bucket}/{}", encoded.collect::<String>())
}

/// Exit code, report and stderr of a processor that ended.
pub fn ended(ran: &Output) -> (i32, Value, String) {
    let report = serde_json::from_slice(&ran.stdout).unwrap_or_default();
    (ran.status.code().unwrap(), report, String::from_utf8_lossy(&ran.stderr).into_owned())
}
