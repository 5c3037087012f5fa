//! What a server says when it closes a connection, and what a watch does then: it watches on a new connection.

use crate::support::{
    frames::{PING, data, frame, goaway, ok_headers},
    peer::Peer,
    probe::Probe,
};

/// Frames that say nothing, as many as a long connection brings.
fn long_connection() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8]).repeat(100)
}

#[test]
fn a_check_that_outlives_the_connection_names_the_reason() {
    for (last, code, text, cause) in [
        (1, 0, "max_age", "the server closed the connection during the response: GOAWAY (NO_ERROR): \"max_age\""),
        (1, 11, "too_many_pings", "the server refused the connection: GOAWAY (ENHANCE_YOUR_CALM): \"too_many_pings\""),
    ] {
        let peer = Peer::new(move |peer, _| {
            peer.take_request();
            peer.send(long_connection());
            peer.send(goaway(u32::MAX >> 1, 0, text.as_bytes()));
            peer.send([ok_headers(), data(0, &[0, 0])].concat());
            // In pieces, as a network may bring them.
            let last = goaway(last, code, text.as_bytes());
            peer.send(&last[..12]);
            peer.send(&last[12..]);
            peer.finish();
            peer.drain();
        });
        let line = format!("error: health check of {} failed: {cause}", peer.address);
        Probe::new([&peer.addr(), "-rpc-timeout=20s"]).run().expect_error(1, &line);
    }
}
