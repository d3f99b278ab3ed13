//! AWS IoT's credentials provider: mutual TLS on a free loopback port, credentials as the test wants them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::pki::{Ca, Validity};

/// Status and body of the next answers, and the heads of the requests that came.
#[derive(Default)]
pub struct Script {
    pub status: u16,
    pub body: String,
    pub asked: Vec<String>,
}

/// The provider; its thread ends with the test's process.
pub struct CredentialsProvider {
    pub port: u16,
    pub script: Arc<Mutex<Script>>,
}

impl CredentialsProvider {
    pub fn start(ca: &Ca) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(Script::default()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&ca.cert).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
        let server = ca.server(Validity::NOW);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&server.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&server.key).unwrap(),
            )
            .unwrap();
        let (config, shared) = (Arc::new(config), Arc::clone(&script));
        spawn(move || {
            for socket in listener.incoming().flatten() {
                let _ = answer(socket, &config, &shared);
            }
        });
        Self { port, script }
    }

    /// From now on credentials with this access key, good until then (RFC 3339).
    pub fn give(&self, [id, secret, token]: &[String; 3], until: &str) {
        let mut script = self.script.lock().unwrap();
        script.status = 200;
        script.body = format!(
            "{{\"credentials\":{{\"accessKeyId\":{id:?},\"secretAccessKey\":{secret:?},\
             \"sessionToken\":{token:?},\"expiration\":{until:?}}}}}"
        );
    }

    pub fn refuse(&self, status: u16, body: &str) {
        let mut script = self.script.lock().unwrap();
        (script.status, script.body) = (status, body.into());
    }

    pub fn asked(&self) -> Vec<String> {
        self.script.lock().unwrap().asked.clone()
    }
}

fn answer(socket: TcpStream, config: &Arc<ServerConfig>, script: &Mutex<Script>) -> std::io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(tls, socket));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.by_ref().take(65_536).read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut script = script.lock().unwrap();
    script.asked.push(head);
    let Script { status, body, .. } = &*script;
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}
