//! `dht-nodes`: nodes of a DHT that were there the last time. A cache: anything in it may be deleted.
//!
//! The first line names the network, since a private network's nodes are of no use in another and must not
//! hear of this one; then an address on each.

use std::net::SocketAddrV4;

use super::{Home, HomeError};

const DHT_NODES: &str = "dht-nodes";

/// Nodes that are kept.
const MAX_NODES: usize = 64;

/// What the first line begins with.
const HEADING: &str = "p2p nodes of the DHT ";

impl Home {
    /// The nodes of that network that were there the last time; none where those of another are kept.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn dht_nodes(&self, network: &str) -> Result<Vec<SocketAddrV4>, HomeError> {
        let Some(text) = self.read_text(DHT_NODES)? else { return Ok(Vec::new()) };
        let damaged = |why: &str| HomeError::Damaged { path: self.path.join(DHT_NODES), why: why.to_owned() };
        let mut lines = text.lines();
        let of = lines.next().and_then(|line| line.strip_prefix(HEADING));
        match of.ok_or_else(|| damaged("its first line does not say of which network it is"))? {
            of if of != network => Ok(Vec::new()),
            _ => lines
                .take(MAX_NODES)
                .map(|line| line.parse().map_err(|_| damaged("a line of it is no address")))
                .collect(),
        }
    }

    /// Keeps nodes of a network, instead of those that were kept.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep_dht_nodes(&self, network: &str, nodes: &[SocketAddrV4]) -> Result<(), HomeError> {
        let lines: String = nodes.iter().take(MAX_NODES).map(|node| format!("{node}\n")).collect();
        self.replace(DHT_NODES, &format!("{HEADING}{network}\n{lines}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    #[test]
    fn nodes_are_there_again_in_the_network_in_which_they_were_met() {
        let (_dir, home) = home();
        assert_eq!(home.dht_nodes("public").unwrap(), []);
        let nodes: Vec<SocketAddrV4> =
            vec!["192.0.2.1:6881".parse().unwrap(), "192.0.2.2:1".parse().unwrap()];
        home.keep_dht_nodes("public", &nodes).unwrap();
        assert_eq!(home.dht_nodes("public").unwrap(), nodes);
        assert_eq!(home.dht_nodes("10.0.0.1:6881").unwrap(), []);
    }

    #[test]
    fn what_is_damaged_is_an_error_and_can_be_replaced() {
        let (dir, home) = home();
        for text in ["", "rubbish", "p2p nodes of the DHT public\n192.0.2.1:6881\nrubbish\n"] {
            std::fs::write(dir.path().join("home").join(DHT_NODES), text).unwrap();
            assert!(home.dht_nodes("public").is_err(), "{text:?}");
        }
        home.keep_dht_nodes("public", &[]).unwrap();
        assert_eq!(home.dht_nodes("public").unwrap(), []);
    }
}
