//! AWS's APIs on a free loopback port, by moto's server, and a proxy that cuts a run at any request.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use serde_json::{Value, json};

use super::pki::Ca;

#[path = "../../../tests/shared/moto.rs"]
mod server;

pub use server::Moto;

/// Headers of a request to IAM and STS.
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

impl Moto {
    /// Status and body of a request to `service`.
    pub fn request(&self, service: &str, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let headers = if matches!(service, "iam" | "sts") { FORM } else { "" };
        self.send(service, method, path, headers, body)
    }

    /// A role with this right on the bucket, taken: access key's id, secret and token.
    pub fn role(&self, name: &str, action: &str, bucket: &str) -> [String; 3] {
        let call = |service: &str, query: String| {
            let (status, body) = self.request(service, "POST", "/", query.as_bytes());
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status, 200, "{body}");
            body
        };
        let (iam, sts) = ("Version=2010-05-08", "Version=2011-06-15");
        call("iam", format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={{}}&{iam}"));
        let policy = format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":\"{action}\",\
             \"Resource\":\"arn:aws:s3:::{bucket}/*\"}}]}}"
        );
        call(
            "iam",
            format!("Action=PutRolePolicy&RoleName={name}&PolicyName=p&PolicyDocument={policy}&{iam}"),
        );
        let arn = format!("arn:aws:iam::123456789012:role/{name}");
        let made = call("sts", format!("Action=AssumeRole&RoleArn={arn}&RoleSessionName=gateway&{sts}"));
        let field = |tag: &str| {
            let (_, rest) = made.split_once(&format!("<{tag}>")).unwrap();
            rest.split_once("</").unwrap().0.to_owned()
        };
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(field)
    }

    /// What IoT's API lists.
    pub fn iot(&self, path: &str) -> Value {
        let (status, body) = self.request("iot", "GET", path, b"");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

/// Where a run is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// This request does not arrive, nor does any after it.
    Before(u32),
    /// This request is done and its answer is lost; none after it arrives.
    After(u32),
    Never,
}

/// One connection a request, passed on to moto until the cut. Moto gives certificates for keys of its own
/// making; here an authority signs what is asked for, and moto gets the certificate to register.
pub struct Proxy {
    pub port: u16,
    seen: Arc<Mutex<(u32, Cut)>>,
}

impl Proxy {
    pub fn start(to: u16, ca: Ca) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new((0, Cut::Never)));
        let (shared, ca) = (Arc::clone(&seen), Arc::new(ca));
        spawn(move || {
            for socket in listener.incoming().flatten() {
                let (shared, ca) = (Arc::clone(&shared), Arc::clone(&ca));
                spawn(move || pass(socket, to, &shared, &ca));
            }
        });
        Self { port, seen }
    }

    /// The next run is cut there; requests count from 1.
    pub fn cut(&self, cut: Cut) {
        *self.seen.lock().unwrap() = (0, cut);
    }

    /// Requests since then.
    pub fn requests(&self) -> u32 {
        self.seen.lock().unwrap().0
    }
}

fn pass(mut client: TcpStream, to: u16, seen: &Mutex<(u32, Cut)>, ca: &Ca) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") && !lower.starts_with("content-length:") {
            head += &line;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (number, cut) = {
        let mut seen = seen.lock().unwrap();
        seen.0 += 1;
        *seen
    };
    let (arrives, answered) = match cut {
        Cut::Never => (true, true),
        Cut::Before(at) => (number < at, number < at),
        Cut::After(at) => (number <= at, number < at),
    };
    if arrives {
        let mut server = TcpStream::connect(("127.0.0.1", to)).ok()?;
        let mut certificate = None;
        if head.starts_with("POST /certificates?") {
            let asked: Value = serde_json::from_slice(&body).ok()?;
            let pem = ca.sign(asked["certificateSigningRequest"].as_str()?);
            body = json!({ "certificatePem": pem, "status": "INACTIVE" }).to_string().into();
            head = format!("POST /certificate/register-no-ca HTTP/1.1\r\n{}", head.split_once("\r\n")?.1);
            certificate = Some(pem);
        }
        head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        server.write_all(&[head.as_bytes(), &body].concat()).ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).ok()?;
        if let Some(pem) = certificate {
            let at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
            let mut registered: Value = serde_json::from_slice(&answer[at..]).ok()?;
            registered["certificatePem"] = pem.into();
            let registered = registered.to_string();
            let length = registered.len();
            answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{registered}"
            )
            .into();
        }
        if answered {
            client.write_all(&answer).ok()?;
        }
    }
    Some(())
}
