//! Two test peers over loopback: what the tests believe about the baseline protocol holds without
//! the program.

use std::thread;

use crate::support::files::{CHUNK, noise};
use crate::support::{BaselinePeer, Content, Gate};

fn pair() -> (BaselinePeer, BaselinePeer) {
    let listener = BaselinePeer::listen();
    let dialler = BaselinePeer::connect(&listener.addr());
    (dialler, listener.accept())
}

#[test]
fn files_and_texts_go_both_ways() {
    let (a, b) = pair();
    a.send_line(r#"{"type":"HELLO","payload":{"version":1}}"#);
    a.send_text("hello");
    assert_eq!(b.hear_next()["payload"], "hello");
    for (from, to, size) in [(&a, &b, CHUNK + 1), (&b, &a, 2 * CHUNK), (&a, &b, 1)] {
        let file = Content::new("ein Bär.txt", noise(size, 1));
        let arrived = thread::scope(|scope| {
            let receiving = scope.spawn(|| to.receive_file());
            from.send_file(&file);
            receiving.join().unwrap()
        });
        assert_eq!((arrived.name, arrived.bytes), (file.name, file.bytes));
    }
}

#[test]
fn the_end_of_a_connection_is_noticed() {
    let (a, b) = pair();
    a.hang_up();
    b.hear_the_end();
}

#[test]
fn a_gate_holds_back_what_is_past_its_limit_and_later_lets_it_through() {
    let listener = BaselinePeer::listen();
    let gate = Gate::before(&listener.addr(), 100);
    let (a, b) = (BaselinePeer::connect(gate.addr()), listener.accept());
    a.send_text("first");
    b.hear_text("first");
    a.send_text(&"x".repeat(100));
    gate.wait_until_held();
    b.send_text("the other way is open");
    a.hear_text("the other way is open");
    assert_eq!(b.count(&serde_json::json!({})), 1);
    gate.open();
    b.hear_text(&"x".repeat(100));
    a.hang_up();
    b.hear_the_end();
}
