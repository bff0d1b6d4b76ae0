//! What lies on the disk of files that did not arrive, and who may go on with it.
//!
//! Invariant: a partial file is not looked for while an earlier attempt at the same file is still letting
//! go of it; else it would be taken for one in use, and everything be fetched anew.

use std::sync::Arc;

use super::downloads::{Download, Form, State};
use super::{Engine, Incoming, Job, Leftover, TransferId};

/// The files that transfers are letting go of.
#[derive(Debug, Default)]
pub(super) struct Releases(Vec<(TransferId, Arc<Incoming>)>);

impl Releases {
    /// A transfer is told to let go of its file.
    pub(super) fn note(&mut self, id: TransferId, download: &Download) {
        if let Form::Pulled(pull) = &download.form {
            self.0.push((id, pull.incoming.clone()));
        }
    }

    fn done(&mut self, id: TransferId) {
        if let Some(at) = self.0.iter().position(|(releasing, _)| *releasing == id) {
            self.0.remove(at);
        }
    }

    fn concern(&self, id: TransferId, incoming: &Incoming) -> bool {
        self.0.iter().any(|(other, released)| *other != id && may_share_partial(released, incoming))
    }
}

/// Whether one may go on with what the other has left.
fn may_share_partial(a: &Incoming, b: &Incoming) -> bool {
    let hash = |of: &Incoming| of.head.as_ref().map(|head| head.file_hash());
    let same_content = hash(a).is_some() && hash(a) == hash(b);
    let are_directories = a.tree.is_some() && b.tree.is_some();
    let same_offer = a.from == b.from && a.name == b.name && (a.size == b.size || are_directories);
    same_content || same_offer
}

impl Engine {
    /// Looks for what an earlier attempt left of an accepted file, as soon as that is let go of.
    pub(super) fn open_partial(&mut self, id: TransferId) {
        let Some(pull) = self.downloads.get_mut(&id).and_then(Download::pull) else { return };
        pull.awaits_release = self.releases.concern(id, &pull.incoming);
        if !pull.awaits_release {
            let incoming = pull.incoming.clone();
            self.job(id, Job::OpenPartial(incoming));
        }
    }

    /// Bytes on the disk that an earlier attempt left of a file.
    pub(super) fn left_bytes_of(&self, id: TransferId) -> u64 {
        let Some(Form::Pulled(pull)) = self.downloads.get(&id).map(|download| &download.form) else {
            return 0;
        };
        let incoming = &pull.incoming;
        let hash = incoming.head.as_ref().map(|head| head.file_hash());
        let is_of_it = |left: &&Leftover| {
            (hash.is_some() && left.file_hash == hash)
                || (left.from == incoming.from
                    && left.name == incoming.name
                    && (left.size == incoming.size || (left.is_directory && incoming.tree.is_some())))
        };
        self.leftovers.values().find(is_of_it).map_or(0, |left| left.bytes)
    }

    /// The file of a transfer was let go of, and a part of it may stay.
    pub(super) fn on_released(&mut self, id: TransferId, left: Option<Leftover>) {
        if let Some(get) = self.gets.get_mut(&id) {
            get.released();
        }
        match self.downloads.get_mut(&id) {
            // One that waits for its sender goes on with it.
            Some(download) => {
                download.releasing = download.releasing.saturating_sub(1);
                download.left = left.filter(|_| download.state == State::Waiting);
            }
            // What is searched for finds it again.
            None if self.gets.contains_key(&id) => {}
            None => self.leftovers.extend(left.map(|left| (id, left))),
        }
        self.releases.done(id);
        let awaits = |download: &Download| match &download.form {
            Form::Pulled(pull) => pull.awaits_release && download.state == State::Creating,
            Form::Listed(_) => false,
        };
        let awaiting: Vec<_> =
            self.downloads.iter().filter(|(_, download)| awaits(download)).map(|(id, _)| *id).collect();
        for id in awaiting {
            self.open_partial(id);
        }
    }

    /// The partial files that were there when the node started.
    pub(super) fn on_partials(&mut self, found: Vec<Leftover>) {
        for left in found {
            let id = self.next_transfer_id();
            self.leftovers.insert(id, left);
        }
    }
}
