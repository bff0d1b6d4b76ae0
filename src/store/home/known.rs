//! `known.toml`: pins, aliases and trust, which a person may read and edit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Malformed;
use crate::engine::{Alias, Book, HostPort, Known};
use crate::wire::NodeId;

pub(super) const HEADING: &str =
    "Who is known to p2p. Written by the program; `trust`, `alias` and `forget` change it.";

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct BookFile {
    #[serde(default)]
    pins: BTreeMap<String, NodeId>,
    #[serde(default)]
    peers: BTreeMap<String, KnownEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(default)]
    trusted: bool,
}

/// What is in the file: nothing in it may mean two things.
pub(super) fn book_of(file: BookFile) -> Result<Book, Malformed> {
    let mut book = Book::default();
    for (text, id) in file.pins {
        if book.pins.insert(text.parse::<HostPort>()?, id).is_some() {
            return Err(format!("`{text}` is pinned twice").into());
        }
    }
    for (text, entry) in file.peers {
        let alias = entry.alias.map(|alias| alias.parse::<Alias>()).transpose()?;
        if let Some(alias) = alias.as_ref().filter(|alias| book.by_alias(alias).is_some()) {
            return Err(format!("two peers are called `{alias}`").into());
        }
        if book.peers.insert(text.parse()?, Known { alias, trusted: entry.trusted }).is_some() {
            return Err(format!("`{text}` is there twice").into());
        }
    }
    Ok(book)
}

pub(super) fn file_of(book: &Book) -> BookFile {
    let entry = |known: &Known| KnownEntry {
        alias: known.alias.as_ref().map(ToString::to_string),
        trusted: known.trusted,
    };
    BookFile {
        pins: book.pins.iter().map(|(address, id)| (address.to_string(), *id)).collect(),
        peers: book.peers.iter().map(|(id, known)| (id.to_string(), entry(known))).collect(),
    }
}
