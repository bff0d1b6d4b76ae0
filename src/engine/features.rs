//! What two nodes can do beyond the baseline: what both named in `HELLO`.

/// Offers by number, pulled in any order, with refusals that say why.
const TRANSFER: &str = "transfer";
/// Texts that are acknowledged once they were shown.
const TEXT_ACK: &str = "text-ack";
/// Offers of directories.
const TREE: &str = "tree";
/// Contents are searched for, and served in part.
const SWARM: &str = "swarm";
/// Who trades a content tells others of those who do.
const PEX: &str = "pex";
/// Connections to others are passed on, or taken from whoever passes them on.
const RELAY: &str = "relay";
/// `PING` is answered.
const PING: &str = "ping";

/// The features that both sides of a connection have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) transfer: bool,
    pub(super) text_ack: bool,
    pub(super) tree: bool,
    pub(super) ping: bool,
    pub(super) swarm: bool,
    pub(super) pex: bool,
    pub(super) relay: bool,
}

impl Features {
    /// What this node names.
    pub(super) fn ours() -> Vec<String> {
        [TRANSFER, TREE, TEXT_ACK, PING, SWARM, PEX, RELAY].map(str::to_owned).to_vec()
    }

    /// What we share with a peer that named these.
    pub(super) fn shared(theirs: &[String]) -> Self {
        let named = |feature| theirs.iter().any(|their| their == feature);
        Self {
            transfer: named(TRANSFER),
            tree: named(TRANSFER) && named(TREE),
            text_ack: named(TEXT_ACK),
            ping: named(PING),
            swarm: named(TRANSFER) && named(SWARM),
            pex: named(TRANSFER) && named(SWARM) && named(PEX),
            relay: named(RELAY),
        }
    }
}
