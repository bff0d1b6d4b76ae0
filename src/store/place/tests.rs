use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::store::claim::Claim;
use crate::wire::FileHash;

#[test]
fn the_rename_by_link_never_replaces_and_leaves_no_second_name() {
    let dir = tempfile::tempdir().unwrap();
    let downloads = Downloads::create(dir.path()).unwrap().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("old"), "content").unwrap();
    fs::write(at("file"), "mine").unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    for taken in ["file", "dangling", "directory"] {
        assert_eq!(rename_by_link(&downloads.dir, "old", &downloads.dir, taken), Err(Errno::EXIST));
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"mine");
    rename_by_link(&downloads.dir, "old", &downloads.dir, "new").unwrap();
    assert_eq!(fs::read(at("new")).unwrap(), b"content");
    assert!(!at("old").exists());
}

#[test]
fn numbers_count_up_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let name = SafeName::new("f").unwrap();
    for number in 0..=MAX_NUMBER {
        let taken = if number == 0 { name.clone() } else { name.numbered(number) };
        fs::write(dir.path().join(taken.as_str()), "").unwrap();
    }
    let (claim, downloads) = Claim::new(dir.path(), FileHash([1; 32])).unwrap();
    let file = Moving { name: &claim.name, opened: claim.file.as_fd(), is_directory: false };
    let failure = place(&downloads, &file, &name).unwrap_err();
    assert_eq!(failure.code, Code::DiskError);
    fs::remove_file(dir.path().join("f (9999)")).unwrap();
    assert_eq!(place(&downloads, &file, &name).unwrap().as_str(), "f (9999)");
}
