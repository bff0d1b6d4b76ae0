//! What peers may ask for: the proofs that each of them would give for what is here.
//!
//! Whoever asks names nothing: it gives a proof, which is another one on every connection. So that a question
//! costs next to nothing, the proofs of all that is here are computed for a connection when it first asks,
//! and kept. Invariants: every table has the proofs of all that is here and no others; all of them together
//! have at most [`Limits::ask_proofs`] entries, and the one that was used least lately gives way; no more
//! than [`Limits::ask_proofs_per_sec`] are computed for tables, beyond what was saved up. Past that a question is not
//! looked at, so that the answer says nothing of what is here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{ConnId, Limits};
use crate::wire::{AskProof, Binding, FileHash, Side};

/// What may be saved up of computing: the worth of so long. Many connect at the same time to what is new.
const SAVED: Duration = Duration::from_secs(4);

/// The tables, and of what they are.
#[derive(Debug, Default)]
pub(super) struct Askable {
    here: BTreeSet<FileHash>,
    tables: BTreeMap<ConnId, Table>,
    questions: u64,
    /// When what was computed is paid for.
    paid_at: Duration,
}

/// The proofs of one connection.
#[derive(Debug)]
struct Table {
    binding: Binding,
    by: Side,
    proofs: BTreeMap<AskProof, FileHash>,
    /// The last question that it answered.
    used: u64,
}

/// Too much was computed lately.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl Askable {
    /// Notes whether a content is here.
    pub(super) fn set(&mut self, hash: FileHash, is_here: bool, limits: &Limits) {
        let is_news = if is_here { self.here.insert(hash) } else { self.here.remove(&hash) };
        if !is_news {
            return;
        }
        self.make_room(0, limits);
        for Table { binding, by, proofs, .. } in self.tables.values_mut() {
            let proof = AskProof::new(*binding, *by, hash);
            if is_here {
                proofs.insert(proof, hash);
            } else {
                proofs.remove(&proof);
            }
        }
    }

    /// The content of which the peer has proven to know the hash, if it is here.
    pub(super) fn recognize(
        &mut self,
        conn: ConnId,
        (binding, by): (Binding, Side),
        proof: AskProof,
        now: Duration,
        limits: &Limits,
    ) -> Result<Option<FileHash>, Busy> {
        self.questions += 1;
        if !self.tables.contains_key(&conn) {
            self.pay(now, limits)?;
            self.make_room(1, limits);
            let proofs = self.here.iter().map(|hash| (AskProof::new(binding, by, *hash), *hash)).collect();
            self.tables.insert(conn, Table { binding, by, proofs, used: 0 });
        }
        let Some(table) = self.tables.get_mut(&conn) else { return Ok(None) };
        table.used = self.questions;
        Ok(table.proofs.get(&proof).copied())
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.tables.remove(&conn);
    }

    fn pay(&mut self, now: Duration, limits: &Limits) -> Result<(), Busy> {
        if self.paid_at > now + SAVED {
            return Err(Busy);
        }
        let time = self.here.len() as f64 / f64::from(limits.ask_proofs_per_sec.max(1));
        self.paid_at = self.paid_at.max(now) + Duration::from_secs_f64(time);
        Ok(())
    }

    /// Makes room for so many more tables.
    fn make_room(&mut self, more: usize, limits: &Limits) {
        while (self.tables.len() + more) * self.here.len() > limits.ask_proofs {
            let least = self.tables.iter().min_by_key(|(_, table)| table.used).map(|(conn, _)| *conn);
            let Some(least) = least else { return };
            self.tables.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn hash(number: u8) -> FileHash {
        FileHash([number; 32])
    }

    /// What a connection is known by, of which there is one for each number.
    fn known(conn: u64) -> (Binding, Side) {
        let mut binding = [0; 32];
        binding[..8].copy_from_slice(&conn.to_be_bytes());
        (Binding(binding), Side::Dialler)
    }

    fn proof(conn: u64, number: u8) -> AskProof {
        let (binding, by) = known(conn);
        AskProof::new(binding, by, hash(number))
    }

    fn ask(
        askable: &mut Askable,
        conn: u64,
        number: u8,
        now: Duration,
        limits: &Limits,
    ) -> Result<Option<FileHash>, Busy> {
        askable.recognize(ConnId(conn), known(conn), proof(conn, number), now, limits)
    }

    fn with(contents: u8, limits: &Limits) -> Askable {
        let mut askable = Askable::default();
        for number in 0..contents {
            askable.set(hash(number), true, limits);
        }
        askable
    }

    #[test]
    fn a_proof_is_recognized_for_as_long_as_its_content_is_here() {
        let limits = Limits::default();
        let mut askable = with(2, &limits);
        assert_eq!(ask(&mut askable, 1, 0, NOW, &limits), Ok(Some(hash(0))));
        assert_eq!(ask(&mut askable, 1, 7, NOW, &limits), Ok(None));
        // What comes and goes after the table was made.
        askable.set(hash(7), true, &limits);
        askable.set(hash(0), false, &limits);
        assert_eq!(ask(&mut askable, 1, 7, NOW, &limits), Ok(Some(hash(7))));
        assert_eq!(ask(&mut askable, 1, 0, NOW, &limits), Ok(None));
        let stolen = askable.recognize(ConnId(2), known(2), proof(1, 7), NOW, &limits);
        assert_eq!(stolen, Ok(None));
        askable.forget(ConnId(1));
        askable.forget(ConnId(2));
        assert!(askable.tables.is_empty());
    }

    #[test]
    fn all_tables_together_are_bounded_and_the_least_used_gives_way() {
        let limits = Limits { ask_proofs: 30, ..Limits::default() };
        let mut askable = with(10, &limits);
        for conn in [1, 2, 3, 1, 4] {
            assert_eq!(ask(&mut askable, conn, 9, NOW, &limits), Ok(Some(hash(9))));
        }
        let have = |askable: &Askable| askable.tables.keys().map(|conn| conn.0).collect::<Vec<_>>();
        assert_eq!(have(&askable), [1, 3, 4]);
        askable.set(hash(10), true, &limits);
        assert_eq!(have(&askable), [1, 4], "more is here, so fewer have a table");
        assert_eq!(ask(&mut askable, 3, 10, NOW, &limits), Ok(Some(hash(10))), "it costs a table");
    }

    #[test]
    fn who_makes_it_compute_too_much_hears_that_whatever_it_asks_for() {
        let limits = Limits { ask_proofs: 100, ask_proofs_per_sec: 100, ..Limits::default() };
        let mut askable = with(100, &limits);
        let answered = (0..100).take_while(|conn| ask(&mut askable, *conn, 1, NOW, &limits).is_ok()).count();
        assert_eq!(answered, 5, "what four seconds are worth, and the one that goes beyond it");
        for number in [1, 200] {
            assert_eq!(ask(&mut askable, 50, number, NOW, &limits), Err(Busy));
        }
        // Whoever has a table costs nothing.
        assert_eq!(ask(&mut askable, 4, 1, NOW, &limits), Ok(Some(hash(1))));
        let later = Duration::from_secs(1);
        assert_eq!(ask(&mut askable, 50, 1, later, &limits), Ok(Some(hash(1))));
        assert_eq!(ask(&mut askable, 51, 1, later, &limits), Err(Busy));
    }
}
