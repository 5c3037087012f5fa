//! DNS messages: builds a question and parses the answer to it, with the crate `domain`.

use std::net::IpAddr;

use domain::{
    base::{Message, MessageBuilder, Name, NameBuilder, Rtype, iana::Rcode},
    dep::octseq::array::Array,
    rdata::{A, Aaaa},
};

use super::exchange_log::{Outcome, RecordType};

/// A domain name in wire format: at most 255 bytes (RFC 1035, section 2.3.4).
pub(super) type DomainName = Name<Array<255>>;

/// A header, a name, a type and a class.
const MAX_QUERY: usize = 12 + 255 + 4;

/// Converts an absolute name from text without the trailing dot. `None` if it is too long or has an empty label.
pub(super) fn domain_name(text: &str) -> Option<DomainName> {
    let mut builder = NameBuilder::<Array<255>>::new();
    for label in text.split('.') {
        if label.is_empty() {
            return None;
        }
        builder.append_label(label.as_bytes()).ok()?;
    }
    builder.into_name().ok()
}

/// A query with one question, ready to send.
pub(super) struct Query {
    message: Message<Array<MAX_QUERY>>,
    record_type: RecordType,
}

/// How a message from the name server relates to the query.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// It does not answer the question: it has another ID, name, type or class, or is not a response (RFC 5452, section 9).
    Unrelated,
    /// It answers the question, but cannot be parsed.
    Malformed,
    /// The answer is truncated. TCP delivers all of it (RFC 2181, section 9).
    Truncated,
    Answer(Outcome),
}

impl Query {
    pub(super) fn new(name: &DomainName, record_type: RecordType, id: u16) -> Self {
        const FITS: &str = "there is room for one question";

        let mut builder = MessageBuilder::from_target(Array::<MAX_QUERY>::new()).expect(FITS);
        builder.header_mut().set_id(id);
        builder.header_mut().set_rd(true);
        let mut builder = builder.question();
        let rtype = match record_type {
            RecordType::A => Rtype::A,
            RecordType::Aaaa => Rtype::AAAA,
        };
        builder.push((name, rtype)).expect(FITS);
        Self { message: builder.into_message(), record_type }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.message.as_slice()
    }

    /// Parses a message from the name server.
    pub(super) fn read(&self, packet: &[u8]) -> Received {
        let Ok(message) = Message::from_slice(packet) else { return Received::Unrelated };
        let header = message.header();
        let rcode = header.rcode();
        let is_failure = rcode != Rcode::NOERROR && rcode != Rcode::NXDOMAIN;
        let is_related = if message.header_counts().qdcount() == 0 {
            // A server that does not understand the question may omit it.
            is_failure && header.qr() && header.id() == self.message.header().id()
        } else {
            message.is_answer(&self.message)
        };
        if !is_related {
            return Received::Unrelated;
        }
        if header.tc() {
            return Received::Truncated;
        }
        match rcode {
            Rcode::NOERROR => match self.addresses(message) {
                Some(addresses) if !addresses.is_empty() => Received::Answer(Outcome::Addresses(addresses)),
                // A referral to other servers. Like libc, the caller then asks the next name server.
                Some(_) if !header.ra() && !header.aa() && message.header_counts().ancount() == 0 => {
                    Received::Answer(Outcome::NoRecursion)
                }
                Some(_) => Received::Answer(Outcome::NoAddress),
                None => Received::Malformed,
            },
            Rcode::NXDOMAIN => Received::Answer(Outcome::NoSuchName),
            _ => Received::Answer(Outcome::Failure(rcode.to_string())),
        }
    }

    /// The addresses of the name at the end of the CNAME chain. `None` if the answer is malformed.
    fn addresses(&self, message: &Message<[u8]>) -> Option<Vec<IpAddr>> {
        let name = message.canonical_name()?;
        let answer = message.answer().ok()?;
        let mut addresses = Vec::new();
        match self.record_type {
            RecordType::A => {
                for record in answer.limit_to_in::<A>() {
                    let record = record.ok()?;
                    if *record.owner() == name {
                        addresses.push(record.data().addr().into());
                    }
                }
            }
            RecordType::Aaaa => {
                for record in answer.limit_to_in::<Aaaa>() {
                    let record = record.ok()?;
                    if *record.owner() == name {
                        addresses.push(record.data().addr().into());
                    }
                }
            }
        }
        Some(addresses)
    }
}

/// Parses any bytes as an answer. It must accept only responses with the ID of the query.
#[cfg(any(test, fuzzing))]
pub(super) fn read_anything(packet: &[u8]) {
    let name = domain_name("api.example").expect("it is a name");
    for record_type in [RecordType::A, RecordType::Aaaa] {
        let query = Query::new(&name, record_type, 0x1234);
        if query.read(packet) != Received::Unrelated {
            assert!(packet.starts_with(&[0x12, 0x34]) && packet[2] & 0x80 != 0, "believed {packet:02x?}");
        }
        // The same bytes after a valid ID and question.
        let related = [&[0x12, 0x34], packet.get(2..12).unwrap_or(&[0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0])].concat();
        query.read(&[&related, &query.as_slice()[12..], packet.get(12..).unwrap_or_default()].concat());
    }
}
