//! Black-box tests: the real binary against real servers on loopback, judged by exit code, stdout, stderr and what
//! the server saw.

mod support;

mod arguments;
mod health;
mod peers;
