//! Answers of a healthy server, one by one: text, JSON and exit codes.

use crate::support::{probe::Probe, server};

#[test]
fn serving() {
    let server = server::plaintext();
    Probe::new([server.addr()]).run().expect_healthy();
    Probe::new([server.address.to_string()]).run().expect_healthy();
    Probe::new([server.addr(), "-service=up".into()]).run().expect_healthy();
}

#[test]
fn not_serving_has_its_code_in_both_modes() {
    let server = server::plaintext();
    let line = "service unhealthy (responded with \"NOT_SERVING\")\n";
    Probe::new([server.addr(), "-service=down".into()]).run().expect(1, line, "");
    Probe::new([&server.addr(), "-service=down", "-exit-codes=detailed"]).run().expect(4, line, "");
}
