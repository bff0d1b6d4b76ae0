//! What those at the nodes do and see, said shortly.

use peer_to_peer::engine::{AcceptPolicy, Code, Command, Event, Reply, TransferId, TransferInfo};

use super::{NodeId, World};

/// Two nodes with identities, the first connected to the second, and what it calls that.
pub fn pair(seed: u64) -> (World, NodeId, NodeId, String) {
    let mut world = World::new(seed);
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    let b_name = world.connect(a, b);
    (world, a, b, b_name)
}

impl World {
    /// Gives a node a file of random bytes, and returns these.
    pub fn put(&mut self, node: NodeId, name: &str, size: usize) -> Vec<u8> {
        let bytes = self.rng.bytes(size);
        self.nodes[node.0].disk.files.insert(name.into(), bytes.clone());
        bytes
    }

    pub fn send_file(&mut self, node: NodeId, to: &str, file: &str) -> TransferId {
        match self
            .run_command(node, Command::SendFile { to: to.parse().unwrap(), path: file.into(), name: None })
        {
            Ok(Reply::Sending { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    pub fn transfers(&mut self, node: NodeId) -> Vec<TransferInfo> {
        match self.run_command(node, Command::Transfers) {
            Ok(Reply::Transfers(transfers)) => transfers,
            other => panic!("{other:?}"),
        }
    }

    pub fn failures(&self, node: NodeId) -> Vec<(Code, String)> {
        self.events(node, |event| match event {
            Event::TransferFailed { code, reason, .. } => Some((*code, reason.clone())),
            _ => None,
        })
    }

    pub fn failure_codes(&self, node: NodeId) -> Vec<Code> {
        self.failures(node).into_iter().map(|(code, _)| code).collect()
    }
}
