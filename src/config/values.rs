//! What a single value of an option may be.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::engine::{AcceptPolicy, Destination, HostPort, Rate, Target};
use crate::node::Bootstrap;
use crate::size;
use crate::wire::{Link, SafeName};

pub(super) fn read_port(text: &OsStr) -> Result<u16, String> {
    let port = text.to_str().and_then(|text| text.parse().ok());
    port.ok_or_else(|| format!("`{}` is no port; that is a number from 0 to 65535", text.display()))
}

pub(super) fn parse_destination(text: &str) -> Result<Destination, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

pub(super) fn parse_target(text: &str) -> Result<Target, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

/// One word of `--dht-bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    None,
    Node(HostPort),
}

pub(super) fn parse_bootstrap(text: &str) -> Result<Entry, String> {
    match text {
        "none" => Ok(Entry::None),
        node => node.parse().map(Entry::Node).map_err(|failure: crate::engine::Failure| failure.message),
    }
}

pub(super) fn bootstrap_of(entries: Vec<Entry>) -> Bootstrap {
    let is_first = entries.contains(&Entry::None);
    let nodes: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Node(node) => Some(node),
            Entry::None => None,
        })
        .collect();
    match nodes.is_empty() {
        _ if is_first => Bootstrap::First,
        true => Bootstrap::Public,
        false => Bootstrap::Own(nodes),
    }
}

pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    text.parse().map_err(|failure: crate::engine::Failure| failure.message)
}

/// A number of bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    size::parse(text).map_err(|error| format!("{error}; write it like 500MB, 1GB or 2GiB"))
}

/// A link with more places where to ask.
pub(super) fn with_places(mut link: Link, from: &[Target]) -> Box<Link> {
    link.from.splice(0..0, from.iter().map(ToString::to_string));
    Box::new(link)
}

pub(super) fn parse_name(text: &str) -> Result<SafeName, String> {
    SafeName::new(text).map_err(|error| error.to_string())
}

/// Where programs keep a user's state: the XDG base directory specification, version 0.8.
pub(crate) fn usual_home() -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    // Somebody without a home directory has the one they are in.
    state.unwrap_or_else(|| PathBuf::from(".")).join("p2p")
}

pub(super) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "an address to listen on is an IP address like 127.0.0.1 or ::1".to_owned())
}

pub(super) fn accept_policy() -> impl TypedValueParser<Value = AcceptPolicy> {
    PossibleValuesParser::new(["ask", "known", "all", "none"]).map(|word| match word.as_str() {
        "known" => AcceptPolicy::Known,
        "all" => AcceptPolicy::All,
        "none" => AcceptPolicy::None,
        _ => AcceptPolicy::Ask,
    })
}
