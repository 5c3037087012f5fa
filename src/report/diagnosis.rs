//! Reports a diagnosis: each step as it ends, for people; or all steps in one JSON object at the end, for programs.

use std::{
    cell::{Cell, RefCell},
    env,
};

use serde::Serialize;
use serde_json::Value;

use super::{
    page::{Rows, page},
    progress::Progress,
    snippets,
    stream::Stream,
    style::Style,
    writer::Writer,
};
use crate::{
    diagnosis::{Address, Advice, Attempt, Certificate, Health, Http2, Machine, Names, Protocol, Service, Verdict},
    duration::{format_duration, to_microseconds},
    net::{Endpoint, Target},
    text::{MAX_MESSAGE, listed, printable, service_name},
};

/// The limit for a whole diagnosis, in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// What a step may take of it. The verdict and the advice have room in any case.
const MAX_STEP: usize = 5 * 1024;

/// Select graphic rendition (ECMA-48, 8.3.117): bold, red, green, and back.
const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const PLAIN: &str = "\u{1b}[0m";

/// Writes the steps of a diagnosis.
#[derive(Debug)]
pub(crate) struct Diagnosis<'a> {
    writer: &'a Writer,
    json: bool,
    has_colour: bool,
    written: Cell<usize>,
    object: RefCell<Object>,
}

/// The object of `-output json`, part of the interface.
#[derive(Debug, Default, Serialize)]
struct Object {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http2: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<Value>,
}

impl<'a> Diagnosis<'a> {
    /// Reports in this style. At a terminal headings have colour, unless `NO_COLOR` says otherwise (<https://no-color.org>).
    pub(crate) fn new(style: Style, progress: &'a Progress) -> Self {
        let says = |name| env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = says("TERM").is_none_or(|term| term == "dumb");
        let has_colour = !style.json && says("NO_COLOR").is_none() && !is_dumb && Stream::Out.is_terminal();
        let writer = &progress.writer;
        Self { writer, json: style.json, has_colour, written: Cell::new(0), object: RefCell::default() }
    }

    pub(crate) fn address(&self, address: &Address) {
        let Address { given, means, security, asks, variables, unknown_variables } = address;
        let mut rows = Rows::default();
        rows.add("given", given);
        rows.add("means", means);
        rows.add("security", security);
        let names = asks.iter().map(|service| if service.is_empty() { "the server as a whole" } else { service });
        rows.add("asks", &names.collect::<Vec<_>>().join(", "));
        for variable in variables {
            rows.add(&variable.name, &format!("sets {}", variable.sets));
        }
        if let Some(unknown) = unknown_variables {
            rows.add("warning", unknown);
        }
        self.tell("Address", &rows, address, |object| &mut object.address);
    }

    pub(crate) fn names(&self, names: &Names) {
        let mut rows = Rows::default();
        let addresses: Vec<String> = names.addresses.iter().map(|address| address.ip().to_string()).collect();
        let addresses = if addresses.is_empty() { String::new() } else { format!(": {}", listed(&addresses, None)) };
        rows.add(&names.name, &format!("{}{addresses}", names.result));
        if !names.search.is_empty() && !names.questions.is_empty() {
            rows.add("search domains", &listed(&names.search, None));
        }
        if let Some(why) = &names.without_servers {
            rows.add("name servers", &format!("{why}, so 127.0.0.1 is asked"));
        }
        for question in &names.questions {
            rows.add("asked", &format!("{} ({})", question.text, took(question.took)));
        }
        self.tell("Name", &rows, names, |object| &mut object.name);
    }

    pub(crate) fn machine(&self, machine: &Machine, target: &Target) {
        let mut rows = Rows::default();
        let what = match &target.endpoint {
            Endpoint::Tcp(_, port) => format!("port {port}"),
            Endpoint::Unix(_) | Endpoint::Abstract(_) => "the socket".to_owned(),
        };
        match machine.is_listened_on {
            Some(true) => rows.add(&what, "a server listens there"),
            Some(false) => rows.add(&what, "nothing listens at this address"),
            None => {}
        }
        let listening: Vec<String> = machine.listening.iter().map(ToString::to_string).collect();
        if !listening.is_empty() {
            rows.add("listening", &listed(&listening, machine.more));
        }
        #[cfg(unix)]
        if let Some(path) = &machine.path {
            rows.add("we are", &path.we_are);
            for part in &path.parts {
                let about = [part.kind, part.mode.as_deref(), part.owner.as_deref(), part.problem.as_deref()];
                let about: Vec<String> = about.into_iter().flatten().map(str::to_owned).collect();
                rows.add(&part.path, &about.join(", "));
            }
        }
        if machine.is_listened_on == Some(false) && !machine.sockets.is_empty() {
            rows.add("listening", &listed(&machine.sockets, machine.more));
        }
        self.tell("This machine", &rows, machine, |object| &mut object.machine);
    }

    pub(crate) fn connections(&self, attempts: &[Attempt]) {
        let mut rows = Rows::default();
        for Attempt { address, cause, took: time, .. } in attempts {
            let what = cause.as_deref().unwrap_or("connected");
            rows.add(address, &format!("{what} ({})", took(*time)));
        }
        self.tell("Connection", &rows, &attempts, |object| &mut object.connections);
    }

    pub(crate) fn protocol(&self, protocol: &Protocol) {
        let mut rows = Rows::default();
        rows.add("at", &protocol.address);
        for (label, text) in [("plaintext", &protocol.plaintext), ("TLS", &protocol.tls), ("ALTS", &protocol.alts)] {
            if let Some(text) = text {
                rows.add(label, text);
            }
        }
        rows.add("so", &protocol.conclusion);
        self.tell("What speaks there", &rows, protocol, |object| &mut object.protocol);
    }

    /// Tells that there was no time to look at what the server speaks.
    pub(crate) fn no_time(&self) {
        if !self.json {
            let mut rows = Rows::default();
            rows.add("not looked at", "no time is left; give more with -timeout");
            self.write(&page("What speaks there", &rows, MAX_STEP), BOLD);
        }
    }

    pub(crate) fn certificate(&self, certificate: &Certificate) {
        let mut rows = Rows::default();
        rows.add("subject", &certificate.subject);
        let names = if certificate.names.is_empty() { "no name".to_owned() } else { listed(&certificate.names, None) };
        rows.add("valid for", &names);
        rows.add("issued by", &certificate.issuer);
        rows.add("chain as sent", &certificate.chain.join(" <- "));
        let Certificate { not_before, not_after, validity, .. } = certificate;
        rows.add("valid", &format!("{not_before} to {not_after}, {validity}"));
        if let Some(key) = &certificate.key {
            rows.add("key", key);
        }
        let verified = if certificate.verified { "yes" } else { "no" };
        rows.add("verified", &format!("{verified}: {}", certificate.by));
        if let Some(name) = &certificate.server_name {
            let has_name = if certificate.has_name { "is one of its names" } else { "is none of its names" };
            rows.add("name", &format!("{name} {has_name}"));
        }
        if let Some(wanted) = &certificate.from_client {
            let authorities = match wanted.authorities.as_slice() {
                [] => "any CA".to_owned(),
                some => listed(some, None),
            };
            rows.add("client certificate", &format!("asked for, from {authorities}; {}", wanted.outcome));
        }
        self.tell("Certificate", &rows, certificate, |object| &mut object.certificate);
    }

    pub(crate) fn http2(&self, http2: &Http2) {
        let mut rows = Rows::default();
        let settings = if http2.settings.is_empty() { "without parameters" } else { &http2.settings };
        rows.add("SETTINGS", &format!("{settings} ({})", took(http2.took)));
        if let Some(goaway) = &http2.goaway {
            rows.add("then", goaway);
        }
        self.tell("HTTP/2", &rows, http2, |object| &mut object.http2);
    }

    pub(crate) fn health(&self, health: &Health) {
        let mut rows = Rows::default();
        for service in &health.services {
            rows.add(&named(&service.name), &answer(service));
        }
        if let Some(services) = &health.listed {
            let all: Vec<String> =
                services.iter().map(|service| format!("{} {}", service_name(&service.name), answer(service))).collect();
            rows.add("List", &listed(&all, health.more));
        }
        if let Some(why) = &health.not_listed {
            rows.add("List", why);
        }
        for header in &health.naming {
            rows.add(header.name, &header.value);
        }
        match (&health.proxy, health.http_status) {
            (Some(proxy), _) => rows.add("a proxy answers", proxy),
            (None, Some(status)) if status != 200 => rows.add("HTTP", &status.to_string()),
            (None, _) => {}
        }
        self.tell("Health", &rows, health, |object| &mut object.health);
    }

    /// Tells what is wrong, and the exit code.
    pub(crate) fn verdict(&self, verdict: &Verdict, exit_code: u8) {
        let mut rows = Rows::default();
        let health = match (verdict.alive, verdict.healthy) {
            (Some(true), _) => "alive",
            (Some(false), _) => "not alive",
            (None, true) => "healthy",
            (None, false) => "unhealthy",
        };
        let layer = verdict.layer.map_or_else(String::new, |layer| format!("{layer}: "));
        rows.add(health, &format!("{layer}{}", verdict.message));
        for other in &verdict.others {
            rows.add("also", other);
        }
        for hint in &verdict.hints {
            rows.add("hint", hint);
        }
        if let Some(kind) = verdict.kind {
            rows.add("kind", kind);
        }
        rows.add("exit code", &exit_code.to_string());
        if !self.json {
            let colour = if verdict.alive.unwrap_or(verdict.healthy) { GREEN } else { RED };
            self.write(&page("Verdict", &rows, MAX_STEP), colour);
        }
        let mut object = self.object.borrow_mut();
        (object.verdict, object.exit_code) = (Some(value(verdict)), Some(exit_code));
    }

    pub(crate) fn advice(&self, advice: &Advice) {
        if !self.json {
            self.write(&snippets::page(advice), BOLD);
        }
        self.object.borrow_mut().advice = Some(value(advice));
    }

    /// Ends the report, once its readers have read it or had their moment.
    pub(crate) fn end(&self) {
        if self.json {
            let object = serde_json::to_string(&*self.object.borrow()).unwrap_or_default();
            self.writer.write(Stream::Out, format!("{object}\n"));
        }
        self.writer.finish([]);
    }

    fn tell(
        &self,
        heading: &str,
        rows: &Rows,
        facts: &impl Serialize,
        place: impl FnOnce(&mut Object) -> &mut Option<Value>,
    ) {
        if self.json {
            *place(&mut self.object.borrow_mut()) = Some(value(facts));
        } else {
            self.write(&page(heading, rows, MAX_STEP), BOLD);
        }
    }

    /// Writes a step: its heading, in colour if there is any, and its lines.
    fn write(&self, step: &str, colour: &str) {
        let text = match step.split_once('\n').filter(|_| self.has_colour) {
            Some((heading, lines)) => format!("{colour}{BOLD}{heading}{PLAIN}\n{lines}"),
            None => step.to_owned(),
        };
        let text = if self.written.get() == 0 { text } else { format!("\n{text}") };
        let written = self.written.get() + text.len();
        if written <= MAX_OUTPUT {
            self.written.set(written);
            self.writer.write(Stream::Out, text);
        }
    }
}

/// A service, or the server as a whole.
fn named(service: &str) -> String {
    if service.is_empty() { "the server".to_owned() } else { service.to_owned() }
}

fn took(duration: std::time::Duration) -> String {
    format_duration(to_microseconds(duration))
}

/// What was answered about a service.
fn answer(service: &Service) -> String {
    let answer = match (&service.status, &service.error, service.meaning) {
        (Some(status), ..) => status.clone(),
        (None, error, Some(meaning)) => format!("{} ({meaning})", error.as_deref().unwrap_or_default()),
        (None, error, None) => error.clone().unwrap_or_default(),
    };
    match &service.again {
        Some(again) => format!("{answer}; asked again with more time: {} ({})", again.answer, took(again.took)),
        None => answer,
    }
}

/// Facts in JSON. All text is escaped: much of it is from others.
fn value(facts: &impl Serialize) -> Value {
    fn escaped(value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(printable(&text, MAX_MESSAGE)),
            Value::Array(all) => Value::Array(all.into_iter().map(escaped).collect()),
            Value::Object(all) => all.into_iter().map(|(name, value)| (name, escaped(value))).collect(),
            other => other,
        }
    }
    // Strings, numbers and lists under string keys always serialise.
    serde_json::to_value(facts).map(escaped).unwrap_or_default()
}
