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
    /// The nodes of that network that were there the last time; none where those of another are kept. Lines
    /// that are no address are left out with a warning.
    ///
    /// # Errors
    /// Where the file cannot be read, or does not say of which network it is.
    pub fn dht_nodes(&self, network: &str) -> Result<Vec<SocketAddrV4>, HomeError> {
        let Some(text) = self.read_text(DHT_NODES)? else { return Ok(Vec::new()) };
        let path = self.path.join(DHT_NODES);
        let mut lines = text.lines();
        let of = lines.next().and_then(|line| line.strip_prefix(HEADING));
        let Some(of) = of else {
            let why = "its first line does not say of which network it is".to_owned();
            return Err(HomeError::Damaged { path, why });
        };
        if of != network {
            return Ok(Vec::new());
        }
        let lines: Vec<_> = lines.take(MAX_NODES).collect();
        let nodes: Vec<_> = lines.iter().filter_map(|line| line.parse().ok()).collect();
        if nodes.len() < lines.len() {
            let damaged = lines.len() - nodes.len();
            tracing::warn!("`{}` is damaged: {damaged} of its lines are left out", path.display());
        }
        Ok(nodes)
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
    fn what_is_damaged_is_left_out_and_can_be_replaced() {
        let (dir, home) = home();
        let write = |text| std::fs::write(dir.path().join("home").join(DHT_NODES), text).unwrap();
        for text in ["", "rubbish"] {
            write(text);
            assert!(home.dht_nodes("public").is_err(), "{text:?}");
        }
        write("p2p nodes of the DHT public\nrubbish\n192.0.2.1:6881\n[::1]:1\n192.0.2.2:\n192.0.2.3:1\n");
        let nodes: [SocketAddrV4; 2] = ["192.0.2.1:6881", "192.0.2.3:1"].map(|node| node.parse().unwrap());
        assert_eq!(home.dht_nodes("public").unwrap(), nodes);
        home.keep_dht_nodes("public", &[]).unwrap();
        assert_eq!(home.dht_nodes("public").unwrap(), []);
    }
}
