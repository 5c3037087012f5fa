//! The command line as `-diagnose` shows it, and advises from it: each flag that the user gave, by argument or variable, with
//! secrets masked.

use super::options::{Given, Options};
use crate::{
    diagnosis::{Argument, CommandLine},
    rpc::{MetadataFile, is_secret},
};

/// The flags that say what to probe and how. `files` are those of `-rpc-header-file`.
pub(super) fn command_line(options: &Options, files: &[MetadataFile]) -> CommandLine {
    let Options { tls, spiffe, gzip, all_addresses, alive, .. } = options;
    let mut line = CommandLine::default();
    let mut add = |flag: &'static str, given: Option<&Given>, value: Option<String>| {
        if let Some(given) = given {
            let variable = Some(given.name.clone()).filter(|name| name.starts_with("GRPC_HEALTH_PROBE_"));
            line.arguments.push(Argument { flag, value, variable });
        }
    };
    let mut one = |flag, given: &Option<Given>| {
        add(flag, given.as_ref(), given.as_ref().map(|given| given.text.clone()));
    };
    one("addr", &options.addr);
    options.service.iter().for_each(|service| one("service", &Some(service.clone())));
    one("tls-ca-cert", &options.tls_ca_cert);
    one("tls-client-cert", &options.tls_client_cert);
    one("tls-client-key", &options.tls_client_key);
    one("tls-server-name", &options.tls_server_name);
    one("spiffe-id", &options.spiffe_id);
    one("authority", &options.authority);
    one("alts-handshaker", &options.alts_handshaker);
    one("user-agent", &options.user_agent);
    one("connect-timeout", &options.connect_timeout);
    one("rpc-timeout", &options.rpc_timeout);
    one("timeout", &options.timeout);
    for (flag, given) in [
        ("tls", tls),
        ("tls-no-verify", &options.tls_no_verify),
        ("tls-no-alpn", &options.tls_no_alpn),
        ("spiffe", spiffe),
        ("alts", &options.alts),
        ("gzip", gzip),
        ("all-addresses", all_addresses),
        ("alive", alive),
    ] {
        add(flag, given.as_ref(), None);
    }
    let mut is_masked = false;
    for header in &options.rpc_header {
        let name = header.text.split(':').next().unwrap_or_default();
        let hides = is_secret(&name.to_ascii_lowercase());
        is_masked |= hides;
        add("rpc-header", Some(header), Some(if hides { format!("{name}: ***") } else { header.text.clone() }));
    }
    for file in files {
        let shown = file.argument();
        is_masked |= shown.ends_with("***");
        let given = Given { text: String::new(), name: file.flag.clone() };
        add("rpc-header-file", Some(&given), Some(shown));
    }
    line.is_masked = is_masked;
    line.unknown_variables.clone_from(&options.unknown_variables);
    // -tls before what it needs, as people write it.
    line.arguments.sort_by_key(|argument| match argument.flag {
        "addr" => 0,
        "service" => 1,
        "tls" | "spiffe" | "alts" => 2,
        _ => 3,
    });
    line
}
