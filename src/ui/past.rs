//! The wording of what was kept: `history`.
//!
//! Invariant: whatever a peer wrote, and whatever stands in the file, passes [`escape`].

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::engine::{
    Code, Command, Direction, HistoryEntry, HistoryKind, Outcome, Past, PastTransfer, Remembered,
};
use crate::size;

use super::escape::{escape, escape_lines};
use super::render::{is_choice, short, thing_called};

/// What was kept, a line for each, or for each line of a text.
pub(super) fn history(entries: &[HistoryEntry], asked: &Command) -> String {
    if entries.is_empty() {
        return nothing(asked);
    }
    let zone = TimeZone::system();
    let lines = entries.iter().map(|entry| format!("{}  {}", when(entry.time, &zone), what(&entry.of)));
    lines.collect::<Vec<_>>().join("\n")
}

fn nothing(asked: &Command) -> String {
    let (peer, only) = match asked {
        Command::History { peer, only, .. } => (peer.as_ref(), *only),
        _ => (None, None),
    };
    let kind = match only {
        None => "nothing is",
        Some(HistoryKind::Messages) => "no messages are",
        Some(HistoryKind::Transfers) => "no transfers are",
    };
    let with = peer.map(|peer| format!(" with `{}`", escape(&peer.to_string()))).unwrap_or_default();
    format!("{kind} in the history{with}")
}

/// The time here.
fn when(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

fn what(of: &Remembered) -> String {
    let name = match (&of.alias, of.node_id, of.peer) {
        (Some(alias), ..) => Some(escape(alias).into_owned()),
        (None, Some(id), _) => Some(short(id)),
        (None, None, Some(peer)) => Some(peer.to_string()),
        (None, None, None) => None,
    };
    let whom = name.as_deref().unwrap_or("somebody");
    match &of.what {
        Past::Message { direction: Direction::In, text } => format!("<{whom}> {}", escape_lines(text)),
        Past::Message { direction: Direction::Out, text } => format!("to {whom}: {}", escape_lines(text)),
        Past::Undelivered { texts: 1 } => format!("a message to {whom} was not delivered"),
        Past::Undelivered { texts } => format!("{texts} messages to {whom} were not delivered"),
        Past::Transfer(transfer) => transferred(transfer, name.as_deref(), whom),
        Past::LeftOut { entries } => {
            let count = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
            let of = match &name {
                Some(name) => format!("from {name}"),
                None if of.stranger => "from strangers".to_owned(),
                None => "of this side".to_owned(),
            };
            format!("{count} {of} had to give way: no room for more")
        }
    }
}

fn transferred(of: &PastTransfer, name: Option<&str>, whom: &str) -> String {
    let thing = thing_called(&of.name, of.files);
    let size = of.size.map(size::human).unwrap_or_default();
    let path = of.path.as_deref().map(|path| format!(": {}", escape(path))).unwrap_or_default();
    match (of.outcome, of.already) {
        (Outcome::Received, false) => format!("received {thing}, {size}, from {whom}{path}"),
        (Outcome::Received, true) => format!("{thing} from {whom} was here already{path}"),
        (Outcome::Sent, false) => {
            let doubt = if of.unconfirmed { " (unconfirmed)" } else { "" };
            format!("sent {thing}, {size}, to {whom}{doubt}")
        }
        (Outcome::Sent, true) => format!("{whom} had {thing} already"),
        (Outcome::Served, _) => format!("served {size} of {thing} to {whom}"),
        (Outcome::Failed, _) => {
            let doing = match (of.direction, name) {
                (_, None) => format!("getting {thing}"),
                (Direction::Out, Some(whom)) => format!("sending {thing} to {whom}"),
                (Direction::In, Some(whom)) => format!("receiving {thing} from {whom}"),
            };
            let chosen = of.code.is_some_and(|code: Code| is_choice(of.direction, code));
            let verdict = if chosen { "ended" } else { "failed" };
            let why = of.reason.as_deref().map(|why| format!(": {}", escape(why))).unwrap_or_default();
            format!("{doing} {verdict}{why}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{NodeId, is_deceptive};

    fn of(alias: Option<&str>, what: Past) -> Remembered {
        let alias = alias.map(str::to_owned);
        Remembered {
            peer: "192.0.2.5:1".parse().ok(),
            node_id: Some(NodeId([0xab; 32])),
            alias,
            stranger: false,
            what,
        }
    }

    fn transfer(outcome: Outcome, direction: Direction) -> PastTransfer {
        PastTransfer {
            direction,
            outcome,
            name: "report.pdf".into(),
            size: Some(3_200_000),
            sha256: None,
            files: None,
            path: None,
            already: false,
            unconfirmed: false,
            code: None,
            reason: None,
        }
    }

    fn shown(transfer: PastTransfer) -> String {
        what(&of(Some("bob"), Past::Transfer(Box::new(transfer))))
    }

    #[test]
    fn each_is_told_in_a_sentence_and_with_whom() {
        let text = |direction| Past::Message { direction, text: "hi\nthere".into() };
        assert_eq!(what(&of(Some("bob"), text(Direction::In))), "<bob> hi\n    there");
        assert_eq!(what(&of(None, text(Direction::Out))), "to abababababababab: hi\n    there");
        assert_eq!(
            what(&of(None, Past::Undelivered { texts: 2 })),
            "2 messages to abababababababab were not delivered"
        );

        let (sent, received) =
            (transfer(Outcome::Sent, Direction::Out), transfer(Outcome::Received, Direction::In));
        assert_eq!(shown(sent.clone()), "sent report.pdf, 3.2 MB, to bob");
        assert_eq!(
            shown(PastTransfer { unconfirmed: true, ..sent.clone() }),
            "sent report.pdf, 3.2 MB, to bob (unconfirmed)"
        );
        assert_eq!(shown(PastTransfer { already: true, ..sent.clone() }), "bob had report.pdf already");
        let received = PastTransfer { path: Some("/srv/report.pdf".into()), ..received };
        assert_eq!(shown(received.clone()), "received report.pdf, 3.2 MB, from bob: /srv/report.pdf");
        let directory = PastTransfer { files: Some(2), already: true, ..received };
        assert_eq!(shown(directory), "report.pdf/ (2 files) from bob was here already: /srv/report.pdf");
        assert_eq!(shown(transfer(Outcome::Served, Direction::Out)), "served 3.2 MB of report.pdf to bob");

        let failed = |direction, code| PastTransfer {
            code: Some(code),
            reason: Some("because".into()),
            ..transfer(Outcome::Failed, direction)
        };
        assert_eq!(
            shown(failed(Direction::Out, Code::Declined)),
            "sending report.pdf to bob failed: because"
        );
        assert_eq!(
            shown(failed(Direction::In, Code::Declined)),
            "receiving report.pdf from bob ended: because"
        );
        let found_nowhere = Past::Transfer(Box::new(failed(Direction::In, Code::NotFound)));
        let nobody =
            Remembered { peer: None, node_id: None, alias: None, stranger: false, what: found_nowhere };
        assert_eq!(what(&nobody), "getting report.pdf failed: because");

        let gone = |entries| Past::LeftOut { entries };
        assert_eq!(what(&of(Some("bob"), gone(2))), "2 entries from bob had to give way: no room for more");
        let nobody = Remembered { what: gone(1), ..nobody };
        assert_eq!(what(&nobody), "1 entry of this side had to give way: no room for more");
        let strangers = Remembered { stranger: true, what: gone(9), ..nobody };
        assert_eq!(what(&strangers), "9 entries from strangers had to give way: no room for more");
    }

    #[test]
    fn nothing_of_what_others_wrote_acts_on_the_terminal() {
        let bad = "\u{1b}[2J\u{202e}\r\u{7}x";
        let text = Past::Message { direction: Direction::In, text: bad.into() };
        let failed = PastTransfer {
            name: bad.into(),
            path: Some(bad.into()),
            reason: Some(bad.into()),
            ..transfer(Outcome::Failed, Direction::In)
        };
        let received = PastTransfer { outcome: Outcome::Received, ..failed.clone() };
        for past in [text, Past::Transfer(Box::new(failed)), Past::Transfer(Box::new(received))] {
            let shown = what(&of(Some(bad), past));
            assert!(!shown.contains(is_deceptive), "{shown:?}");
            assert!(shown.contains("\\x1b"), "{shown:?}");
        }
    }

    #[test]
    fn the_time_is_that_of_the_reader() {
        let time = "2026-11-30T21:58:32.125Z".parse().unwrap();
        assert_eq!(when(time, &TimeZone::fixed(jiff::tz::offset(2))), "2026-11-30 23:58");
    }
}
