//! How often others may make this side complain: a line in the log costs a stranger nothing.
//!
//! The first lines about an origin are said; then it is only counted how many more there would have
//! been, until a span of time is over. Bounded in lines and in memory, whoever tries.

use std::collections::BTreeMap;

use super::Origin;

/// Origins that are told apart; all others count as one.
const MAX_ORIGINS: usize = 256;

/// Who is complained about; `None` is everybody for whom there was no room.
pub(super) type About = Option<Origin>;

/// What was said, and what was not, in the spans that run.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    by_origin: BTreeMap<About, Count>,
}

#[derive(Debug, Default)]
struct Count {
    said: u32,
    unsaid: u64,
}

/// What becomes of a complaint.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is said, and a span begins with it, which whoever asked must end.
    Begin(About),
    /// It is said.
    Say,
    /// It is counted.
    Count,
}

impl Complaints {
    /// Whether one more is said, where `limit` may be in a span.
    pub(super) fn one_more(&mut self, origin: Origin, limit: u32) -> Verdict {
        let known = self.by_origin.contains_key(&Some(origin));
        let about = (known || self.by_origin.len() < MAX_ORIGINS).then_some(origin);
        let begins = !self.by_origin.contains_key(&about);
        let count = self.by_origin.entry(about).or_default();
        if count.said >= limit {
            count.unsaid += 1;
            return Verdict::Count;
        }
        count.said += 1;
        if begins { Verdict::Begin(about) } else { Verdict::Say }
    }

    /// Ends a span, and tells what to say about what was not said in it.
    pub(super) fn end(&mut self, about: About) -> Option<String> {
        let unsaid = self.by_origin.remove(&about)?.unsaid;
        let from = about.map_or_else(|| "other addresses".to_owned(), |origin| origin.to_string());
        (unsaid > 0).then(|| format!("{from}: {unsaid} more lines like these were left out"))
    }

    /// Ends all of them.
    pub(super) fn end_all(&mut self) -> Vec<String> {
        let all: Vec<_> = self.by_origin.keys().copied().collect();
        all.into_iter().filter_map(|about| self.end(about)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn lines_about_one_origin_are_bounded_and_so_are_origins() {
        let mut complaints = Complaints::default();
        let origin = |n: u16| Origin::of(IpAddr::from([0x2001, 0xdb8, 0, n, 0, 0, 0, 1]));
        let about = Some(origin(0));
        assert_eq!(complaints.one_more(origin(0), 2), Verdict::Begin(about));
        assert_eq!(complaints.one_more(origin(0), 2), Verdict::Say);
        assert_eq!(complaints.one_more(origin(0), 2), Verdict::Count);
        assert_eq!(complaints.one_more(origin(1), 2), Verdict::Begin(Some(origin(1))), "others are heard");
        assert_eq!(complaints.end(Some(origin(1))), None, "nothing was left out");
        let said = complaints.end(about).unwrap();
        assert!(said.contains("2001:db8::/64") && said.contains("1 more"), "{said}");
        assert_eq!(complaints.one_more(origin(0), 2), Verdict::Begin(about), "a new span");

        for n in 0..2000 {
            complaints.one_more(origin(n), 2);
        }
        assert_eq!(complaints.by_origin.len(), MAX_ORIGINS + 1);
        let said = complaints.end_all();
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("other addresses"), "{said:?}");
    }
}
