//! `records.toml`: what dealings with identities came to. It changes with every transfer, which is
//! why it is not in the file that a person edits; but what a person banned is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Malformed, Records};
use crate::engine::{Banned, Record};

pub(super) const HEADING: &str =
    "What dealings with others came to. Written by p2p; `ban`, `unban` and `forget` change it.";

/// An entry for each identity.
pub(super) type RecordsFile = BTreeMap<String, RecordEntry>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordEntry {
    /// Seconds of Unix time, like the other times.
    seen: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    taken_bytes: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    given_bytes: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    failures: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    bad_chunks: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_micros: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    bans: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    banned_until: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    banned_for_good: bool,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is in the file: nothing in it may mean two things.
pub(super) fn records_of(file: RecordsFile) -> Result<Records, Malformed> {
    let mut records = Records::new();
    for (text, entry) in file {
        let banned_until = match (entry.banned_until, entry.banned_for_good) {
            (None, false) => None,
            (Some(end), false) => Some(Banned::Until(end)),
            (None, true) => Some(Banned::ForGood),
            (Some(_), true) => {
                return Err(format!("`{text}` is banned for good and until some time").into());
            }
        };
        let record = Record {
            taken_bytes: entry.taken_bytes,
            given_bytes: entry.given_bytes,
            failures: entry.failures,
            bad_chunks: entry.bad_chunks,
            latency: entry.latency_micros.map(Duration::from_micros),
            bans: entry.bans,
            banned_until,
            seen: entry.seen,
        };
        if records.insert(text.parse()?, record).is_some() {
            return Err(format!("`{text}` is there twice").into());
        }
    }
    Ok(records)
}

pub(super) fn file_of(records: &Records) -> RecordsFile {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let entry = |record: &Record| RecordEntry {
        seen: record.seen,
        taken_bytes: record.taken_bytes,
        given_bytes: record.given_bytes,
        failures: record.failures,
        bad_chunks: record.bad_chunks,
        latency_micros: record.latency.map(micros),
        bans: record.bans,
        banned_until: match record.banned_until {
            Some(Banned::Until(end)) => Some(end),
            Some(Banned::ForGood) | None => None,
        },
        banned_for_good: record.banned_until == Some(Banned::ForGood),
    };
    records.iter().map(|(id, record)| (id.to_string(), entry(record))).collect()
}
