use std::future::Future;

use super::*;
use crate::wire::{BadLine, CHUNK_SIZE};

const CONN: ConnId = ConnId(7);

struct Ends {
    connection: Connection,
    inputs: mpsc::Receiver<FromPeer>,
    tasks: TaskTracker,
    peer: tokio::io::DuplexStream,
}

/// A connection over a pipe that holds `pipe` bytes.
fn connected(pipe: usize) -> Ends {
    let (ours, peer) = tokio::io::duplex(pipe);
    connected_over(tokio::io::split(ours), peer)
}

fn connected_over<R, W>(halves: (R, W), peer: tokio::io::DuplexStream) -> Ends
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (inputs, queue) = mpsc::channel(4);
    let tasks = TaskTracker::new();
    let connection =
        Connection::spawn(CONN, halves, FrameDecoder::plaintext(), &inputs, &ReceiveBudget::new(), &tasks);
    tasks.close();
    Ends { connection, inputs: queue, tasks, peer }
}

fn chunk(index: u64) -> Message {
    Message::Chunk { index, data: ChunkData(vec![0; CHUNK_SIZE as usize].into()) }
}

fn encoded(messages: &[Message]) -> BytesMut {
    let mut out = BytesMut::new();
    for message in messages {
        message.encode(&mut out);
    }
    out
}

/// Whether a future has nothing to do until something else happens.
async fn is_stuck<F: Future>(future: F) -> bool {
    // The clock of a paused runtime moves only when every task waits.
    tokio::time::timeout(Duration::from_millis(1), future).await.is_err()
}

async fn next_message(inputs: &mut mpsc::Receiver<FromPeer>) -> Message {
    loop {
        match inputs.recv().await.unwrap().input {
            Input::Received { message, .. } => return message,
            Input::Written { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_however_the_stream_is_cut() {
    let Ends { mut inputs, mut peer, connection: _connection, .. } = connected(8);
    let sent = [Message::Text("one".into()), chunk(1), Message::Text("two".into())];
    let bytes = encoded(&sent);
    let sending = tokio::spawn(async move {
        peer.write_all(&bytes).await.unwrap();
        peer.write_all(b"garbage\n").await.unwrap();
        peer
    });
    for message in sent {
        assert_eq!(next_message(&mut inputs).await, message);
    }
    let bad = inputs.recv().await.unwrap().input;
    assert!(matches!(bad, Input::BadLine { error: BadLine::NotAMessage(_), .. }));
    drop(sending.await.unwrap());
    let closed = inputs.recv().await.unwrap().input;
    assert!(matches!(closed, Input::Closed { conn: CONN, closing: Closing::Eof }));
}

#[tokio::test(start_paused = true)]
async fn a_text_overtakes_the_chunks_queued_before_it() {
    let Ends { connection, mut inputs, mut peer, .. } = connected(64);
    for index in 0..8 {
        connection.send(chunk(index));
    }
    connection.send(Message::Text("urgent".into()));
    let writes = tokio::spawn(async move { while inputs.recv().await.is_some() {} });
    let mut decoder = FrameDecoder::plaintext();
    let mut buffer = BytesMut::new();
    let mut before = 0;
    loop {
        if let Some(frame) = decoder.decode(&mut buffer).unwrap() {
            match frame.unwrap() {
                Message::Text(_) => break,
                _ => before += 1,
            }
        } else {
            peer.read_buf(&mut buffer).await.unwrap();
        }
    }
    assert!(before <= 1, "{before} chunks went first");
    drop((connection, peer));
    writes.await.unwrap();
}

/// What a writer writes, in order, until a message of that lane has come so many times.
async fn written(ends: &mut Ends, lane: Lane, times: usize) -> Vec<Lane> {
    let mut decoder = FrameDecoder::plaintext();
    let (mut buffer, mut lanes) = (BytesMut::new(), Vec::new());
    while lanes.iter().filter(|came| **came == lane).count() < times {
        if let Some(frame) = decoder.decode(&mut buffer).unwrap() {
            lanes.push(frame.unwrap().lane());
        } else {
            tokio::select! {
                read = ends.peer.read_buf(&mut buffer) => assert!(read.unwrap() > 0),
                input = ends.inputs.recv() => assert!(matches!(input.unwrap().input, Input::Written { .. })),
            }
        }
    }
    lanes
}

/// Something of a circuit. One without a body, which nobody may have before `HELLO`.
fn of_a_circuit() -> Message {
    Message::Circuit { id: crate::wire::CircuitId(1), part: crate::wire::CircuitPart::More(1) }
}

#[tokio::test(start_paused = true)]
async fn a_text_overtakes_what_is_passed_on_for_others() {
    let mut ends = connected(64);
    for _ in 0..8 {
        ends.connection.send(of_a_circuit());
    }
    ends.connection.send(Message::Text("urgent".into()));
    let before = written(&mut ends, Lane::Control, 1).await.len() - 1;
    assert!(before <= 1, "{before} went first");
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_and_file_content_do_not_make_each_other_wait_to_the_end() {
    let mut ends = connected(64);
    let small = |index| Message::Chunk { index, data: ChunkData(vec![0; 9].into()) };
    for index in 0..64 {
        ends.connection.send(small(index));
        ends.connection.send(of_a_circuit());
    }
    // It is drawn which is first: that one is it sixty times is not to be expected.
    let lanes = written(&mut ends, Lane::Circuit, 60).await;
    let first = [Lane::Bulk, Lane::Circuit].map(|lane| lanes.iter().position(|came| *came == lane));
    assert!(first.iter().all(|first| first.is_some_and(|first| first < 60)), "{lanes:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_received_is_charged_until_its_last_byte_is_dropped() {
    let Ends { mut inputs, mut peer, connection: _connection, .. } = connected(1 << 20);
    let sending = tokio::spawn(async move {
        for index in 0..160 {
            peer.write_all(&encoded(&[chunk(index)])).await.unwrap();
        }
        peer
    });
    let mut held = Vec::new();
    while let Ok(input) = tokio::time::timeout(Duration::from_millis(1), inputs.recv()).await {
        held.push(input.unwrap());
    }
    let held_bytes = held.len() * CHUNK_SIZE as usize;
    assert!(held_bytes <= CONNECTION_BUDGET_BYTES, "{held_bytes} bytes were handed on");
    assert!(held.len() >= 8, "only {} chunks were handed on", held.len());
    let Input::Received { message: Message::Chunk { data, .. }, .. } = held.pop().unwrap().input else {
        panic!()
    };
    let slice = data.0.slice(5..6);
    drop((held, data));
    let mut rest = 0;
    while let Ok(input) = tokio::time::timeout(Duration::from_millis(1), inputs.recv()).await {
        drop(input);
        rest += 1;
    }
    assert!(rest >= 70, "the rest came once there was room: {rest}");
    drop(slice);
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_written_does_not_stay_in_a_stream_that_keeps_some() {
    // TLS over a socket that is full takes more than it can pass on, and keeps it until it is asked.
    let (ours, peer) = tokio::io::duplex(65536);
    let (read, write) = tokio::io::split(ours);
    let mut ends = connected_over((read, tokio::io::BufWriter::with_capacity(1 << 20, write)), peer);
    let sent = [Message::Text("one".into()), chunk(1)];
    for message in &sent {
        ends.connection.send(message.clone());
        let mut heard = encoded(std::slice::from_ref(message));
        assert!(!is_stuck(ends.peer.read_exact(&mut heard)).await, "it was never passed on");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_is_queued_and_tells_the_peer() {
    let Ends { connection, mut inputs, tasks, mut peer } = connected(1 << 16);
    connection.send(of_a_circuit());
    connection.send(Message::Text("last words".into()));
    connection.close();
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).await.unwrap();
    assert_eq!(&heard[..], &encoded(&[Message::Text("last words".into()), of_a_circuit()])[..]);
    drop(peer);
    while inputs.recv().await.is_some() {}
    tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_holds_a_closed_connection_for_two_seconds_only() {
    let Ends { connection, mut inputs, tasks, peer } = connected(16);
    connection.send(chunk(0));
    connection.send(Message::Text("x".into()));
    assert!(is_stuck(tasks.wait()).await);
    let begun = tokio::time::Instant::now();
    connection.close();
    while inputs.recv().await.is_some() {}
    tasks.wait().await;
    assert!(begun.elapsed() <= LINGER + Duration::from_millis(10));
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_more_is_not_waited_for_long() {
    let Ends { connection, mut inputs, tasks, peer } = connected(1 << 16);
    connection.send(Message::Text("last words".into()));
    let begun = tokio::time::Instant::now();
    connection.close();
    while inputs.recv().await.is_some() {}
    tasks.wait().await;
    assert!(begun.elapsed() < 2 * QUIET, "{:?}", begun.elapsed());
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_talking_is_read_for_two_seconds() {
    let Ends { connection, mut inputs, tasks, mut peer } = connected(1 << 16);
    let begun = tokio::time::Instant::now();
    connection.close();
    let talking = tokio::spawn(async move {
        while peer.write_all(b"and another thing\n").await.is_ok() {
            tokio::time::sleep(QUIET / 2).await;
        }
    });
    while inputs.recv().await.is_some() {}
    tasks.wait().await;
    assert!(begun.elapsed() >= LINGER, "{:?}", begun.elapsed());
    talking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_texts_stops_its_own_reader_until_they_are_shown() {
    let Ends { mut inputs, mut peer, connection: _connection, .. } = connected(1 << 16);
    let sending = tokio::spawn(async move {
        let batch = encoded(&vec![Message::Text("x".into()); 100]);
        for _ in 0..50 {
            peer.write_all(&batch).await.unwrap();
        }
        peer
    });
    let mut unshown = Vec::new();
    while let Ok(input) = tokio::time::timeout(Duration::from_millis(1), inputs.recv()).await {
        unshown.push(input.unwrap().charge);
    }
    assert!(
        (100..=CONNECTION_TEXT_BUDGET_BYTES / MIN_TEXT_CHARGE).contains(&unshown.len()),
        "{}",
        unshown.len()
    );
    let mut shown = unshown.len();
    drop(unshown);
    while let Ok(input) = tokio::time::timeout(Duration::from_millis(1), inputs.recv()).await {
        drop(input);
        shown += 1;
    }
    assert_eq!(shown, 5000, "none is lost");
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_overtakes_the_rest_of_a_chunk() {
    let mut ends = connected(1 << 14);
    let data = ChunkData(vec![0; CHUNK_SIZE as usize].into());
    ends.connection.send(Message::Data { id: crate::wire::OfferId(1), index: 0, data, entry: None });
    let mut begun = vec![0; 1 << 14];
    ends.peer.read_exact(&mut begun).await.unwrap();
    ends.connection.send(Message::Text("overtakes".into()));
    // Less than the chunk.
    let mut some = vec![0; 200_000];
    ends.peer.read_exact(&mut some).await.unwrap();
    let said = some.windows(9).any(|window| window == b"overtakes");
    assert!(said, "it waited for the whole chunk");
}

#[test]
fn pieces_are_as_large_as_what_is_written_in_20_ms() {
    let second = Duration::from_secs(1);
    assert_eq!(next_frame_bytes(64 << 10, second), SMALL_FRAME, "a slow line");
    assert_eq!(next_frame_bytes(64 << 10, Duration::ZERO), LARGE_FRAME, "a fast one");
    assert_eq!(next_frame_bytes(5_000_000, second), 100_000);
}
