use proptest::prelude::*;

use super::*;
use crate::wire::MAX_LINE_BYTES;

fn encoded(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out
}

fn offer_line(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let hash = "ab".repeat(32);
    let mut offer = serde_json::json!({
        "file_name": "a.txt", "file_size": 3, "total_chunks": 1, "file_hash": hash, "chunk_hashes": [hash],
    });
    change(&mut offer);
    serde_json::to_vec(&serde_json::json!({"type": "FILE_OFFER", "payload": offer})).unwrap()
}

fn refusal(change: impl Fn(&mut serde_json::Value)) -> OfferError {
    match Message::decode(&offer_line(change)) {
        Err(BadLine::Offer(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn messages_look_exactly_as_the_original_program_writes_them() {
    let hash = FileHash([0xab; 32]);
    let digits = "ab".repeat(32);
    for (message, line) in [
        (Message::Text("hey \"you\"".into()), r#"{"type":"TEXT","payload":"hey \"you\""}"#.to_owned()),
        (Message::FileAccept(hash), format!(r#"{{"type":"FILE_ACCEPT","payload":"{digits}"}}"#)),
        (Message::Complete(hash), format!(r#"{{"type":"COMPLETE","payload":"{digits}"}}"#)),
        (
            Message::ChunkAck { index: 7, ok: false },
            r#"{"type":"CHUNK_ACK","payload":{"index":7,"ok":false}}"#.to_owned(),
        ),
        (
            Message::Chunk { index: 1, data: ChunkData(Bytes::from_static(b"line")) },
            r#"{"type":"CHUNK","payload":{"index":1,"hash":"","data":"bGluZQ=="}}"#.to_owned(),
        ),
        (
            Message::FileOffer(Offer {
                name: SafeName::new("a.txt").unwrap(),
                manifest: Manifest::new(3, hash, vec![ChunkHash(hash.0)]).unwrap(),
            }),
            format!(
                r#"{{"type":"FILE_OFFER","payload":{{"file_name":"a.txt","file_size":3,"total_chunks":1,"file_hash":"{digits}","chunk_hashes":["{digits}"]}}}}"#
            ),
        ),
    ] {
        assert_eq!(std::str::from_utf8(&encoded(&message)).unwrap(), format!("{line}\n"));
        assert_eq!(Message::decode(line.as_bytes()), Ok(message));
    }
}

#[test]
fn unknown_types_and_fields_are_ignored() {
    assert_eq!(
        Message::decode(br#"{"type": "NEWS", "payload": {"unknown": true}}"#),
        Ok(Message::Unknown("NEWS".into()))
    );
    assert_eq!(
        Message::decode(br#"{"new": [1], "payload": "hi", "type": "TEXT", "size": "large"}"#),
        Ok(Message::Text("hi".into()))
    );
}

#[test]
fn an_offer_that_contradicts_itself_is_refused_with_the_reason() {
    use serde_json::json;
    assert!(matches!(Message::decode(&offer_line(|_| ())), Ok(Message::FileOffer(_))));
    assert_eq!(
        refusal(|offer| offer["total_chunks"] = json!(2)),
        OfferError::ChunkCount { said: 2, implied: 1 }
    );
    assert_eq!(
        refusal(|offer| offer["chunk_hashes"] = json!([])),
        OfferError::HashCount { hashes: 0, chunks: 1 }
    );
    assert_eq!(refusal(|offer| offer["file_hash"] = json!("cd".repeat(32))), OfferError::HashesDisagree);
    assert_eq!(refusal(|offer| offer["file_size"] = json!(u64::MAX)), OfferError::Size(u64::MAX));
    assert_eq!(refusal(|offer| offer["file_name"] = json!("../a")), OfferError::Name(BadName::Separator));
    let empty = |offer: &mut serde_json::Value| {
        offer["file_size"] = json!(0);
        offer["total_chunks"] = json!(0);
        offer["chunk_hashes"] = json!([]);
    };
    assert_eq!(refusal(empty), OfferError::HashesDisagree);
    for malformed in [json!(-1), json!(1.5), json!(1e300), json!("3"), json!(null)] {
        assert!(matches!(refusal(|offer| offer["file_size"] = malformed.clone()), OfferError::Malformed(_)));
    }
    assert!(matches!(refusal(|offer| offer["file_hash"] = json!("ab")), OfferError::Malformed(_)));
    assert!(matches!(refusal(|offer| offer["chunk_hashes"][0] = json!("")), OfferError::Malformed(_)));
}

#[test]
fn what_a_peer_made_too_long_is_not_quoted_at_length() {
    let long = "x".repeat(900_000);
    for line in [
        format!(r#"{{"type":"CHUNK_ACK","payload":"{long}"}}"#),
        format!(r#"{{"type":"FILE_OFFER","payload":"{long}"}}"#),
        format!(r#"{{"type":"TEXT","{long}":1,"{long}":"#),
    ] {
        let error = Message::decode(line.as_bytes()).unwrap_err();
        assert!(error.to_string().len() < 300);
    }
}

#[test]
fn an_empty_list_may_be_null() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let line = format!(
        r#"{{"type":"FILE_OFFER","payload":{{"file_name":"a","file_size":0,"total_chunks":0,"file_hash":"{empty}","chunk_hashes":null}}}}"#
    );
    assert!(matches!(Message::decode(line.as_bytes()), Ok(Message::FileOffer(_))));
}

#[test]
fn how_far_a_line_was_understood_is_told() {
    let nested = format!(r#"{{"type":"TEXT","payload":{}}}"#, "[".repeat(500_000));
    for garbage in [
        "",
        "not json",
        "GET / HTTP/1.1\r",
        "[]",
        "null",
        "{}",
        r#"{"type":1}"#,
        r#"["TEXT", "hi", null]"#,
        "{\"type\":\"TEXT\",\"payload\":\"\u{1}\"}",
        nested.as_str(),
    ] {
        assert!(matches!(Message::decode(garbage.as_bytes()), Err(BadLine::NotAMessage(_))), "{garbage:.40}");
    }
    assert!(matches!(
        Message::decode(b"{\"type\":\"TEXT\",\"payload\":\"\xff\"}"),
        Err(BadLine::NotAMessage(_))
    ));
    let balanced = format!(r#"{{"type":"TEXT","payload":{}{}}}"#, "[".repeat(400_000), "]".repeat(400_000));
    for payload in [
        r#"{"type":"TEXT"}"#,
        r#"{"type":"TEXT","payload":7}"#,
        r#"{"type":"FILE_ACCEPT","payload":"ab"}"#,
        r#"{"type":"CHUNK","payload":{"index":-1,"data":""}}"#,
        r#"{"type":"CHUNK","payload":{"index":1e99,"data":""}}"#,
        r#"{"type":"CHUNK_ACK","payload":{"index":1,"index":2,"ok":true}}"#,
        balanced.as_str(),
    ] {
        assert!(matches!(Message::decode(payload.as_bytes()), Err(BadLine::Payload { .. })), "{payload:.60}");
    }
    for data in ["####", "bGluZQ", "bGluZQ=", "-_-_", " bGluZQ=="] {
        let line = format!(r#"{{"type":"CHUNK","payload":{{"index":3,"hash":"","data":"{data}"}}}}"#);
        assert_eq!(Message::decode(line.as_bytes()), Err(BadLine::Chunk { index: 3 }), "{data}");
    }
}

#[test]
fn the_largest_file_for_a_baseline_peer_fits_its_line() {
    let mut chunks = 0_u32;
    while Offer::size_fits_baseline(u64::from(chunks + 1) * u64::from(CHUNK_SIZE)) {
        chunks += 1;
    }
    assert!(chunks >= 14_800, "{chunks}");
    let largest = Message::FileOffer(Offer {
        name: SafeName::new(&"\"".repeat(255)).unwrap(),
        manifest: Manifest::new(
            u64::from(chunks) * u64::from(CHUNK_SIZE),
            FileHash([0; 32]),
            vec![ChunkHash([0; 32]); chunks as usize],
        )
        .unwrap(),
    });
    let line = encoded(&largest);
    assert!(line.len() < MAX_LINE_TO_BASELINE_BYTES && line.len() < MAX_LINE_BYTES);
    assert_eq!(Message::decode(&line), Ok(largest));
}

proptest! {
    #[test]
    fn chunks_survive_their_line(index in any::<u64>(), data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let message = Message::Chunk { index, data: ChunkData(data.into()) };
        prop_assert_eq!(Message::decode(&encoded(&message)), Ok(message));
    }

    #[test]
    fn texts_survive_their_line(text in any::<String>()) {
        let message = Message::Text(text);
        let line = encoded(&message);
        prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        prop_assert_eq!(Message::decode(&line), Ok(message));
    }

    #[test]
    fn no_line_makes_the_decoder_panic(line in any::<Vec<u8>>(), kind in "(TEXT|HELLO|CHUNK|CHUNK_ACK|FILE_OFFER)", payload in "[\\[\\]{}\":,0-9a-z]{0,40}") {
        let _ = Message::decode(&line);
        let _ = Message::decode(format!(r#"{{"type":"{kind}","payload":{payload}}}"#).as_bytes());
    }
}
