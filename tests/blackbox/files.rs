//! Certificate and key files: the forms that the probe accepts, and the errors for the others.

use std::process::Command;

use rustls::pki_types::{PrivateKeyDer, pem::PemObject};

use crate::support::{
    pki::{Authority, Files, Leaf, pem},
    probe::{Probe, RunResult},
    server::{self, Server},
};

/// An mTLS server, and the files of its client.
struct Client {
    files: Files,
    server: Server,
    ca: String,
    leaf: Leaf,
    authority: Authority,
}

impl Client {
    fn new() -> Self {
        let files = Files::new();
        let authority = Authority::new("Test CA");
        let server = server::mtls(&authority.server(&["127.0.0.1"]), &authority);
        let ca = files.write("ca.pem", &authority.pem);
        Self { files, server, ca, leaf: authority.client(), authority }
    }

    fn probe(&self, ca: &str, cert: &str, key: &str, more: &[&str]) -> RunResult {
        let flags = [
            self.server.addr(),
            "-tls".to_owned(),
            format!("-tls-ca-cert={ca}"),
            format!("-tls-client-cert={cert}"),
            format!("-tls-client-key={key}"),
        ];
        Probe::new(flags.iter().map(String::as_str).chain(more.iter().copied())).run()
    }

    /// Probes with these contents of the three files.
    fn probe_with_contents(&self, ca: impl AsRef<[u8]>, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> RunResult {
        let [ca, cert, key] = [self.files.write("1", ca), self.files.write("2", cert), self.files.write("3", key)];
        self.probe(&ca, &cert, &key, &[])
    }

    /// Expects the probe to refuse this key; `{}` in `lines` stands for its path.
    fn expect_key_refused(&self, key: impl AsRef<[u8]>, kind: &str, lines: &str) {
        let cert = self.files.write("client.pem", &self.leaf.pem);
        let key = self.files.write("key", key);
        self.probe(&self.ca, &cert, &key, &["-output=json", "-exit-codes=detailed"]).expect_kind(1, "usage", kind);
        self.probe(&self.ca, &cert, &key, &[]).expect(1, "", &lines.replace("{}", &key));
    }

    /// Expects the probe to refuse this CA bundle; `{}` in `lines` stands for its path.
    fn expect_ca_refused(&self, ca: impl AsRef<[u8]>, kind: &str, lines: &str) {
        let ca = self.files.write("bundle", ca);
        let flags = [self.server.addr(), "-tls".to_owned(), format!("-tls-ca-cert={ca}")];
        Probe::new(flags.iter().map(String::as_str).chain(["-output=json"])).run().expect_kind(1, "usage", kind);
        Probe::new(&flags).run().expect(1, "", &lines.replace("{}", &ca));
    }
}

fn openssl(arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Generates an RSA key in PKCS#8 and returns the path of its file.
fn rsa_key(files: &Files, bits: u32) -> String {
    let path = files.path(&format!("rsa-{bits}")).display().to_string();
    let bits = format!("rsa_keygen_bits:{bits}");
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-out", &path]);
    path
}

#[test]
fn pem_variants_are_accepted() {
    let client = Client::new();
    let (ca, cert, key) = (&client.authority.pem, &client.leaf.pem, &client.leaf.key_pem);
    client.probe_with_contents(ca, cert, key).expect_healthy();
    // Windows line ends, text around the PEM blocks, no last newline.
    client
        .probe_with_contents(ca.replace('\n', "\r\n"), cert.replace('\n', "\r\n"), key.replace('\n', "\r\n"))
        .expect_healthy();
    client
        .probe_with_contents(format!("# our CA\nsubject=CN = x\n\n{ca}"), format!("Bag\n{cert}"), format!("k\n{key}"))
        .expect_healthy();
    client.probe_with_contents(ca.trim_end(), cert.trim_end(), key.trim_end()).expect_healthy();
    // Certificate and key in one file, in both orders.
    client.probe_with_contents(ca, format!("{cert}{key}"), format!("{cert}{key}")).expect_healthy();
    client.probe_with_contents(ca, format!("{key}{cert}"), format!("{key}{cert}")).expect_healthy();
}

#[test]
fn broken_certificates_in_a_bundle_are_skipped() {
    let client = Client::new();
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let nonsense = pem("CERTIFICATE", b"no certificate");
    let other = Authority::new("Other CA").pem;
    let bundle = format!("{broken}{other}{nonsense}{}", client.authority.pem);
    client.probe_with_contents(&bundle, &client.leaf.pem, &client.leaf.key_pem).expect_healthy();
    let bundle = client.files.write("bundle", bundle);
    let [cert, key] = [client.files.write("2", &client.leaf.pem), client.files.write("3", &client.leaf.key_pem)];
    let ran = client.probe(&bundle, &cert, &key, &["-v"]);
    assert!(ran.stderr.contains("2 of the trusted certificates cannot be read"), "{ran}");
    let bundle = client.files.write("whole bundle", &client.authority.pem);
    let ran = client.probe(&bundle, &cert, &key, &["-v"]);
    assert!(ran.code == Some(0) && !ran.stderr.contains("cannot be read"), "{ran}");
}

#[test]
fn sec1_and_pkcs1_keys_are_accepted() {
    let client = Client::new();
    let pkcs8 = client.files.write("pkcs8", &client.leaf.key_pem);
    let sec1 = client.files.path("sec1").display().to_string();
    openssl(&["pkey", "-in", &pkcs8, "-traditional", "-out", &sec1]);
    let sec1 = std::fs::read_to_string(sec1).expect("openssl has written it");
    assert!(sec1.starts_with("-----BEGIN EC PRIVATE KEY-----"), "{sec1}");
    client.probe_with_contents(&client.authority.pem, &client.leaf.pem, &sec1).expect_healthy();
    // `openssl ecparam -genkey` writes the parameters first.
    let with_parameters = pem("EC PARAMETERS", &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]) + &sec1;
    client.probe_with_contents(&client.authority.pem, &client.leaf.pem, with_parameters).expect_healthy();

    let pkcs8 = rsa_key(&client.files, 2048);
    let pkcs1 = client.files.path("pkcs1").display().to_string();
    openssl(&["pkey", "-in", &pkcs8, "-traditional", "-out", &pkcs1]);
    let [pkcs8, pkcs1] = [pkcs8, pkcs1].map(|path| std::fs::read_to_string(path).expect("openssl has written it"));
    assert!(pkcs8.starts_with("-----BEGIN PRIVATE KEY-----"), "{pkcs8}");
    assert!(pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{pkcs1}");
    let key = PrivateKeyDer::from_pem_slice(pkcs8.as_bytes()).expect("it is PEM");
    let leaf = client.authority.client_for(key.secret_der());
    client.probe_with_contents(&client.authority.pem, &leaf.pem, pkcs1).expect_healthy();
    client.probe_with_contents(&client.authority.pem, &leaf.pem, pkcs8).expect_healthy();
}

#[test]
fn short_rsa_key_is_refused() {
    let client = Client::new();
    let short = std::fs::read_to_string(rsa_key(&client.files, 1024)).expect("openssl has written it");
    client.expect_key_refused(
        short,
        "key-invalid",
        "error: the private key in -tls-client-key={} is broken or of an unsupported kind\n\
         hint: RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 are supported\n",
    );
}

#[test]
fn unusable_keys_are_refused() {
    let client = Client::new();
    client.expect_key_refused(
        pem("ENCRYPTED PRIVATE KEY", b"secret"),
        "key-encrypted",
        "error: the private key in -tls-client-key={} is encrypted, and a probe cannot ask for the password\n\
         hint: openssl pkey -in {} -out key.pem\n",
    );
    client.expect_key_refused(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        "key-encrypted",
        "error: the private key in -tls-client-key={} is encrypted, and a probe cannot ask for the password\n\
         hint: openssl pkey -in {} -out key.pem\n",
    );
    client.expect_key_refused(
        pem("OPENSSH PRIVATE KEY", b"openssh-key-v1"),
        "key-invalid",
        "error: -tls-client-key={} holds no usable private key: it holds an OPENSSH PRIVATE KEY\n\
         hint: ssh-keygen rewrites a file in place: cp {} key.pem && ssh-keygen -p -m PKCS8 -f key.pem\n",
    );
    client.expect_key_refused(
        pem("PUBLIC KEY", b"public"),
        "key-invalid",
        "error: -tls-client-key={} holds no usable private key: it holds PUBLIC KEY\n",
    );
    client.expect_key_refused(
        &client.leaf.pem,
        "key-invalid",
        "error: -tls-client-key={} holds no usable private key: it holds a certificate\n\
         hint: are the certificate and the key swapped?\n",
    );
    client.expect_key_refused(
        "",
        "key-invalid",
        "error: -tls-client-key={} holds no usable private key: it is empty\n",
    );
    client.expect_key_refused(
        "hello\n",
        "key-invalid",
        "error: -tls-client-key={} holds no usable private key: it is not PEM\n",
    );
    client.expect_key_refused(
        client.leaf.key.secret_der(),
        "key-invalid",
        "error: -tls-client-key={} holds no usable private key: it looks like DER, not PEM\n\
         hint: openssl pkey -inform der -in {} -out key.pem\n",
    );
    client.expect_key_refused(
        pem("PRIVATE KEY", b"nonsense"),
        "key-invalid",
        "error: the private key in -tls-client-key={} is broken or of an unsupported kind\n\
         hint: RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 are supported\n",
    );
}

/// `openssl x509 -req` issues such certificates when it gets no extensions.
#[test]
fn x509_v1_client_certificate_is_sent() {
    let client = Client::new();
    let path = |name: &str| client.files.path(name).display().to_string();
    let (ca_key, key, request, cert) = (path("ca.key"), path("v1.key"), path("v1.csr"), path("v1.pem"));
    std::fs::write(&ca_key, client.authority.key_pem()).expect("the directory is writable");
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    openssl(&["req", "-new", "-key", &key, "-subj", "/CN=client", "-out", &request]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &client.ca,
        "-CAkey",
        &ca_key,
        "-set_serial",
        "7",
        "-out",
        &cert,
    ]);
    // The server decides: rustls rejects it, other servers accept it.
    client.probe(&client.ca, &cert, &key, &["-output=json"]).expect_kind(1, "tls", "tls-client-certificate-rejected");
    let other = client.files.write("other.key", client.authority.client().key_pem);
    client.probe(&client.ca, &cert, &other, &["-output=json"]).expect_kind(1, "usage", "key-mismatch");
    let plain = server::tls(&client.authority.server(&["127.0.0.1"]));
    let flags =
        [format!("-tls-ca-cert={}", client.ca), format!("-tls-client-cert={cert}"), format!("-tls-client-key={key}")];
    Probe::new([plain.addr(), "-tls".to_owned()].iter().chain(&flags)).run().expect_healthy();
}

#[test]
fn key_of_another_certificate_is_refused() {
    let client = Client::new();
    let [cert, key] = [
        client.files.write("client.pem", &client.leaf.pem),
        client.files.write("other.key", &client.authority.client().key_pem),
    ];
    let lines = format!(
        "error: -tls-client-key={key} is not the key of -tls-client-cert={cert}\n\
         hint: the first certificate in the file must be the client's own\n"
    );
    client.probe(&client.ca, &cert, &key, &[]).expect(1, "", &lines);
    client.probe(&client.ca, &cert, &key, &["-output=json"]).expect_kind(1, "usage", "key-mismatch");
}

#[test]
fn unusable_certificates_are_refused() {
    let client = Client::new();
    client.expect_ca_refused("", "certificate-invalid", "error: -tls-ca-cert={} holds no certificate: it is empty\n");
    client.expect_ca_refused(
        "x\n",
        "certificate-invalid",
        "error: -tls-ca-cert={} holds no certificate: it is not PEM\n",
    );
    client.expect_ca_refused(
        &client.leaf.chain[0],
        "certificate-invalid",
        "error: -tls-ca-cert={} holds no certificate: it looks like DER, not PEM\n\
         hint: openssl x509 -inform der -in {} -out certificate.pem\n",
    );
    client.expect_ca_refused(
        &client.leaf.key_pem,
        "certificate-invalid",
        "error: -tls-ca-cert={} holds no certificate: it holds a private key\n\
         hint: a CA's certificate is needed, not its key\n",
    );
    client.expect_ca_refused(
        pem("CERTIFICATE REQUEST", b"x"),
        "certificate-invalid",
        "error: -tls-ca-cert={} holds no certificate: it holds CERTIFICATE REQUEST\n",
    );
    client.expect_ca_refused(
        pem("CERTIFICATE", b"nonsense"),
        "certificate-invalid",
        "error: -tls-ca-cert={} holds no usable certificate\n",
    );
    client.expect_ca_refused(
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
        "certificate-invalid",
        "error: -tls-ca-cert={} holds no certificate: its PEM is broken\n",
    );
}

#[test]
fn unreadable_files_are_refused() {
    let client = Client::new();
    let ca_flag = |path: &str| [client.server.addr(), "-tls".to_owned(), format!("-tls-ca-cert={path}")];
    let missing = "/nonexistent/ca.pem";
    let line = format!("error: cannot read -tls-ca-cert={missing}: no such file or directory\n");
    Probe::new(ca_flag(missing)).run().expect(1, "", &line);
    Probe::new(ca_flag("/")).run().expect(1, "", "error: cannot read -tls-ca-cert=/: it is a directory\n");
    let too_large = "error: cannot read -tls-ca-cert=/dev/zero: it is larger than 1 MiB\nhint: is it the right file?\n";
    Probe::new(ca_flag("/dev/zero")).run().expect(1, "", too_large);

    let large = client.files.path("large");
    std::fs::File::create(&large).and_then(|file| file.set_len((1 << 20) + 1)).expect("a sparse file");
    Probe::new(ca_flag(&large.display().to_string()).into_iter().chain(["-output=json".to_owned()])).run().expect_kind(
        1,
        "usage",
        "file-unreadable",
    );
}

#[test]
fn pipe_is_read_or_times_out() {
    let client = Client::new();
    let fifo = client.files.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is installed").success());
    let fifo = fifo.display().to_string();
    let flags = [client.server.addr(), "-tls".to_owned(), format!("-tls-ca-cert={fifo}")];
    let lines = format!(
        "error: cannot read -tls-ca-cert={fifo}: it did not end within 1s\nhint: is it a pipe that nobody writes to?\n"
    );
    Probe::new(&flags).run().expect(1, "", &lines);

    let plain = server::tls(&client.authority.server(&["127.0.0.1"]));
    let running = Probe::new([plain.addr(), "-tls".to_owned(), format!("-tls-ca-cert={fifo}")]).start();
    // Opening for writing blocks until the probe opens the pipe.
    std::fs::write(&fifo, &client.authority.pem).expect("the probe reads");
    running.finish().expect_healthy();
}

/// A likely mistake with variables. The key must not end up in a log.
#[test]
fn key_given_as_file_name_is_not_printed() {
    let client = Client::new();
    let cert = client.files.write("client.pem", &client.leaf.pem);
    let ran = Probe::new([&client.server.addr(), "-tls", "-v", &format!("-tls-client-cert={cert}")])
        .env("GRPC_HEALTH_PROBE_TLS_CLIENT_KEY", &client.leaf.key_pem)
        .run();
    ran.expect(1, "", "error: GRPC_HEALTH_PROBE_TLS_CLIENT_KEY takes a file's name, not its content\n");
}
