//! Files to send: made cheaply, never two chunks alike, compared by their SHA-256 as a stream.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The program cuts files into chunks of this many bytes (BASELINE.md).
pub(crate) const CHUNK: usize = 262_144;

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64: short, and good enough that no two chunks are alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a file of that size and tells its SHA-256. One block of noise is repeated with its number
/// in front, so that each chunk differs from all others.
pub(crate) fn write_noise(path: &Path, size: u64, seed: u64) -> String {
    let mut block = noise(CHUNK, seed);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut digest = Sha256::new();
    let mut left = size;
    for number in 0_u64.. {
        if left == 0 {
            break;
        }
        block[..8].copy_from_slice(&number.to_le_bytes());
        let part = &block[..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        file.write_all(part).unwrap();
        digest.update(part);
        left -= part.len() as u64;
    }
    file.flush().unwrap();
    hex::encode(digest.finalize())
}

/// The SHA-256 of some bytes, as `sha256sum` prints it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The SHA-256 of a file, read as a stream.
pub(crate) fn sha256_of(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hex::encode(digest.finalize()),
            read => digest.update(&buffer[..read]),
        }
    }
}

/// Every entry below a directory, relative to it and sorted; nothing where there is no directory.
/// Symlinks are listed, not followed.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    list_into(dir, dir, &mut found);
    found.sort();
    found
}

fn list_into(root: &Path, dir: &Path, found: &mut Vec<String>) {
    // An entry may go away while it is looked at: a node is at work there.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_into(root, &path, found);
        }
    }
}

/// What is at a path: its kind, whether it may be run, its time, and its content or where it leads.
type Entry = (char, bool, (i64, i64), Vec<u8>);

/// All that is in a directory and below, and the directory itself.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut to_do = vec![PathBuf::new()];
    while let Some(below) = to_do.pop() {
        let path = dir.join(&below);
        let metadata = path.symlink_metadata().unwrap();
        let (kind, content) = if metadata.is_symlink() {
            ('l', fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
        } else if metadata.is_dir() {
            to_do.extend(fs::read_dir(&path).unwrap().map(|entry| below.join(entry.unwrap().file_name())));
            ('d', Vec::new())
        } else {
            ('f', fs::read(&path).unwrap())
        };
        let runs = kind == 'f' && metadata.mode() & 0o100 != 0;
        found.insert(below, (kind, runs, (metadata.mtime(), metadata.mtime_nsec()), content));
    }
    found
}
