use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;
use std::time::Duration;

use super::*;
use crate::engine::{Banned, Dealing, Shared};
use crate::wire::{FileHash, Root};

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

fn dealt(number: u8) -> Change {
    let dealing =
        Dealing { taken_bytes: 1, latency: Some(Duration::from_nanos(1_500)), ..Dealing::default() };
    Change::Record(NodeId([number; 32]), dealing, 1_000)
}

#[test]
fn records_are_read_as_they_were_written_whatever_is_in_them() {
    let (_dir, home) = home();
    let most = Dealing {
        given_bytes: u64::MAX,
        taken_bytes: u64::MAX,
        failures: u32::MAX,
        bad_chunks: u32::MAX,
        latency: Some(Duration::MAX),
    };
    let id = |number| NodeId([number; 32]);
    let written = home
        .change(&[
            dealt(1),
            Change::Record(id(2), most, u64::MAX),
            Change::Ban(id(2), Banned::Until(u64::MAX), 5),
            Change::Ban(id(3), Banned::ForGood, 0),
            Change::Ban(id(4), Banned::Until(0), u64::MAX),
        ])
        .unwrap();
    assert_eq!(written.book.records.len(), 4);
    assert_eq!(home.book().unwrap().book, written.book);
    let text = fs::read_to_string(home.path.join(RECORDS)).unwrap();
    assert!(text.contains("banned_for_good = true"), "a person can see and end it: {text}");
}

#[test]
fn only_the_file_that_changed_is_written() {
    let (_dir, home) = home();
    let exists = |name: &str| home.path.join(name).exists();
    home.change(&[dealt(1)]).unwrap();
    assert!(exists(RECORDS) && !exists(BOOK));
    fs::remove_file(home.path.join(RECORDS)).unwrap();
    home.change(&[pin(1)]).unwrap();
    assert!(!exists(RECORDS) && exists(BOOK));
    let edited = format!("# mine\n{}", fs::read_to_string(home.path.join(BOOK)).unwrap());
    fs::write(home.path.join(BOOK), &edited).unwrap();
    home.change(&[dealt(1), Change::Ban(NodeId([2; 32]), Banned::ForGood, 0)]).unwrap();
    assert_eq!(fs::read_to_string(home.path.join(BOOK)).unwrap(), edited);
}

#[test]
fn whom_we_only_dealt_with_or_banned_is_not_known_after_a_restart() {
    let (_dir, home) = home();
    home.change(&[dealt(1), Change::Ban(NodeId([2; 32]), Banned::ForGood, 0), pin(3)]).unwrap();
    let book = Home::open(home.path.clone()).unwrap().book().unwrap().book;
    assert!(!book.is_known(NodeId([1; 32])) && !book.is_known(NodeId([2; 32])));
    assert!(book.is_known(NodeId([3; 32])) && book.is_banned(NodeId([2; 32]), 9));
    home.change(&[Change::ForgetPeer(NodeId([2; 32])), Change::ForgetPeer(NodeId([1; 32]))]).unwrap();
    let book = home.book().unwrap().book;
    assert!(book.records.is_empty() && book.pins.len() == 1);
}

#[test]
fn two_that_change_one_home_at_once_lose_nothing() {
    let (_dir, home) = home();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let own = Home::open(home.path.clone()).unwrap();
            scope.spawn(move || {
                for m in 0..8 {
                    own.change(&[dealt(7), pin(n * 8 + m), dealt(100 + n * 8 + m)]).unwrap();
                    own.add_share(&share(&format!("/srv/{n}/{m}"), n * 8 + m)).unwrap();
                    assert!(own.book().is_ok() && own.shares().is_ok(), "no reader sees half a file");
                }
            });
        }
    });
    let book = home.book().unwrap().book;
    assert_eq!((book.pins.len(), book.records.len()), (32, 33));
    assert_eq!(book.record(NodeId([7; 32])).unwrap().taken_bytes, 32);
    assert_eq!(home.shares().unwrap().len(), 32);
}

#[test]
fn damaged_records_are_an_error_and_stay_as_they_are() {
    let (_dir, home) = home();
    home.change(&[dealt(1)]).unwrap();
    let path = home.path.join(RECORDS);
    let good = fs::read_to_string(&path).unwrap();
    let id = "0a".repeat(32);
    for damaged in [
        &good[..good.len() - 8],
        "\0\0\0",
        "pins = 3",
        "[cafe]\nseen = 1\n",
        &good.replace("seen", "sin"),
        &format!("[{id}]\nseen = -1\n"),
        &format!("[{id}]\nseen = 1\nbanned_until = 5\nbanned_for_good = true\n"),
        &format!("[{id}]\nseen = 1\n[{}]\nseen = 2\n", id.to_uppercase()),
    ] {
        fs::write(&path, damaged).unwrap();
        let error = home.book().unwrap_err();
        assert!(error.to_string().contains("records.toml` is damaged"), "{damaged:?}: {error}");
        assert!(home.change(&[pin(2)]).is_err() && home.change(&[dealt(2)]).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
    assert!(!home.path.join(BOOK).exists(), "of a change that fails nothing is noted");
}

#[test]
fn records_that_another_changed_are_read_again() {
    let (_dir, home) = home();
    let taken = |home: &Home| home.book().unwrap().book.records.values().map(|r| r.taken_bytes).sum::<u64>();
    home.change(&[dealt(1)]).unwrap();
    assert_eq!((taken(&home), taken(&home)), (1, 1));
    let path = home.path.join(RECORDS);
    let edited = fs::read_to_string(&path).unwrap().replace("taken_bytes = 1", "taken_bytes = 7");
    fs::write(&path, edited).unwrap();
    assert_eq!((taken(&home), taken(&home)), (7, 7));
    Home::open(home.path.clone()).unwrap().change(&[dealt(1)]).unwrap();
    assert_eq!(taken(&home), 8);
    fs::remove_file(&path).unwrap();
    assert_eq!(taken(&home), 0);
}

#[test]
fn records_and_shares_that_others_can_change_are_refused() {
    let (_dir, home) = home();
    home.change(&[dealt(1)]).unwrap();
    home.add_share(&share("/srv/a", 1)).unwrap();
    for name in [RECORDS, "shares.toml"] {
        let path = home.path.join(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    }
    for error in [home.book().unwrap_err(), home.shares().unwrap_err()] {
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
    assert!(home.add_share(&share("/srv/b", 2)).is_err());
}

fn share(path: &str, number: u8) -> Shared {
    Shared {
        path: path.into(),
        file_hash: FileHash([number; 32]),
        root: Root([number; 32]),
        size: u64::from(number),
        is_directory: number % 2 == 1,
        known_only: number % 3 == 1,
    }
}

#[test]
fn what_was_shared_is_shared_after_a_restart_in_the_same_order() {
    let (_dir, home) = home();
    assert!(home.shares().unwrap().is_empty());
    let mut shares = vec![share("/srv/b", 1), share("/srv/a \"\\\n'", 2), share("/srv/c", 3)];
    shares[2].size = u64::MAX;
    for shared in &shares {
        home.add_share(shared).unwrap();
    }
    assert_eq!(Home::open(home.path.clone()).unwrap().shares().unwrap(), shares);
    shares[1].file_hash = FileHash([9; 32]);
    home.add_share(&shares[1]).unwrap();
    assert_eq!(home.shares().unwrap(), shares, "what is at a path now replaces what was");
}

#[test]
fn a_share_ends_by_its_content_wherever_it_lies() {
    let (_dir, home) = home();
    for (path, number) in [("/srv/a", 1), ("/srv/b", 2), ("/srv/copy of a", 1)] {
        home.add_share(&share(path, number)).unwrap();
    }
    assert!(home.remove_share(&FileHash([1; 32])).unwrap());
    assert_eq!(home.shares().unwrap(), [share("/srv/b", 2)]);
    assert!(!home.remove_share(&FileHash([1; 32])).unwrap());
}

#[test]
fn the_same_content_at_another_path_takes_the_place_of_the_former() {
    let (_dir, home) = home();
    let open = Shared { known_only: false, ..share("/srv/a", 1) };
    let known = Shared { known_only: true, ..share("/srv/copy of a", 1) };
    for shared in [&known, &open, &known] {
        home.add_share(shared).unwrap();
        assert_eq!(
            home.shares().unwrap(),
            std::slice::from_ref(shared),
            "whoever shared it last says who may have it"
        );
    }
}

#[test]
fn a_path_that_is_not_text_is_found_again() {
    let (_dir, home) = home();
    let bytes = b"/srv/caf\xe9 \xff\n".to_vec();
    let shared = Shared { path: OsString::from_vec(bytes).into(), ..share("", 1) };
    home.add_share(&shared).unwrap();
    home.add_share(&share("/srv/caf\u{fffd} \u{fffd}\n", 2)).unwrap();
    home.add_share(&shared).unwrap();
    assert_eq!(home.shares().unwrap(), [shared, share("/srv/caf\u{fffd} \u{fffd}\n", 2)]);
}

#[test]
fn a_relative_path_is_not_shared() {
    let (_dir, home) = home();
    let error = home.add_share(&share("srv/a", 1)).unwrap_err();
    assert!(error.to_string().contains("not an absolute path"), "{error}");
    assert!(home.shares().unwrap().is_empty());
}

#[test]
fn a_share_too_many_is_refused_and_one_that_is_there_is_not() {
    let (_dir, home) = home();
    let (hash, known) = ("0a".repeat(32), "is_directory = false\nknown_only = false");
    let text: String = (0..10_000)
        .map(|n| {
            format!(
                "[[share]]\npath = \"/{n}\"\nfile_hash = \"{hash}\"\nroot = \"{hash}\"\nsize = 1\n{known}\n"
            )
        })
        .collect();
    fs::write(home.path.join("shares.toml"), text).unwrap();
    let error = home.add_share(&share("/srv/a", 1)).unwrap_err();
    assert!(error.to_string().contains("10000 files and directories are shared already"), "{error}");
    home.add_share(&share("/9999", 1)).unwrap();
    assert_eq!(home.shares().unwrap().last(), Some(&share("/9999", 1)));
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let (_dir, home) = home();
    let name = "shares.toml";
    home.add_share(&share("/srv/a", 1)).unwrap();
    let before = fs::read_to_string(home.path.join(name)).unwrap();
    let long = format!("/{}", "\u{1}".repeat(4 << 20));
    let error = home.add_share(&share(&long, 2)).unwrap_err();
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!(fs::read_to_string(home.path.join(name)).unwrap(), before);
}

#[test]
fn damaged_shares_are_an_error_and_stay_as_they_are() {
    let (_dir, home) = home();
    home.add_share(&share("/srv/a", 1)).unwrap();
    let path = home.path.join("shares.toml");
    let good = fs::read_to_string(&path).unwrap();
    let twice = format!("{good}\n{}", good.replace("path = \"/srv/a\"", "path_hex = \"2f7372762f61\""));
    for damaged in [
        &good[..good.len() - 20],
        "\0\0\0",
        "shares = 3",
        &good.replace("path = ", "path_hex = "),
        &good.replace("path = \"/srv/a\"", ""),
        &good.replace("path = \"/srv/a\"", "path = \"/srv/a\"\npath_hex = \"2f\""),
        &good.replace("/srv", "srv"),
        &good.replace("known_only = true", ""),
        &twice,
    ] {
        assert_ne!(damaged, good);
        fs::write(&path, damaged).unwrap();
        let error = home.shares().unwrap_err();
        assert!(error.to_string().contains("shares.toml` is damaged"), "{damaged:?}: {error}");
        assert!(home.add_share(&share("/srv/b", 2)).is_err());
        assert!(home.remove_share(&FileHash([1; 32])).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}
