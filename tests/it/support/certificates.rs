//! TLS certificates of an authority of our own.

use std::path::PathBuf;
use std::process::Command;

use super::TempDir;

pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// An authority, and a certificate for 127.0.0.1 and localhost.
    pub fn make() -> Self {
        let this = Self { folder: TempDir::new().expect("a temporary folder") };
        std::fs::write(this.path("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("it is ours");
        let (ca, ca_key, key) = (this.text("ca.pem"), this.text("ca.key"), this.text("server.key"));
        let (request, ext, server) = (this.text("server.csr"), this.text("ext"), this.text("server.pem"));
        let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        this.openssl(
            &[&new[..], &["-x509", "-days", "2", "-subj", "/CN=test-ca", "-keyout", &ca_key, "-out", &ca]].concat(),
        );
        this.openssl(&[&new[..], &["-subj", "/CN=127.0.0.1", "-keyout", &key, "-out", &request]].concat());
        let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
        this.openssl(&[&sign[..], &["-extfile", &ext, "-out", &server]].concat());
        this
    }

    /// A file of this text beside them.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("it is ours");
        self.path(name)
    }

    /// How a server is told to use them.
    pub fn server_options(&self) -> Vec<String> {
        let (certificate, key, ca) = (self.text("server.pem"), self.text("server.key"), self.text("ca.pem"));
        let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        [&files[..], &["--tls-auth-clients", "no"]].concat().into_iter().map(str::to_owned).collect()
    }

    fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").args(args).output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
