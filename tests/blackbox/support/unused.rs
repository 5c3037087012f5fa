//! Addresses that nobody listens on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// An address of 127.0.0.1 that refuses connections: a socket holds its port, so that no other program gets it, but does
/// not listen.
pub struct Unused {
    pub address: SocketAddr,
    socket: Socket,
}

impl Unused {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("sockets can be made");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has a free port");
        let address = socket.local_addr().expect("it is bound").as_socket().expect("it is an address of IPv4");
        Self { address, socket }
    }

    /// Listens from now on.
    pub fn listen(self) -> TcpListener {
        self.socket.listen(128).expect("the port is ours");
        self.socket.into()
    }
}
