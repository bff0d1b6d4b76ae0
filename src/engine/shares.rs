//! What is shared: whoever knows its hash may fetch it.
//!
//! A share is a path and what its content was when it was shared. Whether it still is that is found out when
//! somebody asks for it; one that has changed is not served, its user is told once, and it is looked at again now and then,
//! without being read as long as it looks the same. What is done for those who ask is in `answers`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::uploads::name_of;
use super::{
    Code, CommandId, Direction, Engine, Event, Failure, Job, JobDone, Output, Reply, ShareInfo, Shared,
    Stage, Stamp, TransferId, TransferInfo,
};
use crate::size;
use crate::wire::{
    CHUNK_SIZE, FileHash, Geometry, Link, LinkKind, MAX_MANIFEST_SIZE, ManifestHead, Root, SafeName, TreeInfo,
};

/// Shares of a node.
const MAX_SHARES: usize = 10_000;

/// Digits of a hash that name a share.
const MIN_PREFIX: usize = 4;

/// What has changed is looked at again no sooner than after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Something that is shared.
#[derive(Debug, Clone)]
struct Share {
    shared: Shared,
    name: SafeName,
    changed: Option<Changed>,
    /// What it looked like when its hashes were last computed for somebody who asked.
    hashed_as: Option<Stamp>,
}

/// What is known of a share that is not what it was.
#[derive(Debug, Clone, Copy)]
struct Changed {
    /// What it looked like when that was found; `None` where it could not be read.
    stamp: Option<Stamp>,
    /// When it may be looked at again.
    not_before: Duration,
}

impl Share {
    fn new(shared: Shared, name: SafeName) -> Self {
        Self { shared, name, changed: None, hashed_as: None }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_hash: BTreeMap<FileHash, Share>,
    /// What is being hashed to be shared.
    hashing: BTreeMap<TransferId, Hashing>,
}

/// Something that is to be shared.
#[derive(Debug)]
struct Hashing {
    command: CommandId,
    path: PathBuf,
    name: SafeName,
    known_only: bool,
    is_kept: bool,
    tree: Option<TreeInfo>,
    /// `None` until it was opened.
    geometry: Option<Geometry>,
    hashed_bytes: u64,
    progress_at: Duration,
}

impl Hashing {
    fn info(&self, id: TransferId) -> TransferInfo {
        TransferInfo {
            id,
            peer: None,
            direction: Direction::Out,
            name: self.name.clone(),
            size: self.geometry.map_or(0, Geometry::size),
            sha256: None,
            files: self.tree.map(|tree| tree.files),
            bytes: self.hashed_bytes,
            stage: Stage::Hashing,
            sources: Vec::new(),
            cells: Vec::new(),
        }
    }
}

impl Shares {
    /// Whether something is being hashed.
    pub(super) fn is_busy(&self) -> bool {
        !self.hashing.is_empty()
    }

    /// What is being hashed.
    pub(super) fn hashing_infos(&self) -> impl Iterator<Item = TransferInfo> {
        self.hashing.iter().map(|(id, hashing)| hashing.info(*id))
    }

    pub(super) fn has(&self, hash: FileHash) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// Whether only trusted peers get it.
    pub(super) fn is_known_only(&self, hash: FileHash) -> bool {
        self.by_hash.get(&hash).is_some_and(|share| share.shared.known_only)
    }

    pub(super) fn path_of(&self, hash: FileHash) -> Option<&PathBuf> {
        self.by_hash.get(&hash).map(|share| &share.shared.path)
    }

    /// The same of one that is what it was, as far as is known.
    pub(super) fn path_of_unchanged(&self, hash: FileHash) -> Option<&PathBuf> {
        self.by_hash.get(&hash).filter(|share| share.changed.is_none()).map(|share| &share.shared.path)
    }

    pub(super) fn size_of(&self, hash: FileHash) -> Option<u64> {
        self.by_hash.get(&hash).map(|share| share.shared.size)
    }

    pub(super) fn root_of(&self, hash: FileHash) -> Option<Root> {
        self.by_hash.get(&hash).map(|share| share.shared.root)
    }

    /// What to open for somebody who asks for it, and what it is called; `None` where it has changed and was
    /// looked at lately.
    pub(super) fn source_for(&mut self, hash: FileHash, now: Duration) -> Option<(SafeName, PathBuf)> {
        let share = self.by_hash.get_mut(&hash)?;
        if let Some(changed) = &mut share.changed {
            if now < changed.not_before {
                return None;
            }
            changed.not_before = now + LOOK_AGAIN;
        }
        Some((share.name.clone(), share.shared.path.clone()))
    }

    /// Whether it was found to have changed, and looks as it did then.
    pub(super) fn is_known_to_have_changed(&self, hash: FileHash, stamp: Stamp) -> bool {
        let changed = self.by_hash.get(&hash).and_then(|share| share.changed);
        changed.is_some_and(|changed| changed.stamp == Some(stamp))
    }

    /// Notes that it is hashed for somebody who asked; whether that is new since it was last written to.
    pub(super) fn hashed_as(&mut self, hash: FileHash, stamp: Stamp) -> bool {
        let share = self.by_hash.get_mut(&hash);
        share.is_some_and(|share| share.hashed_as.replace(stamp) != Some(stamp))
    }

    /// It is what it was when it was shared.
    pub(super) fn found_unchanged(&mut self, hash: FileHash) {
        if let Some(share) = self.by_hash.get_mut(&hash) {
            share.changed = None;
        }
    }
}

impl Engine {
    pub(super) fn share(&mut self, command: CommandId, path: PathBuf, known_only: bool, is_kept: bool) {
        let is_full = self.shares.by_hash.len() + self.shares.hashing.len() >= MAX_SHARES;
        let name = if is_full {
            let message = format!("{MAX_SHARES} things are shared already; `unshare` some");
            Err(Failure::new(Code::Busy, message))
        } else if known_only && !self.is_secure() {
            let message = "under --plain nobody has an identity, so nobody is known; leave out --known";
            Err(Failure::new(Code::Usage, message))
        } else {
            name_of(&path)
        };
        let name = match name {
            Ok(name) => name,
            Err(failure) => return self.reply(command, Err(failure)),
        };
        let id = self.next_transfer_id();
        let hashing = Hashing {
            command,
            path: path.clone(),
            name,
            known_only,
            is_kept,
            tree: None,
            geometry: None,
            hashed_bytes: 0,
            progress_at: self.now,
        };
        self.shares.hashing.insert(id, hashing);
        self.job(id, Job::OpenSource(path));
    }

    /// Takes the result of a job for something that is to be shared; `false` where it is not for one.
    pub(super) fn on_share_job(&mut self, id: TransferId, done: &JobDone) -> bool {
        let Some(hashing) = self.shares.hashing.get_mut(&id) else { return false };
        match done {
            JobDone::SourceOpened { size, head, tree, left_out, .. } => {
                let Some(geometry) = Geometry::new(*size).filter(|_| *size <= MAX_MANIFEST_SIZE) else {
                    let message = format!(
                        "{} is more than anybody can fetch ({}); `split` the file and share the parts",
                        size::human(*size),
                        size::human(MAX_MANIFEST_SIZE)
                    );
                    self.fail_share(id, Failure::new(Code::TooLarge, message));
                    return true;
                };
                hashing.tree = *tree;
                hashing.geometry = Some(geometry);
                if let Some(text) = left_out {
                    self.event(Event::Warning { peer: None, text: text.clone() });
                }
                match head {
                    Some(head) => self.on_share_hashed(id, head),
                    None => self.job(id, Job::HashSource { until: geometry.chunks() }),
                }
            }
            JobDone::SourceHashing { hashed } => {
                hashing.hashed_bytes = u64::from(hashed.chunks) * u64::from(CHUNK_SIZE);
                let until = hashing.geometry.map_or(0, Geometry::chunks);
                self.share_progress(id);
                self.job(id, Job::HashSource { until });
            }
            JobDone::SourceHashed(head) => self.on_share_hashed(id, head),
            JobDone::Failed(failure) => {
                self.fail_share(id, failure.clone());
            }
            _ => {}
        }
        true
    }

    fn share_progress(&mut self, id: TransferId) {
        let Some(hashing) = self.shares.hashing.get_mut(&id) else { return };
        if self.now < hashing.progress_at + self.config.limits.progress_interval {
            return;
        }
        hashing.progress_at = self.now;
        let TransferInfo { direction, name, size, bytes, stage, .. } = hashing.info(id);
        self.event(Event::Progress { id, peer: None, name, direction, stage, bytes, size });
    }

    /// Ends the hashing of something that was to be shared; `false` where there is none of that number.
    pub(super) fn fail_share(&mut self, id: TransferId, failure: Failure) -> bool {
        let Some(hashing) = self.shares.hashing.remove(&id) else { return false };
        self.job(id, Job::Release { keep: false });
        self.reply(hashing.command, Err(failure));
        true
    }

    fn on_share_hashed(&mut self, id: TransferId, head: &Arc<ManifestHead>) {
        let Some(hashing) = self.shares.hashing.remove(&id) else { return };
        let Hashing { command, path, name, known_only, is_kept, tree, .. } = hashing;
        self.job(id, Job::Release { keep: false });
        let shared = Shared {
            path,
            file_hash: head.file_hash(),
            root: head.root(),
            size: head.geometry().size(),
            is_directory: tree.is_some(),
            known_only,
        };
        if is_kept && self.is_secure() {
            self.outputs.push_back(Output::KeepShare(shared.clone()));
        }
        let share = Share::new(shared, name);
        let info = self.share_info(&share);
        self.end_former_share(&share.shared);
        self.add_share(share);
        self.end_forbidden_answers();
        self.reply(command, Ok(Reply::Shared(Box::new(info))));
    }

    /// What was shared at the path of something else that is shared now is not shared any longer.
    fn end_former_share(&mut self, now: &Shared) {
        let is_former =
            |share: &&Share| share.shared.path == now.path && share.shared.file_hash != now.file_hash;
        let former = self.shares.by_hash.values().find(is_former).map(|share| share.shared.file_hash);
        if let Some(hash) = former {
            self.end_share(hash);
        }
    }

    fn end_share(&mut self, hash: FileHash) {
        self.shares.by_hash.remove(&hash);
        self.askable_changed(hash);
        self.stop_serving(hash, "it is not shared any longer");
        self.review_announcement(hash);
    }

    fn add_share(&mut self, share: Share) {
        let hash = share.shared.file_hash;
        self.shares.by_hash.insert(hash, share);
        self.askable_changed(hash);
        self.review_announcement(hash);
    }

    /// What was shared when the program last ran.
    pub(super) fn on_shares_read(&mut self, shares: Vec<Shared>) {
        for mut shared in shares.into_iter().take(MAX_SHARES) {
            // The same content may have been noted at several paths.
            shared.known_only |= self.shares.is_known_only(shared.file_hash);
            if let Ok(name) = name_of(&shared.path) {
                self.add_share(Share::new(shared, name));
            }
        }
    }

    /// What was fetched is served on while the node runs.
    pub(super) fn seed(&mut self, id: TransferId, path: &Path) {
        let Some(download) = self.downloads.get(&id).filter(|_| self.gets.contains_key(&id)) else { return };
        let Some(head) = download.head() else { return };
        let hash = head.file_hash();
        if !self.config.seeds || self.shares.path_of_unchanged(hash).is_some() {
            return;
        }
        if self.shares.by_hash.len() >= MAX_SHARES {
            return;
        }
        let Ok(name) = name_of(path) else { return };
        let shared = Shared {
            path: path.to_owned(),
            file_hash: hash,
            root: head.root(),
            size: head.geometry().size(),
            is_directory: download.is_directory(),
            known_only: self.is_known_only(hash),
        };
        self.add_share(Share::new(shared, name));
    }

    pub(super) fn unshare(&mut self, what: &str) -> Result<Reply, Failure> {
        let prefix = what.to_ascii_lowercase();
        let may_be_hash = what.len() >= MIN_PREFIX && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        let link: Option<Link> = what.parse().ok();
        let is_meant = |share: &&Share| {
            link.as_ref().is_some_and(|link| link.hash == share.shared.file_hash)
                || share.shared.path.as_os_str() == what
                || (may_be_hash && share.shared.file_hash.to_string().starts_with(&prefix))
        };
        let meant: Vec<_> = self.shares.by_hash.values().filter(is_meant).cloned().collect();
        let [share] = meant.as_slice() else {
            let message = match meant.as_slice() {
                [] => format!("`{what}` is not shared; `shares` lists what is, by hash and path"),
                _ => format!("`{what}` is the beginning of several hashes; write more of it"),
            };
            return Err(Failure::new(Code::Usage, message));
        };
        let hash = share.shared.file_hash;
        self.end_share(hash);
        if self.is_secure() {
            self.outputs.push_back(Output::DropShare(hash));
        }
        Ok(Reply::Unshared(Box::new(self.share_info(share))))
    }

    pub(super) fn share_infos(&self) -> Vec<ShareInfo> {
        let mut infos: Vec<_> = self.shares.by_hash.values().map(|share| self.share_info(share)).collect();
        infos.sort_by(|a, b| a.path.cmp(&b.path));
        infos
    }

    fn share_info(&self, share: &Share) -> ShareInfo {
        let shared = &share.shared;
        let link = Link {
            hash: shared.file_hash,
            name: Some(share.name.clone()),
            size: Some(shared.size),
            root: Some(shared.root),
            kind: Some(if shared.is_directory { LinkKind::Directory } else { LinkKind::File }),
            known_only: shared.known_only,
            from: self.places_for_links().iter().map(ToString::to_string).collect(),
        };
        ShareInfo { path: shared.path.clone(), link, has_changed: share.changed.is_some() }
    }

    /// A share is not what it was when it was shared, or cannot be read. Its user hears it once.
    pub(super) fn share_changed(&mut self, hash: FileHash, stamp: Option<Stamp>, why: Option<&Failure>) {
        let not_before = self.now + LOOK_AGAIN;
        let Some(share) = self.shares.by_hash.get_mut(&hash) else { return };
        let path = share.shared.path.display();
        let text = match why {
            None => format!("`{path}` has changed since it was shared, and is not served; `share` it again"),
            Some(failure) => format!("`{path}` is shared and cannot be served: {}", failure.message),
        };
        if share.changed.replace(Changed { stamp, not_before }).is_none() {
            self.event(Event::Warning { peer: None, text });
        }
        self.review_announcement(hash);
    }
}
