//! A throw-away certificate authority: server and client certificates of any validity, as PEM files.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ingot_gateway::uplink::mqtt::TlsPaths;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// From when until when a certificate is valid, in seconds from now.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    pub from_s: i64,
    pub until_s: i64,
}

const DAY_S: i64 = 86_400;

impl Validity {
    pub const NOW: Self = Self { from_s: -DAY_S, until_s: 30 * DAY_S };
    pub const EXPIRED: Self = Self { from_s: -30 * DAY_S, until_s: -DAY_S };
    pub const NOT_YET: Self = Self { from_s: DAY_S, until_s: 30 * DAY_S };
}

/// A certificate and its private key.
#[derive(Clone, Debug)]
pub struct PemFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// An authority; what it makes lies in one directory.
pub struct Ca {
    /// Its own certificate.
    pub cert: PathBuf,
    key: PathBuf,
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new one; writes `<dir>/<name>.pem` and `<dir>/<name>.key`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = params(name, Vec::new(), Validity::NOW);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pair = KeyPair::generate().unwrap();
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        Self { cert, key, dir: dir.into(), issuer: Issuer::new(params, pair) }
    }

    /// A broker's certificate for `localhost` and `127.0.0.1`.
    pub fn server(&self, validity: Validity) -> PemFiles {
        self.server_for(&["localhost", "127.0.0.1"], validity)
    }

    /// A broker's certificate for these names and addresses.
    pub fn server_for(&self, hosts: &[&str], validity: Validity) -> PemFiles {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        self.issue(params("server", hosts, validity), ExtendedKeyUsagePurpose::ServerAuth, "server")
    }

    /// A client's certificate; its common name is the thing's name.
    pub fn client(&self, name: &str, validity: Validity) -> PemFiles {
        self.issue(params(name, Vec::new(), validity), ExtendedKeyUsagePurpose::ClientAuth, name)
    }

    /// The files for a client of a broker of this authority.
    pub fn tls(&self, client: &PemFiles) -> TlsPaths {
        TlsPaths { ca: self.cert.clone(), cert: client.cert.clone(), key: client.key.clone() }
    }

    /// Signs a request in PEM; the certificate in PEM. By openssl: what rcgen reads requests with would change features
    /// of crates below DataFusion, and tests would be built from another tree than programs.
    pub fn sign(&self, request: &str) -> String {
        let unique = self.dir.join(format!("asked-{:08x}", fastrand::u32(..)));
        let (asked, extensions) = (unique.with_extension("csr"), unique.with_extension("ext"));
        fs::write(&asked, request).unwrap();
        fs::write(&extensions, "basicConstraints = CA:FALSE").unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-req", "-days", "30", "-set_serial", &fastrand::u32(1..).to_string(), "-in"]);
        openssl.arg(asked).arg("-extfile").arg(extensions);
        let signed = openssl.arg("-CA").arg(&self.cert).arg("-CAkey").arg(&self.key).output().unwrap();
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        String::from_utf8(signed.stdout).unwrap()
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose, name: &str) -> PemFiles {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        // A name of its own, so that nothing is overwritten while a broker reads it.
        let unique = format!("{name}-{:08x}", fastrand::u32(..));
        let files = PemFiles {
            cert: self.dir.join(format!("{unique}.cert.pem")),
            key: self.dir.join(format!("{unique}.key.pem")),
        };
        fs::write(&files.cert, cert.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn params(name: &str, hosts: Vec<String>, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at =
        |offset_s| date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s.saturating_add_signed(offset_s));
    params.not_before = at(validity.from_s);
    params.not_after = at(validity.until_s);
    params
}
