//! What is done with an offer: rules, of which the first that fits decides.
//!
//! The last one is the [`AcceptPolicy`]; what fits none is asked about. Pure: who the sender is, and what
//! is offered, are given. Leaves to `downloads` that nobody may be there to be asked, and the room on
//! the disk.

use std::fmt;
use std::str::FromStr;

use super::{Alias, Code, Failure};
use crate::size;
use crate::wire::{NodeId, SafeName};

/// No pattern for names is longer, in bytes: no name is.
const LONGEST_PATTERN: usize = 255;

/// Which offers are taken without asking. About the others somebody is asked, if there is anybody;
/// else they are declined. Where nobody has an identity, peers on loopback count as known and trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptPolicy {
    /// Those of trusted peers.
    Ask,
    /// Those of known peers.
    Known,
    /// All.
    All,
    /// None.
    None,
}

impl AcceptPolicy {
    /// What it says as a rule; the one that takes nothing is none.
    fn rule(self) -> Option<AcceptRule> {
        let from = match self {
            Self::Ask => Whose::Trusted,
            Self::Known => Whose::Known,
            Self::All => Whose::Anyone,
            Self::None => return None,
        };
        Some(AcceptRule { from, name: None, max_size: None, action: Treatment::Accept })
    }
}

/// What is done with an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is taken without asking.
    Accept,
    /// Somebody is asked; where there is nobody, it is declined.
    Ask,
    /// It is declined, and nobody is bothered.
    Reject,
}

impl Treatment {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Ask => "ask",
            Self::Reject => "reject",
        }
    }
}

/// Whose offers a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    Anyone,
    /// Those of whoever was connected to or named.
    Known,
    /// Those of whoever is trusted, and of this node's own identity.
    Trusted,
    /// Those of whoever is called so at that moment.
    Alias(Alias),
    /// Those of one identity.
    Id(NodeId),
}

impl FromStr for Whose {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "anyone" => return Ok(Self::Anyone),
            "known" => return Ok(Self::Known),
            "trusted" => return Ok(Self::Trusted),
            _ => {}
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::Alias).map_err(|_| {
            let message = format!(
                "`{text}` is nobody: say trusted, known, anyone, an alias, or all 64 digits of an identity"
            );
            Failure::new(Code::Usage, message)
        })
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Known => f.write_str("known"),
            Self::Trusted => f.write_str("trusted"),
            Self::Alias(alias) => alias.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// A pattern for names: `*` is anything, `?` one character; upper and lower case are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl FromStr for NamePattern {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::new(Code::Usage, format!("`{text}` is no pattern for names: {why}"));
        if text.is_empty() {
            return Err(bad("it is empty; `*` is every name"));
        }
        if text.len() > LONGEST_PATTERN {
            return Err(bad("no name is that long"));
        }
        if text.contains('/') {
            return Err(bad("what is offered has a name without directories, and no `/`"));
        }
        // Elsewhere they would mean something else than themselves.
        if let Some(found) = text.chars().find(|c| "[]{}\\".contains(*c)) {
            let why = format!("`{found}` is not understood; `*` is anything, and `?` one character");
            return Err(bad(&why));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NamePattern {
    /// Whether it is that name, in time that grows with both lengths multiplied, whatever is in them.
    pub fn fits(&self, name: &str) -> bool {
        let [pattern, name] = [&self.0, name].map(|text| text.to_lowercase().chars().collect::<Vec<_>>());
        let (mut at, mut read) = (0, 0);
        // After the last `*`, and how much of the name it takes.
        let mut star: Option<(usize, usize)> = None;
        while read < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    at += 1;
                    star = Some((at, read));
                }
                Some(c) if *c == '?' || *c == name[read] => {
                    at += 1;
                    read += 1;
                }
                _ => match &mut star {
                    Some((after, taken)) => {
                        *taken += 1;
                        (at, read) = (*after, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

/// What is done with some offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptRule {
    /// Whose.
    pub from: Whose,
    /// What they are called; `None` for anything.
    pub name: Option<NamePattern>,
    /// How many bytes they have at most; `None` for any number.
    pub max_size: Option<u64>,
    /// What is done.
    pub action: Treatment,
}

impl fmt::Display for AcceptRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.action.as_str(), self.from)?;
        if let Some(name) = &self.name {
            write!(f, ", name {name}")?;
        }
        match self.max_size {
            Some(most) => write!(f, ", up to {}", size::human(most)),
            None => Ok(()),
        }
    }
}

/// An offer, as far as rules ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered<'a> {
    pub(super) node_id: Option<NodeId>,
    pub(super) alias: Option<&'a Alias>,
    pub(super) trusted: bool,
    pub(super) known: bool,
    pub(super) name: &'a SafeName,
    /// In bytes.
    pub(super) size: u64,
}

impl AcceptRule {
    fn fits(&self, offer: &Offered<'_>) -> bool {
        let is_theirs = match &self.from {
            Whose::Anyone => true,
            Whose::Known => offer.known,
            Whose::Trusted => offer.trusted,
            Whose::Alias(alias) => offer.alias == Some(alias),
            Whose::Id(id) => offer.node_id == Some(*id),
        };
        is_theirs
            && self.max_size.is_none_or(|most| offer.size <= most)
            && self.name.as_ref().is_none_or(|name| name.fits(offer.name.as_str()))
    }
}

/// All rules, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptRules {
    own: Vec<AcceptRule>,
    policy: AcceptPolicy,
}

impl From<AcceptPolicy> for AcceptRules {
    fn from(policy: AcceptPolicy) -> Self {
        Self::new(Vec::new(), policy)
    }
}

impl AcceptRules {
    /// Rules of the user's own, and what holds where none of them fits.
    pub fn new(own: Vec<AcceptRule>, policy: AcceptPolicy) -> Self {
        Self { own, policy }
    }

    /// Those of the user's own.
    pub fn own(&self) -> &[AcceptRule] {
        &self.own
    }

    /// What holds where none of them fits.
    pub fn policy(&self) -> AcceptPolicy {
        self.policy
    }

    /// What is done with an offer, and the number of the rule that says so, from 1, where it is the user's own.
    pub(super) fn decide(&self, offer: &Offered<'_>) -> (Treatment, Option<usize>) {
        let last = self.policy.rule();
        let mut rules = self.own.iter().chain(&last).enumerate();
        match rules.find(|(_, rule)| rule.fits(offer)) {
            Some((index, rule)) => (rule.action, (index < self.own.len()).then_some(index + 1)),
            None => (Treatment::Ask, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_whole_name_in_upper_or_lower_case() {
        for (pattern, fitting, others) in [
            ("*.pdf", &["a.pdf", ".pdf", "REPORT.PDF", "a.pdf.pdf"][..], &["a.pdf.exe", "pdf", "a.pd"][..]),
            ("report", &["report", "Report"], &["reports", "a report", ""]),
            ("?.txt", &["a.txt", "ß.txt"], &[".txt", "ab.txt"]),
            ("*a*b*", &["ab", "xaxbx", "aabb"], &["ba", "a", "b"]),
            ("*", &["x", "a b"], &[]),
            ("a**?", &["ab", "abc"], &["a", "b"]),
            ("É*", &["école"], &["ecole"]),
        ] {
            let pattern: NamePattern = pattern.parse().unwrap();
            assert!(fitting.iter().all(|name| pattern.fits(name)), "{pattern}");
            assert!(!others.iter().any(|name| pattern.fits(name)), "{pattern}");
        }
        // Takes an age where each `*` tries everything that the ones before it left.
        let pattern: NamePattern = "*a".repeat(120).parse().unwrap();
        assert!(!pattern.fits(&format!("{}b", "a".repeat(254))));
    }

    #[test]
    fn what_is_no_pattern_and_nobody_says_why() {
        let long = "x".repeat(256);
        for (pattern, why) in [
            ("", "every name"),
            ("in/*.pdf", "no `/`"),
            ("[ab]*", "`[`"),
            ("*.{a,b}", "`{`"),
            (&long, "long"),
        ] {
            let failure = pattern.parse::<NamePattern>().unwrap_err();
            assert!(failure.message.contains(why), "{failure}");
        }
        for nobody in ["", "90ad9948", "not one", "everybody!"] {
            let failure = nobody.parse::<Whose>().unwrap_err();
            assert!(failure.message.contains("64 digits"), "{failure}");
        }
        let id = NodeId([7; 32]);
        assert_eq!(id.to_string().parse(), Ok(Whose::Id(id)));
        assert_eq!("anna".parse(), Ok(Whose::Alias("anna".parse().unwrap())));
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_the_policy_comes_last() {
        let rule = |from: &str, name: Option<&str>, max_size, action| AcceptRule {
            from: from.parse().unwrap(),
            name: name.map(|name| name.parse().unwrap()),
            max_size,
            action,
        };
        let own = vec![
            rule("anyone", Some("*.exe"), None, Treatment::Reject),
            rule("anna", None, Some(100), Treatment::Accept),
            rule("known", None, Some(10), Treatment::Ask),
        ];
        let rules = |policy| AcceptRules::new(own.clone(), policy);
        let anna: Alias = "anna".parse().unwrap();
        let decide = |policy, alias, known, name: &str, size| {
            let name = SafeName::new(name).unwrap();
            let offer = Offered { node_id: None, alias, trusted: false, known, name: &name, size };
            rules(policy).decide(&offer)
        };
        let all = AcceptPolicy::All;
        assert_eq!(decide(all, Some(&anna), true, "a.EXE", 1), (Treatment::Reject, Some(1)));
        assert_eq!(decide(all, Some(&anna), true, "a", 100), (Treatment::Accept, Some(2)));
        assert_eq!(decide(all, None, true, "a", 10), (Treatment::Ask, Some(3)));
        assert_eq!(decide(all, Some(&anna), true, "a", 101), (Treatment::Accept, None));
        assert_eq!(decide(AcceptPolicy::Known, None, true, "a", 11), (Treatment::Accept, None));
        assert_eq!(decide(AcceptPolicy::Known, None, false, "a", 1), (Treatment::Ask, None));
        assert_eq!(decide(AcceptPolicy::None, None, true, "a", 11), (Treatment::Ask, None));
    }
}
