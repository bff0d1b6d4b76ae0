//! Bytes that are no messages. The first line of garbage is reported and skipped, a second ends the
//! connection, and so does one that is too long; an honest peer notices nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::json;

use crate::support::files::{listing, noise};
use crate::support::{BaselinePeer, Content, TestNode, eventually};

/// A node with an honest peer in the middle of a transfer, who must never notice anything.
struct Scene {
    node: TestNode,
    honest: BaselinePeer,
    file: Content,
}

impl Scene {
    fn new() -> Self {
        let node = TestNode::start_plain();
        let honest = BaselinePeer::connect(node.addr());
        let file = Content::new("honest.bin", noise(300_000, 1));
        honest.send("FILE_OFFER", &file.offer());
        honest.hear_accept(&file);
        honest.send_chunk(0, file.chunk(0));
        honest.hear_ack(0, true);
        Self { node, honest, file }
    }

    /// The node ends the connection on which these bytes were sent, says once why, and goes on.
    fn assert_ends_connection(&self, what: &str, bytes: &[u8]) {
        let peer = BaselinePeer::connect(self.node.addr());
        peer.send_raw(bytes);
        peer.hear_the_end();
        self.node.wait_for_log(&[&peer.addr()]);
        self.node.assert_alive();
        assert!(self.honest.is_connected(), "the honest peer was dropped too, by {what}");
    }

    /// The transfer that began before all of it ends well.
    fn finish(self) {
        self.honest.send_chunk(1, self.file.chunk(1));
        self.honest.hear_complete(&self.file);
        self.node.wait_received("honest.bin");
        eventually("only the honest file is there", || listing(&self.node.downloads()) == ["honest.bin"]);
    }
}

#[test]
fn one_line_of_garbage_is_reported_and_skipped_and_the_second_ends_the_connection() {
    let scene = Scene::new();
    let peer = BaselinePeer::connect(scene.node.addr());
    peer.send_line("this is not json");
    peer.send_text("sorry, that was nothing");
    scene.node.wait_for(&json!({ "event": "message", "text": "sorry, that was nothing" }));
    scene.node.wait_for_log(&[&peer.addr()]);
    peer.send_line("neither is this");
    peer.hear_the_end();
    scene.node.wait_for_log(&[&peer.addr()]);
    scene.finish();
}

#[test]
fn two_lines_that_are_no_messages_end_the_connection() {
    let scene = Scene::new();
    // Twice as many lines in the log, which is less than a node says about one address in a minute.
    for (what, line) in [
        ("an empty line", &b""[..]),
        ("a number", b"1"),
        ("null", b"null"),
        ("an array", b"[]"),
        ("an object without a type", b"{}"),
        ("a type that is no string", br#"{"type":7,"payload":"x"}"#),
        ("half an object", br#"{"type":"TEXT","payload":"x""#),
        ("two objects", br#"{"type":"A"}{"type":"B"}"#),
        ("something behind the object", br#"{"type":"TEXT","payload":"x"} x"#),
        ("NaN", br#"{"type":"TEXT","payload":NaN}"#),
        ("invalid UTF-8", b"{\"type\":\"TEXT\",\"payload\":\"\xff\xfe\"}"),
        ("an overlong NUL", b"\xc0\x80"),
        ("UTF-16", b"\xff\xfe{\x00\"\x00t\x00y\x00p\x00e\x00\"\x00"),
    ] {
        scene.assert_ends_connection(what, &[line, b"\n", line, b"\n"].concat());
    }
    scene.finish();
}

#[test]
fn a_web_browser_is_shown_out() {
    let scene = Scene::new();
    scene.assert_ends_connection("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    scene.finish();
}

#[test]
fn a_line_of_1_mib_or_more_ends_the_connection_at_once() {
    let scene = Scene::new();
    let endless = vec![b'x'; 3 << 20];
    scene.assert_ends_connection("a line without an end", &endless);
    let message = json!({ "type": "TEXT", "payload": "x".repeat(1 << 20) }).to_string();
    scene.assert_ends_connection("a message of that length", format!("{message}\n").as_bytes());
    assert_eq!(scene.node.count(&json!({ "event": "message", "text": "x".repeat(1 << 20) })), 0);
    scene.finish();
}

#[test]
fn nesting_bombs_are_garbage() {
    let scene = Scene::new();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = 400_000 / (open.len() + close.len());
        let bomb = format!("{}1{}", open.repeat(deep), close.repeat(deep));
        scene.assert_ends_connection("a bomb", format!("{bomb}\n{bomb}\n").as_bytes());
        scene.assert_ends_connection("half a bomb", format!("{0}\n{0}\n", open.repeat(deep)).as_bytes());
        // In the payload of a type that nobody knows it may be ignored or count as garbage.
        let peer = BaselinePeer::connect(scene.node.addr());
        for kind in ["NEWS", "TEXT", "FILE_OFFER", "CHUNK", "HELLO"] {
            peer.send_line(&format!(r#"{{"type":"{kind}","payload":{bomb}}}"#));
        }
        scene.node.assert_alive();
    }
    scene.finish();
}

#[test]
fn absurd_numbers_do_no_harm() {
    let scene = Scene::new();
    let huge = "9".repeat(400);
    for number in ["1e999", "-1e999", "-1", "1.5", "18446744073709551616", "1E400", huge.as_str()] {
        let peer = BaselinePeer::connect(scene.node.addr());
        for line in [
            format!(r#"{{"type":"CHUNK","payload":{{"index":{number},"hash":"","data":"AA=="}}}}"#),
            format!(r#"{{"type":"CHUNK_ACK","payload":{{"index":{number},"ok":true}}}}"#),
            format!(r#"{{"type":"TEXT","payload":{number}}}"#),
            format!(r#"{{"type":"NEWS","payload":{number},"size":{number}}}"#),
            format!(
                r#"{{"type":"FILE_OFFER","payload":{{"file_name":"x","file_size":{number},"total_chunks":{number},"file_hash":"","chunk_hashes":[]}}}}"#
            ),
        ] {
            peer.send_line(&line);
        }
        scene.node.assert_alive();
    }
    scene.finish();
}

#[test]
fn noise_from_strangers_does_no_harm() {
    let scene = Scene::new();
    for seed in 0..8 {
        let mut stranger = TcpStream::connect(scene.node.addr()).unwrap();
        let _closed_on_us = stranger.write_all(&noise(100_000, seed));
        let _closed_on_us = stranger.shutdown(Shutdown::Write);
        // Until the node has ended the connection, however it does.
        let _reset = stranger.read_to_end(&mut Vec::new());
    }
    // The beginning of TLS: a node started without `--plain`.
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.extend(noise(501, 9));
    let mut stranger = TcpStream::connect(scene.node.addr()).unwrap();
    stranger.write_all(&hello).unwrap();
    stranger.shutdown(Shutdown::Write).unwrap();
    let _reset = stranger.read_to_end(&mut Vec::new());
    scene.node.assert_alive();
    scene.finish();
}

#[test]
fn a_half_line_at_the_end_of_a_connection_is_no_message() {
    let scene = Scene::new();
    let mut peer = TcpStream::connect(scene.node.addr()).unwrap();
    peer.write_all(b"{\"type\":\"TEXT\",\"payload\":\"whole\"}\n{\"type\":\"TEXT\",\"payload\":\"half\"}")
        .unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let _reset = peer.read_to_end(&mut Vec::new());
    scene.node.wait_for(&json!({ "event": "message", "text": "whole" }));
    scene.node.assert_alive();
    assert_eq!(scene.node.count(&json!({ "event": "message", "text": "half" })), 0);
    scene.finish();
}
