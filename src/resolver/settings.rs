//! `/etc/resolv.conf` and the variables that change it, read as libc reads them (resolv.conf(5)).

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{ipv6_zone, read_file};
use crate::text::io_cause;

const PATH: &str = "/etc/resolv.conf";
const MAX_FILE: u64 = 64 * 1024;
/// Like libc, ignores further name servers: other programs on this machine do not ask them either.
const MAX_SERVERS: usize = 3;
/// As many as Kubernetes allows.
const MAX_SEARCH: usize = 32;
/// The longest domain in text form.
const MAX_DOMAIN: usize = 253;
const PORT: u16 = 53;

/// Which name servers to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) servers: Vec<SocketAddr>,
    /// Why the default name server is used, if it is.
    pub(super) without_servers: Option<String>,
    /// Domains without a dot at their end.
    pub(super) search: Vec<String>,
    /// A name with fewer dots is looked up in the search domains first.
    pub(super) ndots: usize,
    /// How long one try may take.
    pub(super) timeout: Duration,
    /// How often each name server is asked.
    pub(super) attempts: usize,
    /// Whether to begin with a random name server instead of the first.
    pub(super) rotate: bool,
    /// Whether to ask over TCP only.
    pub(super) use_tcp: bool,
}

impl Settings {
    /// Reads the file and the variables `LOCALDOMAIN` and `RES_OPTIONS`.
    pub(super) fn read() -> Self {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self::new(
            read_file::read(PATH, MAX_FILE),
            &host_name,
            variable("LOCALDOMAIN").as_deref(),
            variable("RES_OPTIONS").as_deref(),
        )
    }

    pub(super) fn new(
        file: io::Result<String>,
        host_name: &str,
        local_domain: Option<&str>,
        options: Option<&str>,
    ) -> Self {
        let mut settings = Self {
            servers: Vec::new(),
            without_servers: None,
            // libc's default is the domain of this machine.
            search: domains(host_name.split_once('.').map(|(_, domain)| domain).into_iter()),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
        };
        let without_servers = match file {
            Ok(content) => {
                content.lines().for_each(|line| settings.apply(line));
                format!("{PATH} names no name server")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => format!("there is no {PATH}"),
            Err(error) => format!("cannot read {PATH}: {}", io_cause(&error)),
        };
        if settings.servers.is_empty() {
            settings.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
            settings.without_servers = Some(without_servers);
        }
        if let Some(local_domain) = local_domain {
            settings.search = domains(local_domain.split_ascii_whitespace());
        }
        options.into_iter().flat_map(str::split_ascii_whitespace).for_each(|word| settings.option(word));
        settings
    }

    /// Applies one line of the file.
    fn apply(&mut self, line: &str) {
        let mut words = read_file::words(line, &['#', ';']);
        match words.next() {
            Some("nameserver") if self.servers.len() < MAX_SERVERS => {
                self.servers.extend(words.next().and_then(name_server));
            }
            // The last `search` or `domain` line counts.
            Some("search") => self.search = domains(words),
            Some("domain") => self.search = domains(words.take(1)),
            Some("options") => words.for_each(|word| self.option(word)),
            _ => {}
        }
    }

    /// Applies one option, with the bounds of libc. Other options are ignored.
    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = value.parse::<u8>().ok();
        match (name, number) {
            ("ndots", Some(number)) => self.ndots = usize::from(number.min(15)),
            ("timeout", Some(number)) => self.timeout = Duration::from_secs(number.clamp(1, 30).into()),
            ("attempts", Some(number)) => self.attempts = usize::from(number.clamp(1, 5)),
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.use_tcp = true,
            _ => {}
        }
    }
}

/// The address of a name server. An unknown zone is left out: the report then shows the server as unreachable.
fn name_server(word: &str) -> Option<SocketAddr> {
    ipv6_zone::parse(word, PORT).or_else(|| ipv6_zone::parse(word.split('%').next()?, PORT))
}

/// Search domains, without those that cannot be domains. The root, `.`, adds nothing to a name.
fn domains<'t>(words: impl Iterator<Item = &'t str>) -> Vec<String> {
    let words = words.map(|word| word.strip_suffix('.').unwrap_or(word));
    words.filter(|word| !word.is_empty() && word.len() <= MAX_DOMAIN).take(MAX_SEARCH).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::Settings;

    fn parse(content: &str) -> Settings {
        Settings::new(Ok(content.to_owned()), "host", None, None)
    }

    fn servers(settings: &Settings) -> Vec<String> {
        settings.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn resolv_conf_is_parsed_like_libc_does() {
        let settings = parse(
            "# comment\n;comment\nnameserver 10.0.0.1 # first\nnameserver\tfe80::1%3\nnameserver nonsense\nnameserver\n\
             domain one.example two.example\nsearch a.example. b.example ; c.example\nsortlist 10.0.0.0\n\
             options ndots:5 timeout:3 attempts:4 rotate use-vc edns0 ndots: timeout:x\n  nameserver ::1\nnameserver 10.0.0.4\n",
        );
        assert_eq!(servers(&settings), ["10.0.0.1:53", "[fe80::1%3]:53", "[::1]:53"]);
        assert_eq!(settings.search, ["a.example", "b.example"]);
        assert_eq!((settings.ndots, settings.timeout, settings.attempts), (5, Duration::from_secs(3), 4));
        assert!(settings.rotate && settings.use_tcp && settings.without_servers.is_none());
        assert_eq!(parse("search a b\ndomain c d\n").search, ["c"]);
        assert_eq!(parse("search .\n").search, [""; 0]);
        let settings = parse("options ndots:99 timeout:0 attempts:200\n");
        assert_eq!((settings.ndots, settings.timeout, settings.attempts), (15, Duration::from_secs(1), 5));
        // A zone that does not exist leaves an address that cannot be reached.
        assert_eq!(servers(&parse("nameserver fe80::1%nonexistent9\n")), ["[fe80::1]:53"]);
    }

    #[test]
    fn name_server_defaults_to_localhost() {
        let without = |file| {
            let settings = Settings::new(file, "host", None, None);
            assert_eq!(servers(&settings), ["127.0.0.1:53"]);
            settings.without_servers.expect("there is a reason")
        };
        assert_eq!(without(Err(io::ErrorKind::NotFound.into())), "there is no /etc/resolv.conf");
        assert_eq!(
            without(Err(io::ErrorKind::PermissionDenied.into())),
            "cannot read /etc/resolv.conf: permission denied"
        );
        assert_eq!(without(Ok("search a\n".to_owned())), "/etc/resolv.conf names no name server");
    }

    #[test]
    fn search_domains_come_from_host_name_file_or_variable() {
        let search = |content: &str, host: &str, variable: Option<&str>| {
            Settings::new(Ok(content.to_owned()), host, variable, None).search
        };
        assert_eq!(search("", "host.shop.example", None), ["shop.example"]);
        assert_eq!(search("search a\n", "host.shop.example", None), ["a"]);
        assert_eq!(search("search a\n", "host", Some("b c")), ["b", "c"]);
        assert_eq!(search("search a\n", "host", Some("")), [""; 0]);
        let long = "x".repeat(300);
        assert_eq!(search(&format!("search {long} a\n"), "host", None), ["a"]);
        assert_eq!(search("", &format!("host.{long}"), None), [""; 0]);
        assert_eq!(search("", "host", Some(&long)), [""; 0]);
        assert_eq!(search(&format!("search{}\n", " a".repeat(100)), "host", None).len(), 32);
    }

    #[test]
    fn variable_overrides_options() {
        let settings =
            Settings::new(Ok("options ndots:2 timeout:3\n".to_owned()), "host", None, Some("ndots:4 rotate"));
        assert!(settings.ndots == 4 && settings.timeout == Duration::from_secs(3) && settings.rotate);
    }
}
