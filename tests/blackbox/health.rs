//! The two most common answers, SERVING and `NOT_SERVING`: text and exit codes.

use crate::support::{probe::Probe, server};

#[test]
fn serving_exits_0() {
    let server = server::plaintext();
    Probe::new([server.addr()]).run().expect_healthy();
    Probe::new([server.address.to_string()]).run().expect_healthy();
    Probe::new([server.addr(), "-service=up".into()]).run().expect_healthy();
}

#[test]
fn not_serving_exits_1_or_4() {
    let server = server::plaintext();
    let line = "service unhealthy (responded with \"NOT_SERVING\")\n";
    Probe::new([server.addr(), "-service=down".into()]).run().expect(1, line, "");
    Probe::new([&server.addr(), "-service=down", "-exit-codes=detailed"]).run().expect(4, line, "");
}
