//! A scripted name server on a free port, over UDP and TCP.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    time::sleep,
};

pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;

/// A query that a name server received: its bytes and its question.
pub(super) struct Asked<'q> {
    pub(super) packet: &'q [u8],
    pub(super) name: String,
    pub(super) rtype: u16,
    pub(super) over_tcp: bool,
}

impl Asked<'_> {
    /// An answer with this code and these records, each a pointer to the name, a type and data.
    pub(super) fn answer(&self, code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        self.answer_with(0x81, code, records)
    }

    pub(super) fn answer_with(&self, flags: u8, code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut answer = self.packet.to_vec();
        answer[2..4].copy_from_slice(&[flags, 0x80 | code]);
        answer[7] = u8::try_from(records.len()).expect("there are few records");
        for (rtype, data) in records {
            answer.extend([0xc0, 12]);
            answer.extend(record(*rtype, data));
        }
        answer
    }

    /// The address 10.0.0.1 or `fd00::1`.
    pub(super) fn address(&self) -> Vec<u8> {
        match self.rtype {
            A => self.answer(0, &[(A, &[10, 0, 0, 1])]),
            _ => self.answer(0, &[(AAAA, &V6.octets())]),
        }
    }
}

pub(super) const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// A record without its name.
pub(super) fn record(rtype: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("it fits").to_be_bytes();
    [&rtype.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60], &length, data].concat()
}

/// How a name server answers: the delay in milliseconds and the bytes of each message.
type Script = dyn Fn(&Asked<'_>) -> Vec<(u64, Vec<u8>)> + Send + Sync;

/// Starts a name server, and returns its address and the log of its questions.
pub(super) async fn server(
    script: impl Fn(&Asked<'_>) -> Vec<(u64, Vec<u8>)> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let script: Arc<Script> = Arc::new(script);
    let log = Arc::new(Mutex::new(Vec::new()));
    // UDP and TCP use the same port. Another test may have taken it for UDP.
    let (listener, socket) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().expect("it is bound")).await {
            break (listener, Arc::new(socket));
        }
    };
    let address = listener.local_addr().expect("it is bound");
    let run = move |script: &Arc<Script>, log: &Mutex<Vec<String>>, packet: &[u8], over_tcp| {
        let asked = parse(packet, over_tcp);
        let rtype = if asked.rtype == A { "A" } else { "AAAA" };
        log.lock().expect("the lock is not poisoned").push(format!(
            "{} {rtype}{}",
            asked.name,
            if over_tcp { " TCP" } else { "" }
        ));
        script(&asked)
    };
    let (tcp_script, tcp_log) = (Arc::clone(&script), Arc::clone(&log));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (script, log) = (Arc::clone(&tcp_script), Arc::clone(&tcp_log));
            tokio::spawn(async move {
                let length = stream.read_u16().await.expect("the length arrives");
                let mut packet = vec![0; length.into()];
                stream.read_exact(&mut packet).await.expect("the query arrives");
                for (delay, answer) in run(&script, &log, &packet, true) {
                    sleep(Duration::from_millis(delay)).await;
                    let length = u16::try_from(answer.len()).expect("it fits").to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &answer].concat()).await;
                }
            });
        }
    });
    let udp_log = Arc::clone(&log);
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let (messages, socket) = (run(&script, &udp_log, &packet[..length], false), Arc::clone(&socket));
            tokio::spawn(async move {
                for (delay, answer) in messages {
                    sleep(Duration::from_millis(delay)).await;
                    let _ = socket.send_to(&answer, from).await;
                }
            });
        }
    });
    (address, log)
}

fn parse(packet: &[u8], over_tcp: bool) -> Asked<'_> {
    let (mut labels, mut position) = (Vec::new(), 12);
    while packet[position] > 0 {
        let end = position + 1 + usize::from(packet[position]);
        labels.push(String::from_utf8_lossy(&packet[position + 1..end]));
        position = end;
    }
    let rtype = u16::from_be_bytes([packet[position + 1], packet[position + 2]]);
    Asked { packet, name: labels.join("."), rtype, over_tcp }
}
