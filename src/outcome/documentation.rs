//! Generates `docs/failures.md` from the table of kinds. The test below compares the file with the table, or writes it.

use super::kind::{Kind, Phase};

/// The command that writes the file again.
const UPDATE: &str = "UPDATE=1 cargo test --lib documentation";

const INTRODUCTION: &str = "\
# Failures

<!-- Made from src/outcome/kind.rs by `UPDATE=1 cargo test --lib documentation`. -->

Each failure has a *kind*: a stable name, in [JSON](json.md) as `error.kind`, and the anchor of its heading here, as in
`failures.md#connection-refused`. To find the kind of a message, search this page for its words, or run the probe with `-output=json`.

The text below each heading is an example of what the probe prints after `error: `. Addresses, files and the cause after the last
colon differ. *Transient* failures may end by themselves, so `-wait` tries again; all others are final. With `-spiffe`, three more are
transient, because certificates and bundles are renewed while the probe waits: an expired certificate, an unknown issuer and a
rejected client certificate.
";

const CONCLUSION: &str = "
## Any phase

### interrupted

A signal stopped the probe, as in `stopped by SIGTERM during HTTP/2 setup`. The exit code is that of the phase.
";

/// The heading of a phase.
fn heading(phase: Phase) -> &'static str {
    match phase {
        Phase::Usage => "Usage: nothing was tried (exit code 1)",
        Phase::Spiffe => "SPIFFE: our identity from the Workload API (20 with `-exit-codes=detailed`)",
        Phase::Resolve => "Resolve: from a name to addresses (2)",
        Phase::Connect => "Connect: TCP or a unix socket (2)",
        Phase::Tls => "TLS (2)",
        Phase::Alts => "ALTS: handshake and records, and the handshaker service (2)",
        Phase::Http2 => "HTTP/2, until the server's SETTINGS arrive (2)",
        Phase::Rpc => "RPC: the request and its answer (3)",
        Phase::Health => "Health: the server answered, and not SERVING (4)",
    }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut phase = None;
    for (kind, example, remedy) in Kind::DOCUMENTED {
        if phase.replace(kind.phase()) != Some(kind.phase()) {
            page += &format!("\n## {}\n", heading(kind.phase()));
        }
        let transient = if kind.is_transient() { "Transient. " } else { "" };
        page += &format!("\n### {}\n\n    {example}\n\n{transient}What to do: {remedy}.\n", kind.name());
    }
    page.replace("?.\n", "?\n") + CONCLUSION
}

#[test]
fn failures_page_matches_the_kinds() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failures.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, page()).expect("the directory is there");
    }
    let is_same = std::fs::read_to_string(file).is_ok_and(|found| found == page());
    assert!(is_same, "docs/failures.md does not match the kinds; to write it again: {UPDATE}");
}
