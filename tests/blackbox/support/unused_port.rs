//! Addresses where nothing listens.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// An address of 127.0.0.1 that refuses connections. A socket reserves its port, but does not listen.
pub struct UnusedPort {
    pub address: SocketAddr,
    socket: Socket,
}

impl UnusedPort {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("sockets can be created");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("it is an IPv4 address");
        Self { address, socket }
    }

    /// Starts to listen.
    pub fn listen(self) -> TcpListener {
        self.socket.listen(128).expect("the socket is bound");
        self.socket.into()
    }
}
