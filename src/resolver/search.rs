//! The search list of resolv.conf(5): looks up the names that a short name may stand for, one after another.

use std::net::SocketAddr;

use super::{
    exchange::{Question, random},
    exchange_log::{Outcome, Trace},
    message::domain_name,
    query::{Answer, Query},
    settings::Settings,
};
use crate::deadline::Deadline;

/// Looks up a name, in the search domains if the settings require it.
///
/// It continues with the next name if one does not exist, has no address, or cannot be looked up. After a failed lookup, the
/// result is never `NoSuchName`. If no server answers at all, it stops.
pub(super) async fn resolve(settings: &Settings, name: &str, deadline: Deadline, trace: &Trace) -> Answer {
    let mut servers = settings.servers.clone();
    if settings.rotate {
        let count = servers.len();
        servers.rotate_left(usize::from(random().unwrap_or_default()) % count.max(1));
    }
    let mut has_failed = false;
    let mut exists = false;
    for question in questions(settings, name) {
        let first = trace.len();
        let query = Query { settings, servers: &servers, question: &question, deadline, trace };
        match query.both().await {
            Answer::Addresses(addresses) => return Answer::Addresses(addresses),
            Answer::NoAddress => exists = true,
            Answer::NoSuchName => {}
            Answer::Nothing => {
                has_failed = true;
                if trace.last_server(first, Outcome::is_answer).is_none() {
                    break;
                }
            }
        }
        prefer(&mut servers, trace.last_server(first, Outcome::is_conclusive));
    }
    if has_failed {
        Answer::Nothing
    } else if exists {
        Answer::NoAddress
    } else {
        Answer::NoSuchName
    }
}

/// Moves the server that gave the last useful answer to the front.
fn prefer(servers: &mut [SocketAddr], useful: Option<SocketAddr>) {
    servers.sort_by_key(|server| Some(*server) != useful);
}

/// The absolute names to look up, in order. A name with a trailing dot is absolute. A name with at least `ndots` dots is
/// tried unchanged before the search domains, other names after them. Names that are too long for DNS are left out.
fn questions(settings: &Settings, name: &str) -> Vec<Question> {
    let mut names: Vec<String> = Vec::new();
    if let Some(absolute) = name.strip_suffix('.') {
        names.push(absolute.to_owned());
    } else {
        names.extend(settings.search.iter().map(|domain| format!("{name}.{domain}")));
        let is_tried_first = name.matches('.').count() >= settings.ndots;
        names.insert(if is_tried_first { 0 } else { names.len() }, name.to_owned());
    }
    names.into_iter().filter_map(|text| domain_name(&text).map(|name| Question { text, name })).collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, questions};

    fn asked(conf: &str, name: &str) -> Vec<String> {
        let settings = Settings::new(Ok(conf.to_owned()), "host", None, None);
        questions(&settings, name).into_iter().map(|question| question.text).collect()
    }

    #[test]
    fn search_list_and_ndots_give_the_names_in_order() {
        let conf = "search default.svc.cluster.local svc.cluster.local\noptions ndots:2\n";
        let (first, second) = ("api.default.svc.cluster.local", "api.svc.cluster.local");
        assert_eq!(asked(conf, "api"), [first, second, "api"]);
        assert_eq!(asked(conf, "api."), ["api"]);
        assert_eq!(asked(conf, "a.b.c"), ["a.b.c", "a.b.c.default.svc.cluster.local", "a.b.c.svc.cluster.local"]);
        assert_eq!(asked("search a\noptions ndots:0\n", "api"), ["api", "api.a"]);
        assert_eq!(asked("", "api"), ["api"]);
    }

    #[test]
    fn names_too_long_for_dns_are_left_out() {
        let label = "x".repeat(63);
        let long = [label.as_str(); 3].join(".");
        assert_eq!(asked(&format!("search {long} a..b {label}x b\n"), &label), [format!("{label}.b"), label.clone()]);
        assert_eq!(asked(&format!("search {long}\n"), "x"), [format!("x.{long}"), "x".to_owned()]);
    }
}
