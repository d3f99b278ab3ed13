//! AWS's APIs on a free loopback port, by moto's server.

use std::process::{Command, Output};

use serde_json::Value;

#[path = "../../../tests/shared/moto.rs"]
mod server;

pub use server::Moto;

impl Moto {
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
        let (status, answer) = self.send(service, method, path, headers, body);
        let text = String::from_utf8_lossy(&answer);
        assert!((200..300).contains(&status), "{service} {method} {path}: {status} {text}");
        answer
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
