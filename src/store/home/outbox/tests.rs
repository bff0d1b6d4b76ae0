use std::os::unix::fs::PermissionsExt as _;

use super::*;

const BOB: NodeId = NodeId([0xb; 32]);
const MANY: usize = 100;

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    (dir, home)
}

fn key(number: u8) -> TextKey {
    TextKey(number.into())
}

fn text(number: u8) -> OutboxEntry {
    let what = OutboxItem::Text(format!("text {number}\n\u{202e}"));
    OutboxEntry { key: key(number), to: BOB, called: "bob".into(), said_at: 1000 - u64::from(number), what }
}

fn found(outbox: &Outbox) -> (Vec<OutboxEntry>, usize, Vec<String>) {
    match outbox.take_over(MANY).unwrap() {
        OutboxNews::Found { entries, elsewhere, damaged } => (entries, elsewhere, damaged),
        other @ OutboxNews::Kept { .. } => panic!("{other:?}"),
    }
}

#[test]
fn what_is_kept_is_there_for_the_next_process_in_the_order_in_which_it_was_said() {
    let (dir, home) = home();
    let outbox = Outbox::of(&home);
    assert_eq!(found(&outbox), (vec![], 0, vec![]));
    let path = dir.path().join(OsString::from_vec(b"not \xff text".to_vec()));
    fs::write(&path, "x").unwrap();
    let what = OutboxItem::File { path, name: SafeName::new("a name").unwrap() };
    let file = OutboxEntry { what, said_at: 1, ..text(9) };
    let kept: Vec<_> = [text(1), text(2), file].map(|entry| outbox.keep(entry).unwrap()).into();
    drop(outbox);
    let next = Outbox::of(&home);
    let expected = vec![kept[2].clone(), kept[1].clone(), kept[0].clone()];
    assert_eq!(found(&next), (expected, 0, vec![]));
    assert_eq!(found(&next), (vec![], 0, vec![]), "it is held already");
    next.remove(key(1)).unwrap();
    next.remove(key(1)).unwrap();
    drop(next);
    assert_eq!(found(&Outbox::of(&home)).0.len(), 2);
}

#[test]
fn of_two_processes_one_holds_and_lets_go_when_it_ends() {
    let (_dir, home) = home();
    let (one, other) = (Outbox::of(&home), Outbox::of(&home));
    one.keep(text(1)).unwrap();
    assert_eq!(found(&other), (vec![], 1, vec![]));
    one.remove(key(1)).unwrap();
    assert_eq!(found(&other), (vec![], 0, vec![]));
    one.keep(text(2)).unwrap();
    drop(one);
    assert_eq!(found(&other).0, [text(2)]);
}

#[test]
fn no_more_is_held_than_can_be() {
    let (_dir, home) = home();
    let outbox = Outbox::of(&home);
    (0..5).for_each(|number| _ = outbox.keep(text(number)).unwrap());
    drop(outbox);
    let next = Outbox::of(&home);
    let OutboxNews::Found { entries, .. } = next.take_over(3).unwrap() else { panic!() };
    assert_eq!(entries.len(), 3);
    next.remove(entries[0].key).unwrap();
    let OutboxNews::Found { entries, .. } = next.take_over(3).unwrap() else { panic!() };
    assert_eq!(entries.len(), 1);
}

#[test]
fn what_is_damaged_is_put_aside_told_once_and_keeps_nothing_else_back() {
    let (dir, home) = home();
    Outbox::of(&home).keep(text(1)).unwrap();
    let place = dir.path().join("home").join(OUTBOX);
    let write = |number: u8, content: &str| fs::write(place.join(key(number).to_string()), content).unwrap();
    let good = fs::read_to_string(place.join(key(1).to_string())).unwrap();
    write(2, "rubbish");
    write(3, &good.replace("\"version\":1", "\"version\":2"));
    write(4, &good.replace("\"text\"", "\"texts\""));
    write(
        5,
        &format!(r#"{{"version":1,"to":"{BOB}","called":"b","said_at":1,"file":{{"path":"a","name":"a"}}}}"#),
    );
    write(
        6,
        &format!(
            r#"{{"version":1,"to":"{BOB}","called":"b","said_at":1,"file":{{"path":"/a","name":"../a"}}}}"#
        ),
    );
    write(7, &good[..good.len() / 2]);
    for number in 2..8 {
        let path = place.join(key(number).to_string());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (entries, _, damaged) = found(&Outbox::of(&home));
    assert_eq!((entries, damaged.len()), (vec![text(1)], 6), "{damaged:?}");
    assert!(damaged.iter().all(|text| text.contains("put aside as")), "{damaged:?}");
    assert_eq!(found(&Outbox::of(&home)).2, Vec::<String>::new());
    let aside = fs::read_dir(&place)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(DAMAGED));
    assert_eq!(aside.count(), 6, "nothing is lost");
}

#[test]
fn what_was_not_finished_when_its_process_was_killed_is_no_entry() {
    let (dir, home) = home();
    Outbox::of(&home).keep(text(1)).unwrap();
    let place = dir.path().join("home").join(OUTBOX);
    let half = place.join(format!("{FRESH}{}", key(2)));
    fs::write(&half, "{\"ver").unwrap();
    assert_eq!(found(&Outbox::of(&home)), (vec![text(1)], 0, vec![]));
    assert!(!half.exists());
}

#[test]
fn what_others_could_have_written_is_not_sent() {
    let (dir, home) = home();
    Outbox::of(&home).keep(text(1)).unwrap();
    let place = dir.path().join("home").join(OUTBOX);
    let entry = place.join(key(1).to_string());
    assert_eq!(fs::metadata(&entry).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&entry, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(found(&Outbox::of(&home)).2[0].contains("can be changed by others"));
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(Outbox::of(&home).take_over(MANY).unwrap_err().to_string().contains("chmod go-w"));
}

#[test]
fn a_file_that_cannot_be_sent_is_not_kept() {
    let (dir, home) = home();
    let outbox = Outbox::of(&home);
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (path, why) in [(dir.path().join("nothing"), "check the path"), (fifo, "no file and no directory")] {
        let what = OutboxItem::File { path, name: SafeName::new("a").unwrap() };
        let failure = outbox.keep(OutboxEntry { what, ..text(1) }).unwrap_err();
        assert_eq!(failure.code, Code::SourceUnreadable);
        assert!(failure.message.contains(why), "{failure}");
    }
    assert_eq!(found(&Outbox::of(&home)), (vec![], 0, vec![]));
    let what = OutboxItem::File { path: "Cargo.toml".into(), name: SafeName::new("a").unwrap() };
    let kept = outbox.keep(OutboxEntry { what, ..text(2) }).unwrap();
    assert!(matches!(kept.what, OutboxItem::File { path, .. } if path.is_absolute() && path.exists()));
}
