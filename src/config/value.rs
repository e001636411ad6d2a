//! Texts that stand for addresses, networks, hosts, paths and names. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::problem::Complaint;
use crate::http::{FieldId, fold};
use crate::plan::{BindAddress, ServerAddress};
use crate::proto::h1::is_token;
use crate::route::path::{self, PathRoom};

/// Longest path of a Unix socket that the system takes.
const UNIX_PATH_MOST: usize = 107;

/// Addresses to bind: one, or both families for `*:port`.
pub(super) fn parse_bind(text: &str) -> Result<Vec<BindAddress>, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(vec![BindAddress::Unix {
            path: unix_path(path)?,
        }]);
    }
    let hint = "write \"127.0.0.1:8080\", \"[::1]:8080\", \"*:8080\" or \"unix:/path\"";
    let Some((host, port)) = host_and_port(text) else {
        let hint = match text.trim_start_matches(':').parse::<u16>() {
            Ok(port) => format!("write \"*:{port}\" for all addresses of this machine"),
            Err(_) => hint.to_owned(),
        };
        return Err(Complaint::new(format!("\"{text}\" is no address with a port")).hint(hint));
    };
    let port: u16 = port.parse().map_err(|_| bad_port(port))?;
    match host {
        "*" => Ok(vec![
            BindAddress::Tcp((Ipv4Addr::UNSPECIFIED, port).into()),
            BindAddress::Tcp((Ipv6Addr::UNSPECIFIED, port).into()),
        ]),
        "" => Err(
            Complaint::new(format!("\"{text}\" has no address before the port")).hint(format!(
                "write \"*:{port}\" for all addresses of this machine"
            )),
        ),
        "localhost" => Ok(vec![BindAddress::Tcp((Ipv4Addr::LOCALHOST, port).into())]),
        _ => match text.parse() {
            Ok(address) => Ok(vec![BindAddress::Tcp(address)]),
            Err(_) => Err(Complaint::new(format!("\"{text}\" is no address to bind")).hint(hint)),
        },
    }
}

/// A server's address.
pub(super) fn parse_server(text: &str) -> Result<ServerAddress, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(ServerAddress::Unix(unix_path(path)?));
    }
    for scheme in ["http://", "https://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            let complaint = Complaint::new("is a URL, not an address");
            return Err(if scheme == "http://" {
                complaint.hint(format!("write \"{}\"", rest.trim_end_matches('/')))
            } else {
                complaint.hint("servers are spoken to in plain HTTP; write \"host:port\"")
            });
        }
    }
    let hint =
        "write \"127.0.0.1:6901\", \"[::1]:6901\", \"app.example.org:6901\" or \"unix:/path\"";
    let Some((host, port)) = host_and_port(text) else {
        return Err(Complaint::new(format!("\"{text}\" is no address with a port")).hint(hint));
    };
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| bad_port(port))?;
    if host == "localhost" {
        return Ok(ServerAddress::Tcp((Ipv4Addr::LOCALHOST, port).into()));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            Err(Complaint::new(format!("\"{host}\" is no single server"))
                .hint(format!("this machine is \"127.0.0.1:{port}\"")))
        }
        Ok(address) => Ok(ServerAddress::Tcp(address)),
        Err(_) if looks_numeric(host) => {
            Err(Complaint::new(format!("\"{host}\" is no IP address")).hint(hint))
        }
        Err(_) if is_server_name(host) => Ok(ServerAddress::Name {
            host: host.to_ascii_lowercase(),
            port,
        }),
        Err(_) if !host.is_ascii() => Err(Complaint::new(format!(
            "\"{host}\" has letters that are not in ASCII"
        ))
        .hint("write the name as it goes over the line: \"xn--...\"")),
        Err(_) => Err(Complaint::new(format!("\"{text}\" is no address of a server")).hint(hint)),
    }
}

fn bad_port(port: &str) -> Complaint {
    Complaint::new(format!("\"{port}\" is no port")).hint("a port is a number from 1 to 65535")
}

/// Splits at the last colon, unless that is inside of an IPv6 address.
fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        None
    } else {
        Some((host, port))
    }
}

fn unix_path(path: &str) -> Result<PathBuf, Complaint> {
    if !path.starts_with('/') {
        return Err(Complaint::new("is no absolute path of a socket")
            .hint("write \"unix:/run/juggler.sock\""));
    }
    if path.len() > UNIX_PATH_MOST {
        return Err(Complaint::new(format!(
            "is longer than the {UNIX_PATH_MOST} bytes that a socket's path may have"
        )));
    }
    Ok(PathBuf::from(path))
}

/// A network in CIDR form, or one address.
pub(super) fn parse_network(text: &str) -> Result<IpNet, Complaint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        Complaint::new(format!("\"{text}\" is no address or network"))
            .hint("write \"192.0.2.1\", \"10.0.0.0/8\" or \"2001:db8::/32\"")
    })?;
    if network.trunc() != network {
        return Err(
            Complaint::new(format!("\"{text}\" has bits set behind its prefix"))
                .hint(format!("write \"{}\"", network.trunc())),
        );
    }
    Ok(network)
}

/// One of a listener's peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Network(IpNet),
    Unix,
}

/// A network, or `unix` for whoever comes over a Unix socket.
pub(super) fn parse_peer(text: &str) -> Result<Peer, Complaint> {
    if text == "unix" {
        return Ok(Peer::Unix);
    }
    parse_network(text)
        .map(Peer::Network)
        .map_err(|mut complaint| {
            if text.parse::<IpNet>().is_err() {
                complaint = complaint
                    .hint("write \"192.0.2.1\", \"10.0.0.0/8\", \"2001:db8::/32\" or \"unix\"");
            }
            complaint
        })
}

/// Permissions of a file as everybody writes them.
pub(super) fn parse_mode(text: &str) -> Result<u32, Complaint> {
    let is_octal =
        (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if is_octal && mode <= 0o777 => Ok(mode),
        _ => Err(Complaint::new(format!(
            "\"{text}\" is no permissions of a file in octal digits"
        ))
        .hint("write \"0660\" for its user and group, \"0666\" for everybody")),
    }
}

/// The name of a field that can be kept from servers; folded.
pub(super) fn parse_stripped(text: &str) -> Result<String, Complaint> {
    if !is_token(text.as_bytes()) || text.len() > fold::FOLDED_MOST {
        return Err(Complaint::new(format!(
            "\"{text}\" is no name of a request field"
        )));
    }
    if fold::is_odd(text.as_bytes()) {
        return Err(Complaint::new(format!(
            "\"{text}\" has other signs than letters, digits and hyphens"
        ))
        .hint("write it with hyphens: other spellings are left out with it"));
    }
    let id = FieldId::from_name(text.as_bytes());
    if id.is_framing() || id == FieldId::Expect {
        return Err(Complaint::new(format!(
            "\"{text}\" cannot be left out: it is of the protocol"
        )));
    }
    Ok(text.to_ascii_lowercase())
}

/// The host of a route, as the routing table wants it: lower case, without the final dot.
pub(super) fn parse_host(text: &str) -> Result<String, Complaint> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host == "*" {
        return Err(Complaint::new("\"*\" is no host name").hint("leave host out for any host"));
    }
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => Err(Complaint::new(format!("\"{text}\" is no IPv6 address"))),
        };
    }
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return Err(Complaint::new("an IPv6 address stands in brackets")
            .hint(format!("write \"[{address}]\"")));
    }
    if !host.is_ascii() {
        return Err(
            Complaint::new(format!("\"{text}\" has letters that are not in ASCII"))
                .hint("write the name as it goes over the line: \"xn--...\""),
        );
    }
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if name.contains('*') {
        return Err(Complaint::new("\"*\" may only be the whole first part")
            .hint("\"*.example.org\" is all names below it"));
    }
    if let Some((name, port)) = name.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(Complaint::new("a route's host has no port").hint(format!("write \"{name}\"")));
    }
    if is_host_name(name) {
        Ok(host)
    } else {
        Err(Complaint::new(format!("\"{text}\" is no host name")))
    }
}

fn is_host_name(name: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// A name to be looked up; a final dot is for names that are not to be completed.
fn is_server_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    is_host_name(name)
        && name
            .split('.')
            .all(|part| !part.starts_with('-') && !part.ends_with('-'))
}

/// Returns whether it can only be meant as an IPv4 address: no domain at the top starts with a
/// digit and is a number.
fn looks_numeric(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// What a Host field may be: a host, and a port or none.
pub(super) fn check_host_field(text: &str) -> Result<(), Complaint> {
    let (host, port) = host_and_port(text).map_or((text, None), |(host, port)| (host, Some(port)));
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let good = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host.strip_suffix('.').unwrap_or(host)),
    };
    if good && port.is_none_or(|port| port.parse::<u16>().is_ok()) {
        Ok(())
    } else {
        Err(Complaint::new(format!("\"{text}\" is no host"))
            .hint("write \"app.example.org\", with \":port\" or without"))
    }
}

/// The path of a route, as the routing table wants it: as it is seen ([`path::see`]), and a final
/// slash does not count.
pub(super) fn parse_path(text: &str) -> Result<String, Complaint> {
    if let Some(start) = text.strip_suffix('*')
        && text.starts_with('/')
    {
        let start = if start == "/" {
            start
        } else {
            start.trim_end_matches('/')
        };
        return Err(
            Complaint::new("a route's path is already the start of all that it matches")
                .hint(format!("write \"{start}\"")),
        );
    }
    let path = parse_exact_path(text)?;
    Ok(match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    })
}

/// A path as it is seen ([`path::see`]).
pub(super) fn parse_exact_path(text: &str) -> Result<String, Complaint> {
    if !text.starts_with('/') {
        return Err(Complaint::new("a path starts with a slash").hint(format!("write \"/{text}\"")));
    }
    if text.contains(['?', '#']) {
        return Err(Complaint::new(
            "a route's path has no query and no fragment",
        ));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            Complaint::new("has characters that a path cannot have").hint("write them as %XX")
        );
    }
    if text.contains(';') {
        return Err(Complaint::new(
            "a route's path has no parameters: those of requests are not looked at",
        )
        .hint("leave out each \";\" and what follows it, or write \"%3B\""));
    }
    let mut room = PathRoom::new();
    let seen = path::see(text.as_bytes(), &mut room);
    if seen.is_ambiguous {
        return Err(Complaint::new("has a percent sign that begins no escape")
            .hint("write \"%25\" for one"));
    }
    if text.contains("%00") {
        return Err(Complaint::new(
            "has a zero byte, which no path of a server has",
        ));
    }
    if seen.path.len() > path::RULE_MOST {
        return Err(Complaint::new(format!(
            "is longer than {} bytes",
            path::RULE_MOST
        )));
    }
    Ok(String::from_utf8_lossy(seen.path).into_owned())
}

/// A name for logs and tables: one word.
pub(super) fn parse_name(text: &str) -> Result<String, Complaint> {
    if !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b','))
    {
        Ok(text.to_owned())
    } else {
        Err(Complaint::new(format!("\"{text}\" is no name"))
            .hint("a name is letters, digits and signs, without spaces"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> BindAddress {
        BindAddress::Tcp(text.parse().unwrap())
    }

    #[test]
    fn addresses_to_bind() {
        assert_eq!(parse_bind("127.0.0.1:80"), Ok(vec![tcp("127.0.0.1:80")]));
        assert_eq!(parse_bind("[::]:80"), Ok(vec![tcp("[::]:80")]));
        assert_eq!(
            parse_bind("*:80"),
            Ok(vec![tcp("0.0.0.0:80"), tcp("[::]:80")])
        );
        assert_eq!(parse_bind("localhost:80"), Ok(vec![tcp("127.0.0.1:80")]));
        assert_eq!(
            parse_bind("unix:/run/j.sock"),
            Ok(vec![BindAddress::Unix {
                path: "/run/j.sock".into()
            }])
        );
        for (text, hint) in [
            ("80", "*:80"),
            (":80", "*:80"),
            ("example.org:80", "127.0.0.1:8080"),
            ("::1:80", "[::1]:8080"),
            ("1.2.3.4:99999", "65535"),
            ("unix:run/x", "unix:/run"),
        ] {
            let complaint = parse_bind(text).unwrap_err();
            assert!(
                complaint.hint.as_ref().unwrap().contains(hint),
                "{text}: {complaint}"
            );
        }
    }

    #[test]
    fn addresses_of_servers() {
        assert_eq!(parse_server("localhost:80"), parse_server("127.0.0.1:80"));
        assert_eq!(
            parse_server("unix:/s"),
            Ok(ServerAddress::Unix("/s".into()))
        );
        assert_eq!(
            parse_server("[::1]:80"),
            Ok(ServerAddress::Tcp("[::1]:80".parse().unwrap()))
        );
        for (text, host) in [
            ("App.Example.org:80", "app.example.org"),
            ("app.example.org.:80", "app.example.org."),
            ("app:80", "app"),
            ("my_app-1.internal:80", "my_app-1.internal"),
            ("4.example.0x:80", "4.example.0x"),
        ] {
            let host = host.to_owned();
            assert_eq!(
                parse_server(text),
                Ok(ServerAddress::Name { host, port: 80 }),
                "{text}"
            );
        }
        for (text, part) in [
            ("http://127.0.0.1:80/", "write \"127.0.0.1:80\""),
            ("https://127.0.0.1", "plain HTTP"),
            ("127.0.0.1", "no address with a port"),
            ("127.0.0.1:0", "no port"),
            ("127.0.0.1:x", "no port"),
            ("0.0.0.0:80", "no single server"),
            ("a b:80", "no address of a server"),
            (":80", "no address of a server"),
            ("*:80", "no address of a server"),
            ("a..b:80", "no address of a server"),
            ("-a.b:80", "no address of a server"),
            ("a-.b:80", "no address of a server"),
            (".:80", "no address of a server"),
            ("[app]:80", "no address of a server"),
            ("user@app:80", "no address of a server"),
            ("app/x:80", "no address of a server"),
            ("app.example.org", "no address with a port"),
            ("app.example.org:http", "no port"),
            ("b\u{fc}cher.example:80", "xn--"),
            ("256.0.0.1:80", "\"256.0.0.1\" is no IP address"),
            ("10.0.1:80", "no IP address"),
            ("8080:80", "no IP address"),
            ("app.0x1f:80", "no IP address"),
        ] {
            let complaint = parse_server(text).unwrap_err().to_string();
            assert!(complaint.contains(part), "{text}: {complaint}");
        }
    }

    #[test]
    fn hosts_for_a_field() {
        for good in [
            "localhost",
            "a.example.org",
            "a.example.org.:8080",
            "10.0.0.1:1",
            "[::1]",
            "[::1]:80",
        ] {
            assert_eq!(check_host_field(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a:",
            "a:x",
            "a:99999",
            "::1",
            "[x]",
            "a\r\nX: y",
            "a/b",
            "u@a",
        ] {
            assert!(check_host_field(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks() {
        assert_eq!(
            parse_network("10.0.0.0/8"),
            Ok("10.0.0.0/8".parse().unwrap())
        );
        assert_eq!(parse_network("::1"), Ok("::1/128".parse().unwrap()));
        assert!(
            parse_network("10.0.0.1/8")
                .unwrap_err()
                .to_string()
                .contains("10.0.0.0/8")
        );
        assert!(parse_network("10.0.0.0/40").is_err());
    }

    #[test]
    fn peers_modes_and_fields() {
        assert_eq!(parse_peer("unix"), Ok(Peer::Unix));
        assert_eq!(
            parse_peer("10.0.0.0/8"),
            Ok(Peer::Network("10.0.0.0/8".parse().unwrap()))
        );
        for (bad, hint) in [
            ("Unix", "or \"unix\""),
            ("x", "or \"unix\""),
            ("10.0.0.1/8", "10.0.0.0/8"),
        ] {
            assert!(
                parse_peer(bad).unwrap_err().to_string().contains(hint),
                "{bad}"
            );
        }
        assert_eq!(
            (parse_mode("0660"), parse_mode("600")),
            (Ok(0o660), Ok(0o600))
        );
        for bad in ["", "66", "0888", "+660", "01777", "1777", "rw-", "0o660"] {
            assert!(parse_mode(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_stripped("X-Client-Cert"), Ok("x-client-cert".into()));
        let long = "x".repeat(65);
        for bad in [
            "",
            "X_A",
            "X--A",
            "X A",
            "Host",
            "content-length",
            "Connection",
            "Expect",
            &long,
        ] {
            assert!(parse_stripped(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_paths() {
        assert_eq!(
            parse_host("Shop.Example.ORG."),
            Ok("shop.example.org".into())
        );
        assert_eq!(parse_host("*.example.org"), Ok("*.example.org".into()));
        assert_eq!(parse_host("[::0:1]"), Ok("[::1]".into()));
        assert_eq!(parse_host("127.0.0.1"), Ok("127.0.0.1".into()));
        for bad in [
            "*", "", ".", "a..b", "*.*.b", "x*.b", "a.b:80", "ä.de", "::1", "[x]", "a b", "a/b",
        ] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_path("/"), Ok("/".into()));
        assert_eq!(parse_path("/a/"), Ok("/a".into()));
        assert_eq!(parse_path("/a/b"), Ok("/a/b".into()));
        for (path, seen) in [
            ("/%61//b/./c/../%c3%a9/", "/a/b/%C3%A9"),
            ("//", "/"),
            ("/a/..", "/"),
            ("/a%2fb%3b", "/a%2Fb%3B"),
        ] {
            assert_eq!(parse_path(path), Ok(seen.into()), "{path}");
        }
        assert_eq!(parse_exact_path("//up/"), Ok("/up/".into()));
        let long = format!("/{}", "x".repeat(1000));
        for bad in [
            "", "a", "/a*", "/a/*", "/a?b", "/a b", "/ä", "/a;b", "/a%", "/a%zz", "/a%00", &long,
        ] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }
}
