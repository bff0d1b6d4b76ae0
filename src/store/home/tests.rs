use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("state/p2p")).unwrap();
    (dir, home)
}

fn pin(number: u8) -> Change {
    Change::Pin(format!("host{number}:1").parse().unwrap(), NodeId([number; 32]))
}

#[test]
fn the_key_and_its_directory_are_for_this_user_alone() {
    let (_dir, home) = home();
    home.key(|| "secret".to_owned()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.path), 0o700);
    assert_eq!(mode(&home.path.join(KEY)), 0o600);
    assert_eq!(fs::read_dir(&home.path).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_key_that_others_can_read_is_refused_with_how_to_mend_it() {
    let (_dir, home) = home();
    home.key(|| "secret".to_owned()).unwrap();
    let path = home.path.join(KEY);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = home.key(|| panic!("there is a key")).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn of_many_that_start_at_once_all_have_the_same_key() {
    for _ in 0..20 {
        let (_dir, home) = home();
        let start = Barrier::new(8);
        let keys: Vec<String> = std::thread::scope(|scope| {
            let (home, start) = (&home, &start);
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn(move || {
                        start.wait();
                        home.key(|| format!("key {n}")).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
        assert_eq!(fs::read_dir(&home.path).unwrap().count(), 1, "nothing else is left");
    }
}

#[test]
fn changes_of_several_processes_are_all_kept() {
    let (_dir, home) = home();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let home = &home;
            scope.spawn(move || {
                for m in 0..8 {
                    home.change(&[pin(n * 8 + m), Change::Trust(NodeId([n * 8 + m; 32]))]).unwrap();
                }
            });
        }
    });
    let book = home.book().unwrap().book;
    assert_eq!((book.pins.len(), book.peers.len()), (64, 64));
}

#[test]
fn what_is_written_is_read_and_a_person_can_read_it() {
    let (_dir, home) = home();
    let laptop = Change::Alias(NodeId([7; 32]), "laptop".parse().unwrap());
    let written = home.change(&[pin(7), laptop, Change::Trust(NodeId([7; 32]))]).unwrap();
    assert_eq!(home.book().unwrap().book, written.book);
    let text = fs::read_to_string(home.path.join(BOOK)).unwrap();
    assert!(text.contains(&format!("\"host7:1\" = \"{}\"", "07".repeat(32))), "{text}");
    assert!(text.contains("alias = \"laptop\"") && text.contains("trusted = true"), "{text}");
}

#[test]
fn a_change_that_contradicts_changes_nothing() {
    let (_dir, home) = home();
    home.change(&[pin(1)]).unwrap();
    let other = Change::Pin("host1:1".parse().unwrap(), NodeId([9; 32]));
    let failure = home.change(&[pin(2), other]).unwrap_err();
    assert_eq!(failure.code, Code::IdentityChanged);
    assert_eq!(home.book().unwrap().book.pins.len(), 1);
}

#[test]
fn a_damaged_file_is_an_error_and_stays_as_it_is() {
    let (_dir, home) = home();
    home.change(&[pin(1)]).unwrap();
    let path = home.path.join(BOOK);
    let good = fs::read_to_string(&path).unwrap();
    let bad_id = good.replace("0101", "01");
    for damaged in
        [&good[..good.len() - 20], "\0\0\0", "pins = 3", "new_field = 1", &bad_id, "[pins]\nx = 'y'\n"]
    {
        fs::write(&path, damaged).unwrap();
        let error = home.book().unwrap_err();
        assert!(error.to_string().contains("damaged"), "{damaged:?}: {error}");
        assert!(home.change(&[pin(2)]).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(home.book(), Err(HomeError::Damaged { .. })));
}

#[test]
fn a_home_that_cannot_be_made_is_an_error_that_says_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Home::open(file.path().join("home")).unwrap_err();
    assert!(error.to_string().contains("--home"), "{error}");
}

#[test]
fn what_was_noted_is_newer_than_every_reading_that_may_lack_it() {
    let (_dir, home) = home();
    let early = home.book().unwrap();
    let noted = home.change(&[pin(1)]).unwrap();
    let late = home.clone().book().unwrap();
    assert!(early.as_of < noted.as_of && noted.as_of < late.as_of);
}

#[test]
fn what_others_can_change_is_refused_with_how_to_mend_it() {
    let (_dir, home) = home();
    home.change(&[pin(1)]).unwrap();
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o660, 0o602] {
        set_mode(&home.path.join(BOOK), mode);
        let error = home.book().unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
        assert!(home.change(&[pin(2)]).is_err());
    }
    set_mode(&home.path.join(BOOK), 0o644);
    assert!(home.book().is_ok(), "that others can read it is no reason not to start");
    for mode in [0o770, 0o707, 0o1777] {
        set_mode(&home.path, mode);
        let error = Home::open(home.path.clone()).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    set_mode(&home.path, 0o755);
    assert!(Home::open(home.path.clone()).is_ok());
}

#[test]
fn a_file_that_says_two_things_is_damaged() {
    let (_dir, home) = home();
    let (one, two) = ("0a".repeat(32), "0b".repeat(32));
    let upper = one.to_uppercase();
    for text in [
        format!("[pins]\n\"host:1\" = \"{one}\"\n\"HOST:1\" = \"{two}\"\n"),
        format!("[peers.{one}]\nalias = \"bob\"\n[peers.{two}]\nalias = \"bob\"\n"),
        format!("[peers.{one}]\ntrusted = true\n[peers.{upper}]\ntrusted = false\n"),
    ] {
        fs::write(home.path.join(BOOK), &text).unwrap();
        assert!(matches!(home.book(), Err(HomeError::Damaged { .. })), "{text}");
    }
}

#[test]
fn a_pipe_in_place_of_a_file_holds_up_nobody() {
    let (_dir, home) = home();
    let path = home.path.join(BOOK);
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(home.book(), Err(HomeError::Damaged { .. })));
}
