use super::*;
use crate::engine::TransferId;
use crate::ui::tui::scene::{BOB, CAROL, STRANGER, Scene, addr, id};
use ratatui::crossterm::event::{KeyCode, KeyModifiers};

fn lines(effect: Effect) -> Vec<String> {
    match effect {
        Effect::Lines(lines, _) => lines,
        other => panic!("{other:?}"),
    }
}

fn shown(scene: &Scene) -> Vec<String> {
    scene.model.tabs.current().rows(200, 100).0.iter().map(ToString::to_string).collect()
}

#[test]
fn in_the_first_tab_a_line_is_a_command_and_in_that_of_a_peer_a_message() {
    let mut scene = Scene::busy(Style::PLAIN);
    assert_eq!(lines(scene.enter("send bob hello")), ["send bob hello"]);
    assert_eq!(shown(&scene).last().unwrap(), "<you → bob> hello");
    assert_eq!(lines(scene.enter("/peers")), ["peers"]);
    scene.press(KeyCode::BackTab);
    assert_eq!(
        shown(&scene).last().unwrap(),
        "<you> hello",
        "what was said is in the tab of whom it was said to"
    );
    assert_eq!(lines(scene.enter("peers")), [format!("send {} peers", addr(BOB))]);
    assert_eq!(shown(&scene).last().unwrap(), "<you> peers");
    assert_eq!(lines(scene.enter("/peers")), ["peers"]);
    let shown = shown(&scene);
    assert_eq!(shown[shown.len() - 2], "> peers");
    assert!(shown.last().unwrap().starts_with("no peer is connected"), "an answer stands where it was asked");
    assert_eq!(scene.enter("  "), Effect::Nothing);
}

#[test]
fn who_is_away_is_named_by_identity() {
    let mut scene = Scene::busy(Style::PLAIN);
    scene.press(KeyCode::BackTab);
    scene.event(&Event::PeerDisconnected { peer: addr(BOB), reason: "x".into(), is_waited_for: true });
    assert_eq!(lines(scene.enter("hello")), [format!("send {} hello", id(BOB))]);
}

#[test]
fn a_question_mark_asks_for_help_only_where_no_line_has_begun() {
    let mut scene = Scene::new(Style::PLAIN);
    scene.keys("?");
    assert!(scene.model.help.is_some());
    scene.keys("x");
    assert!(scene.model.help.is_none() && scene.model.line.is_empty(), "the key only closes it");
    scene.keys("how?");
    assert!(scene.model.help.is_none());
    assert_eq!(scene.model.line.text(), "how?");
}

#[test]
fn a_pop_up_is_answered_by_its_keys_and_never_by_typing() {
    let mut scene = Scene::busy(Style::PLAIN);
    scene.offer(2, STRANGER, "report.pdf");
    assert_eq!(scene.control('y'), Effect::Nothing, "not in the first moment");
    scene.wait();
    scene.keys("yes, no");
    assert_eq!(scene.model.line.text(), "yes, no");
    assert_eq!(lines(scene.control('y')), ["accept 2"]);
    assert_eq!(scene.model.line.text(), "yes, no", "the line stays");
    scene.offer(3, STRANGER, "other.pdf");
    scene.wait();
    scene.press(KeyCode::Esc);
    assert_eq!(scene.control('x'), Effect::Nothing, "what is not seen is not answered");
    scene.control('o');
    scene.wait();
    assert_eq!(lines(scene.control('x')), ["reject 3"]);
    assert_eq!(scene.model.popups.waiting(), 0);
}

#[test]
fn a_stranger_at_a_new_address_can_be_sent_away() {
    let mut scene = Scene::new(Style::PLAIN);
    let dialled: crate::engine::HostPort = "bob.example:8000".parse().unwrap();
    scene.event(&Event::FirstContact { peer: addr(BOB), dialled, node_id: id(BOB) });
    scene.wait();
    let wanted = [format!("disconnect {}", addr(BOB)), "forget bob.example:8000".to_owned()];
    assert_eq!(lines(scene.control('x')), wanted);
}

#[test]
fn an_offer_that_was_answered_in_words_is_not_asked_about() {
    let mut scene = Scene::busy(Style::PLAIN);
    scene.offer(2, STRANGER, "report.pdf");
    let asked = Asked { line: 1, name: "accept", command: Command::Whoami };
    scene.model.answered(scene.now, &asked, &Ok(Reply::Accepted(vec![TransferId(2)])));
    assert_eq!(scene.model.popups.waiting(), 0);
}

#[test]
fn commands_are_completed_wherever_they_may_stand() {
    let mut scene = Scene::busy(Style::COLOURED);
    scene.keys("sendf");
    assert_eq!(scene.press(KeyCode::Tab), Effect::Complete("sendf".into()));
    scene.model.completed("sendf", Completed::Insert(0, "sendfile ".into()));
    assert_eq!(scene.model.line.text(), "sendfile ");
    scene.keys("x");
    scene.model.completed("sendf", Completed::Insert(0, "late".into()));
    assert_eq!(scene.model.line.text(), "sendfile x", "what comes too late changes nothing");
    scene.control('u');
    scene.keys("who");
    scene.press(KeyCode::Right);
    assert_eq!(scene.model.line.text(), "whoami", "the arrow takes what stands faintly behind the line");

    scene.control('u');
    scene.key(KeyCode::Char('2'), KeyModifiers::ALT);
    scene.keys("pee");
    assert_eq!(scene.press(KeyCode::Tab), Effect::Nothing, "a message is not completed");
    scene.control('u');
    scene.keys("/pee");
    assert_eq!(scene.press(KeyCode::Tab), Effect::Complete("pee".into()));
    scene.model.completed("pee", Completed::Insert(0, "peers".into()));
    assert_eq!(scene.model.line.text(), "/peers");
}

#[test]
fn what_is_kept_for_another_day_is_a_command() {
    let mut scene = Scene::busy(Style::PLAIN);
    scene.press(KeyCode::BackTab);
    let sent = format!("send {} hello", addr(BOB));
    assert_eq!(scene.enter("hello"), Effect::Lines(vec![sent.clone()], Some(sent)));
    assert!(
        matches!(scene.enter(" /quit"), Effect::Lines(_, None)),
        "a line that begins with a space is not"
    );
}

#[test]
fn two_thousand_messages_are_counted_and_kept_in_order() {
    let mut scene = Scene::busy(Style::PLAIN);
    (0..2000).for_each(|number| scene.message(CAROL, &format!("number {number}")));
    assert_eq!(scene.model.tabs.all()[2].unread, 2001);
    let shown = scene.model.tabs.current().rows(80, 2000).0;
    assert!((0..2000).all(|number| shown[number].to_string().ends_with(&format!("> number {number}"))));
}

#[test]
fn leaving_suspending_and_drawing_anew_are_for_whoever_drives() {
    let mut scene = Scene::new(Style::PLAIN);
    assert_eq!(scene.control('c'), Effect::Interrupt);
    assert_eq!(scene.control('z'), Effect::Suspend);
    assert_eq!(scene.control('l'), Effect::Redraw);
    scene.keys("x");
    scene.control('a');
    assert_eq!(scene.control('d'), Effect::Nothing, "there is something to delete");
    assert_eq!(scene.control('d'), Effect::End);
}
