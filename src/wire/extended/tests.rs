use proptest::prelude::*;

use super::*;
use crate::wire::{CHUNK_SIZE, ChunkDigest, FrameDecoder, ManifestBuilder};

const HELLO: &str = r#"{"type":"HELLO","payload":{"version":1,"agent":"t","instance":"000102030405060708090a0b0c0d0e0f","listen_port":0}}"#;

/// What comes of a stream that was cut into parts of so many bytes.
fn decode(stream: &[u8], cut: usize) -> Vec<Result<Message, BadLine>> {
    let mut decoder = FrameDecoder::plaintext();
    let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
    for part in stream.chunks(cut.max(1)) {
        buffer.extend_from_slice(part);
        while let Some(message) = decoder.decode(&mut buffer).unwrap() {
            messages.push(message);
        }
    }
    messages
}

/// The same behind a `HELLO`, without it.
fn after_hello(stream: &[u8], cut: usize) -> Vec<Result<Message, BadLine>> {
    let stream = [HELLO.as_bytes(), b"\n", stream].concat();
    decode(&stream, cut).split_off(1)
}

fn encoded(messages: &[Message]) -> BytesMut {
    let mut out = BytesMut::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

fn head_of(content: &[u8]) -> (ManifestHead, Bytes) {
    let mut builder = ManifestBuilder::new(content.len() as u64).unwrap();
    let (mut page, mut hash) = (BytesMut::new(), State::INITIAL.finish(&[], 0));
    for chunk in content.chunks(CHUNK_SIZE as usize) {
        let mut digest = ChunkDigest::new(builder.state());
        digest.update(chunk);
        let digested = digest.finish();
        hash = digested.file_hash(content.len() as u64);
        page.put_slice(&digested.entry().to_bytes());
        let _: Option<crate::wire::Page> = builder.push(digested.entry()).unwrap();
    }
    (builder.finish(hash).unwrap(), page.freeze())
}

fn data(length: usize, entry: Option<Entry>) -> Message {
    let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
    Message::Data { id: OfferId(7), index: 3, data: ChunkData(bytes.into()), entry }
}

fn every_message() -> Vec<Message> {
    let (head, page) = head_of(&vec![5; CHUNK_SIZE as usize + 3]);
    let head = Arc::new(head);
    let (id, state) = (OfferId(7), State([9; 32]));
    let name = SafeName::new("a \"b\".txt").unwrap();
    let reason = Reason::new("no_space", "full, \"sorry\"");
    let entry = Entry { hash: ChunkHash([1; 32]), state };
    let size = u64::from(CHUNK_SIZE) + 3;
    vec![
        Message::Offer(ContentOffer {
            id,
            answers: None,
            is_partial: false,
            is_known_only: false,
            name: name.clone(),
            size,
            tree: None,
            head: None,
            page: Bytes::new(),
        }),
        Message::Offer(ContentOffer {
            id,
            answers: Some(AskId(3)),
            is_partial: true,
            is_known_only: true,
            name,
            size,
            tree: None,
            head: Some(head.clone()),
            page: page.clone(),
        }),
        Message::Accept { id, kept: None, wants_list: false },
        Message::Accept { id, kept: Some(Prefix { chunks: 2, state }), wants_list: true },
        Message::Refuse { id, reason: reason.clone() },
        Message::Withdraw { id, reason },
        Message::Pull { id, first: 1, count: 2 },
        Message::Unpull { id, first: 1, count: 1 },
        Message::Ask { id: AskId(3), proof: AskProof([4; 32]) },
        Message::Lack { id: AskId(3), code: "unknown".into() },
        Message::Have { id, chunks: vec![(0, 1), (5, 2)] },
        Message::Peers {
            id,
            peers: vec![
                PeerAddr { addr: "192.0.2.1:8000".parse().unwrap(), node_id: Some(NodeId([6; 32])) },
                PeerAddr { addr: "[2001:db8::1]:8000".parse().unwrap(), node_id: None },
            ],
        },
        Message::PullPage { id, page: 0 },
        Message::Page { id, page: 0, entries: page },
        data(10, None),
        data(CHUNK_SIZE as usize, Some(entry)),
        Message::Resumed { id, chunk: 2 },
        Message::Seal { id, head },
        Message::Done(id),
        Message::NumberedText { id: 4, text: "hey\n".into(), key: None },
        Message::NumberedText { id: 5, text: "hey".into(), key: Some(TextKey(0xab)) },
        Message::TextAck(4),
        Message::Ping(1),
        Message::Pong(1),
        Message::Bye,
    ]
}

#[test]
fn every_message_arrives_as_it_was_sent_however_it_was_cut() {
    let messages = every_message();
    let stream = encoded(&messages);
    for cut in [1000, 4096, usize::MAX] {
        let arrived: Vec<_> = after_hello(&stream, cut).into_iter().map(Result::unwrap).collect();
        assert_eq!(arrived, messages);
    }
    for message in messages {
        let stream = encoded(std::slice::from_ref(&message));
        if stream.len() < 2000 {
            assert_eq!(after_hello(&stream, 1), [Ok(message)]);
        }
    }
}

#[test]
fn messages_look_as_the_protocol_says() {
    for (message, line) in [
        (
            Message::Pull { id: OfferId(7), first: 1, count: 2 },
            r#"{"type":"PULL","payload":{"id":7,"chunk":1,"count":2}}"#,
        ),
        (Message::Done(OfferId(7)), r#"{"type":"DONE","payload":{"id":7}}"#),
        (Message::Resumed { id: OfferId(7), chunk: 0 }, r#"{"type":"RESUMED","payload":{"id":7,"chunk":0}}"#),
        (
            Message::NumberedText { id: 4, text: "hi".into(), key: None },
            r#"{"type":"TEXT","payload":{"id":4,"text":"hi"}}"#,
        ),
        (
            Message::NumberedText { id: 4, text: "hi".into(), key: Some(TextKey(0xab)) },
            r#"{"type":"TEXT","payload":{"id":4,"text":"hi","key":"000000000000000000000000000000ab"}}"#,
        ),
        (
            Message::Refuse { id: OfferId(7), reason: Reason::new("declined", "no") },
            r#"{"type":"REFUSE","payload":{"id":7,"code":"declined","message":"no"}}"#,
        ),
        (Message::Ping(9), r#"{"type":"PING","payload":{"id":9}}"#),
    ] {
        assert_eq!(std::str::from_utf8(&encoded(&[message])).unwrap(), format!("{line}\n"));
    }
    let chunk = encoded(&[data(2, None)]);
    let line = "{\"type\":\"DATA\",\"payload\":{\"id\":7,\"chunk\":3,\"length\":2,\"offset\":0},\"size\":2}\n\0\u{1}";
    assert_eq!(&chunk[..], line.as_bytes());
}

#[test]
fn an_offer_whose_list_is_not_the_one_of_its_root_is_refused_by_its_number() {
    let (head, page) = head_of(b"content");
    let name = SafeName::new("a").unwrap();
    let offer = ContentOffer {
        id: OfferId(7),
        answers: None,
        is_partial: false,
        is_known_only: false,
        name,
        size: 7,
        tree: None,
        head: Some(Arc::new(head)),
        page,
    };
    let line = encoded(&[Message::Offer(offer)]);
    let refused = |line: &[u8]| match after_hello(line, 100).as_slice() {
        [Err(BadLine::ContentOffer { id: OfferId(7), error })] => error.clone(),
        other => panic!("not refused: {other:?}"),
    };
    let text = String::from_utf8_lossy(&line[..line.iter().position(|b| *b == b'\n').unwrap()]).into_owned();
    let body = &line[text.len() + 1..];
    let with = |text: &str, body: &[u8]| [text.as_bytes(), b"\n", body].concat();
    let mut wrong = body.to_vec();
    wrong[0] ^= 1;
    assert!(matches!(refused(&with(&text, &wrong)), OfferError::Manifest(_)));
    assert!(matches!(
        refused(&with(&text.replace("\"size\":7", "\"size\":8"), body)),
        OfferError::Manifest(_)
    ));
    assert!(matches!(refused(&with(&text.replace("\"a\"", "\"a/b\""), body)), OfferError::Name(_)));
    assert!(matches!(refused(&with(&text.replace("\"root\"", "\"toor\""), body)), OfferError::Malformed(_)));
}

#[test]
fn a_hello_that_comes_later_lets_nothing_follow_a_line() {
    let stream = format!(
        "{{\"type\":\"TEXT\",\"payload\":\"a\"}}\n{HELLO}\n{{\"type\":\"TEXT\",\"payload\":\"b\",\"size\":4}}\n{{\"type\":\"TEXT\",\"payload\":\"c\"}}\n"
    );
    let texts: Vec<_> = decode(stream.as_bytes(), 50)
        .into_iter()
        .filter_map(|message| if let Ok(Message::Text(text)) = message { Some(text) } else { None })
        .collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

/// A piece of a chunk as it travels.
fn piece(chunk: u32, length: u32, offset: u32, bytes: &[u8]) -> Vec<u8> {
    let mut line = format!(
        "{{\"type\":\"DATA\",\"payload\":{{\"id\":7,\"chunk\":{chunk},\"length\":{length},\"offset\":{offset}}},\"size\":{}}}\n",
        bytes.len()
    )
    .into_bytes();
    line.extend_from_slice(bytes);
    line
}

#[test]
fn pieces_that_do_not_follow_each_other_make_no_chunk() {
    let good = |bytes: &'static [u8]| Message::Data {
        id: OfferId(7),
        index: 1,
        data: ChunkData(Bytes::from_static(bytes)),
        entry: None,
    };
    let whole = || piece(1, 4, 0, b"good");
    for (faults, stream) in [
        (1, piece(1, 4, 2, b"od")),
        (1, [piece(1, 4, 0, b"go"), piece(1, 4, 3, b"d")].concat()),
        (1, [piece(1, 4, 0, b"go"), piece(2, 4, 2, b"od")].concat()),
        (1, [piece(1, 4, 0, b"go"), piece(1, 5, 2, b"od")].concat()),
        (1, piece(1, 4, 0, b"goods")),
        (1, piece(1, CHUNK_SIZE + 1, 0, b"g")),
        (1, piece(1, 4, u32::MAX, b"good")),
        (1, piece(1, 4, 0, b"")),
        (0, piece(1, 4, 0, b"ba")),
    ] {
        let arrived = after_hello(&[stream, whole()].concat(), 7);
        let (last, before) = arrived.split_last().unwrap();
        assert_eq!(last, &Ok(good(b"good")), "what is whole arrives after what was not");
        assert_eq!(before.len(), faults, "{before:?}");
        assert!(before.iter().all(|fault| matches!(fault, Err(BadLine::Payload { kind: "DATA", .. }))));
    }
}

proptest! {
    #[test]
    fn a_chunk_in_pieces_is_the_chunk(length in 1_usize..5000, limit in 1_usize..6000, cut in 1_usize..3000) {
        let entry = Entry { hash: ChunkHash([1; 32]), state: State([2; 32]) };
        let chunk = data(length, Some(entry));
        let (mut stream, mut offset) = (BytesMut::new(), 0);
        while let Some(bytes) = chunk.encode_frame(offset, limit, &mut stream) {
            stream.put_slice(&bytes);
            offset += bytes.len();
            // What has no content may come between.
            Message::Ping(1).encode(&mut stream);
        }
        let arrived: Vec<_> = after_hello(&stream, cut).into_iter().filter(|m| *m != Ok(Message::Ping(1))).collect();
        prop_assert_eq!(arrived, [Ok(chunk)]);
    }

    #[test]
    fn no_payload_is_taken_for_more_than_it_is(
        kind in "OFFER|ACCEPT|REFUSE|WITHDRAW|PULL|PULL_PAGE|PAGE|DATA|RESUMED|SEAL|DONE|TEXT|TEXT_ACK|PING|BYE",
        payload in prop_oneof![
            r#"\{"id":(-[1-9]|[1-9])[0-9]{0,20},"chunk":[1-9][0-9]{0,12},"size":[1-9][0-9]{0,20}\}"#,
            r#"\{"id":7,"page":[1-9][0-9]{0,12},"length":[1-9],"offset":[0-9]\}"#,
            r"\[[0-9](,[0-9]){0,5}\]",
            Just("null".to_owned()),
        ],
        body in any::<Vec<u8>>(),
    ) {
        let mut stream = format!("{{\"type\":\"{kind}\",\"payload\":{payload},\"size\":{}}}\n", body.len()).into_bytes();
        stream.extend_from_slice(&body);
        stream.extend_from_slice(&encoded(&[Message::Ping(1)]));
        let arrived = after_hello(&stream, 64);
        prop_assert_eq!(arrived.last(), Some(&Ok(Message::Ping(1))));
    }
}
