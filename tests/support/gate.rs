//! A relay between two nodes that lets some bytes through and then holds the rest back: how a test
//! gets a transfer that is half done, on a machine of any speed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::DEADLINE;

/// Stands in for the node behind it: connect to [`Gate::addr`] instead.
pub(crate) struct Gate {
    addr: String,
    passage: Arc<Passage>,
}

struct Passage {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Bytes that may still pass from the dialling side; `None` when the gate is open for good.
    left: Option<usize>,
    held: bool,
    /// Bytes that the dialling side has said.
    passed: usize,
    /// The connections that are open.
    open: Vec<TcpStream>,
}

impl Gate {
    /// A gate before `target`; `bytes` of what the dialling side says pass, on all connections.
    pub(crate) fn before(target: &str, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let state = Mutex::new(State { left: Some(bytes), held: false, passed: 0, open: Vec::new() });
        let passage = Arc::new(Passage { state, changed: Condvar::new() });
        let (target, at_work) = (target.to_owned(), Arc::clone(&passage));
        thread::spawn(move || {
            for dialler in listener.incoming() {
                let dialler = dialler.unwrap();
                let Ok(target) = TcpStream::connect(&target) else { continue };
                let streams = [dialler.try_clone().unwrap(), target.try_clone().unwrap()];
                at_work.state.lock().unwrap().open.extend(streams);
                let (back_from, back_to) = (target.try_clone().unwrap(), dialler.try_clone().unwrap());
                thread::spawn(move || pump(back_from, back_to, |wanted| wanted));
                let at_work = Arc::clone(&at_work);
                thread::spawn(move || pump(dialler, target, |wanted| at_work.let_through(wanted)));
            }
        });
        Self { addr, passage }
    }

    /// Where to connect to.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Waits until the gate has something that it holds back.
    #[track_caller]
    pub(crate) fn wait_until_held(&self) {
        let state = self.passage.state.lock().unwrap();
        let waited = self.passage.changed.wait_timeout_while(state, DEADLINE, |state| !state.held);
        // Not within the assertion: a test that fails still opens the gate.
        let held = waited.unwrap().0.held;
        assert!(held, "not enough was sent to reach the gate's limit");
    }

    /// Holds back what is said after `bytes` more.
    pub(crate) fn hold_after(&self, bytes: usize) {
        self.passage.state.lock().unwrap().left = Some(bytes);
    }

    /// Breaks the connections that are open; new ones pass as before, and `bytes` more of what is said.
    pub(crate) fn cut(&self, bytes: usize) {
        let mut state = self.passage.state.lock().unwrap();
        for stream in state.open.drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        (state.left, state.held) = (Some(bytes), false);
        self.passage.changed.notify_all();
    }

    /// Bytes that the dialling side has said so far.
    pub(crate) fn passed(&self) -> usize {
        self.passage.state.lock().unwrap().passed
    }

    /// Lets everything through from now on, also the end of the connection.
    pub(crate) fn open(&self) {
        self.passage.state.lock().unwrap().left = None;
        self.passage.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Passage {
    /// How many of these bytes may pass now; waits until at least one may.
    fn let_through(&self, wanted: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        if state.left == Some(0) {
            state.held = true;
            self.changed.notify_all();
            state = self.changed.wait_while(state, |state| state.left == Some(0)).unwrap();
        }
        let passing = state.left.map_or(wanted, |left| left.min(wanted));
        state.left = state.left.map(|left| left - passing);
        state.passed += passing;
        passing
    }
}

/// Copies one direction until it ends, then ends the connection on both sides.
fn pump(mut from: TcpStream, mut to: TcpStream, let_through: impl Fn(usize) -> usize) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(let_through(rest.len()));
            if to.write_all(now).is_err() {
                let _gone = from.shutdown(Shutdown::Both);
                return;
            }
            rest = later;
        }
    }
    for stream in [from, to] {
        let _gone = stream.shutdown(Shutdown::Both);
    }
}
