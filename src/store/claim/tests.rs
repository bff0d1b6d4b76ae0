use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn hash() -> FileHash {
    FileHash([0xab; 32])
}

#[test]
fn a_locked_file_is_passed_over_and_an_unlocked_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let claim = || Claim::new(dir.path(), hash()).unwrap().0;
    let first = claim();
    assert_eq!(first.name, hash().to_string());
    let second = claim();
    assert_eq!(second.name, format!("{}.1", hash()));
    drop(first);
    let third = claim();
    assert_eq!(third.name, hash().to_string(), "it was left behind without a lock");
    assert!(names(Downloads::open(dir.path()).unwrap().open_partials().unwrap(), &second.name, &second.file));
}

/// The moment between opening a leftover and locking it, in which another was quicker.
#[test]
fn the_file_of_one_who_was_quicker_is_not_taken_for_the_leftover() {
    let dir = tempfile::tempdir().unwrap();
    let (left, downloads) = Claim::new(dir.path(), hash()).unwrap();
    let partials = downloads.open_partials().unwrap();
    let name = left.name;
    drop(left.file);
    let leftover = fs::File::open(dir.path().join(PARTIALS).join(&name)).unwrap().into();
    let (quicker, _) = Claim::new(dir.path(), hash()).unwrap();
    assert!(matches!(remove_if_unlocked(&partials, &name, &leftover), Attempt::Changed));
    assert!(names(&partials, &name, &quicker.file), "it is still there");
}

#[test]
fn a_name_names_a_file_only_while_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (claim, downloads) = Claim::new(dir.path(), hash()).unwrap();
    let partials = downloads.open_partials().unwrap();
    let path = dir.path().join(PARTIALS).join(&claim.name);
    assert!(names(&partials, &claim.name, &claim.file));
    let away = dir.path().join("away");
    fs::rename(&path, &away).unwrap();
    assert!(!names(&partials, &claim.name, &claim.file), "moved");
    symlink(&away, &path).unwrap();
    assert!(!names(&partials, &claim.name, &claim.file), "a symlink to it");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert!(!names(&partials, &claim.name, &claim.file), "another");
}

#[test]
fn a_directory_that_vanished_is_told_from_one_that_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let downloads = Downloads::create(dir.path()).unwrap().unwrap();
    let partials = downloads.create_partials().unwrap().unwrap();
    downloads.tidy();
    assert!(matches!(Claim::in_directory(&partials, &hash().to_string(), false), Ok(None)));
    assert!(Claim::new(dir.path(), hash()).is_ok(), "it is made anew");
}

#[test]
fn tidying_removes_only_an_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (claim, downloads) = Claim::new(dir.path(), hash()).unwrap();
    downloads.tidy();
    assert!(downloads.open_partials().is_ok());
    claim.discard(dir.path());
    assert_eq!(downloads.open_partials().unwrap_err(), Errno::NOENT);
}

/// The moment between giving a file its final name and removing its journal.
#[test]
fn the_journal_of_one_who_took_the_name_of_a_finished_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let name = crate::wire::SafeName::new("f").unwrap();
    let incoming = Incoming { from: None, name, size: 1, head: None, tree: None, goes_on: false };
    let (finished, downloads) = Claim::for_pulling(dir.path(), &incoming).unwrap();
    let partials = dir.path().join(PARTIALS);
    fs::rename(partials.join(&finished.name), dir.path().join("f")).unwrap();
    let (next, _) = Claim::for_pulling(dir.path(), &incoming).unwrap();
    assert_eq!(next.name, finished.name);
    finished.remove_journal(&downloads);
    finished.discard(dir.path());
    assert!(names(downloads.open_partials().unwrap(), &journal_name(&next.name), next.journal().unwrap()));
    next.discard(dir.path());
    assert!(!partials.exists());
}

#[test]
fn one_who_looks_for_a_file_keeps_no_other_from_being_found() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| {
        let name = crate::wire::SafeName::new(name).unwrap();
        let incoming = Incoming { from: None, name, size: 1, head: None, tree: None, goes_on: false };
        let (claim, _) = Claim::for_pulling(dir.path(), &incoming).unwrap();
        Header::of(&incoming).write(claim.journal().unwrap()).unwrap();
        incoming
    });
    let found = Claim::resume(dir.path(), &a).unwrap();
    assert!(found.is_some());
    assert!(Claim::resume(dir.path(), &a).unwrap().is_none(), "it is in use");
    let partials = Downloads::open(dir.path()).unwrap().open_partials().unwrap();
    drop(found);
    let looking = left_behind(&partials, |header| header.is_some_and(|header| header.is_of(&a))).unwrap();
    assert_eq!(looking.len(), 1);
    assert!(Claim::resume(dir.path(), &b).unwrap().is_some());
}
