use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

use super::*;
use crate::node::fake::FakeNode;
use crate::ui::json::Json;
use crate::ui::output::Output;
use crate::ui::render::Human;
use crate::ui::style::Style;

/// A screen that remembers; one that stalls never returns from a write.
#[derive(Clone, Default)]
struct Screen {
    shown: Arc<Mutex<String>>,
    stalls: bool,
    broken: bool,
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stalls {
            loop {
                std::thread::park();
            }
        }
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.shown.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A front end that runs, with a test on each of its sides.
struct Bench {
    node: FakeNode,
    lines: mpsc::Sender<Input>,
    screen: Screen,
    front: JoinHandle<Exit>,
}

fn start(manners: Manners, screen: Screen) -> Bench {
    let (node, outside) = FakeNode::new();
    let (lines, received) = mpsc::channel(16);
    let output = Output::start("test", Box::new(screen.clone()), None).unwrap();
    let session = match manners {
        Manners::Prompt => Session::new(
            Box::new(Human { at_prompt: true, style: Style::PLAIN, columns: || usize::MAX }),
            false,
        ),
        _ => Session::new(Box::new(Json), true),
    };
    let mut front = Front::new(outside, received, session, output, manners);
    let front = tokio::spawn(async move {
        let exit = front.drive().await;
        front.finish(exit).await
    });
    Bench { node, lines, screen, front }
}

const PIPED: Manners = Manners::Piped { stay: false };

impl Bench {
    async fn type_line(&self, line: &str) {
        self.lines.send(Input::Line(line.to_owned())).await.unwrap();
    }

    /// Answers the commands that follow the end of the input.
    async fn close(&mut self) {
        let (command, reply) = self.node.command().await;
        assert_eq!(command, Command::StopAsking);
        assert!(self.node.answer(reply, Ok(Reply::Done)));
        let (command, reply) = self.node.command().await;
        assert_eq!(command, Command::Wait);
        assert!(self.node.answer(reply, Ok(Reply::Idle)));
    }

    /// Lets the node end when it is told to, and says how the program ended and what it showed.
    async fn end(self) -> (Exit, String) {
        drop(self.lines);
        self.node.stopped().await;
        self.node.end();
        let exit = self.front.await.unwrap();
        (exit, self.screen.shown.lock().unwrap().clone())
    }
}

fn message(text: &str) -> Event {
    Event::Message { peer: "192.0.2.5:1".parse().unwrap(), text: text.into() }
}

#[tokio::test]
async fn from_a_pipe_a_command_is_finished_before_the_next() {
    let mut bench = start(PIPED, Screen::default());
    bench.type_line("connect a:1").await;
    bench.type_line("peers").await;
    let (_, reply) = bench.node.command().await;
    assert!(bench.node.emit(message("meanwhile")));
    while !bench.screen.shown.lock().unwrap().contains("meanwhile") {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.node.command_now(), None, "`connect` has no answer yet");
    let connected = Reply::Connected { peer: "192.0.2.5:1".parse().unwrap(), node_id: None, already: false };
    assert!(bench.node.answer(reply, Ok(connected)));
    let (command, reply) = bench.node.command().await;
    assert_eq!(command, Command::Peers);
    assert!(bench.node.answer(reply, Ok(Reply::Peers(Vec::new()))));
    bench.lines = mpsc::channel(1).0;
    bench.close().await;
    let (exit, shown) = bench.end().await;
    assert_eq!(exit, Exit::Fine);
    let events: Vec<_> = shown.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(events, ["message", "result", "result"]);
}

#[tokio::test]
async fn what_happens_until_the_node_has_stopped_is_shown_and_counts() {
    let mut bench = start(PIPED, Screen::default());
    bench.lines = mpsc::channel(1).0;
    bench.close().await;
    bench.node.stopped().await;
    assert!(bench.node.emit(message("last words")));
    assert!(bench.node.emit(Event::Undelivered { peer: "192.0.2.5:1".parse().unwrap(), texts: 1 }));
    let (exit, shown) = bench.end().await;
    assert!(shown.contains("last words"), "{shown}");
    assert_eq!(exit, Exit::Failed);
}

#[tokio::test]
async fn a_command_that_fails_makes_the_run_fail_but_not_stop() {
    let mut bench = start(PIPED, Screen::default());
    bench.type_line("connect a:1").await;
    let (_, reply) = bench.node.command().await;
    assert!(bench.node.answer(reply, Err(Failure::new(Code::Unreachable, "nobody there"))));
    bench.type_line("whoami").await;
    let (command, reply) = bench.node.command().await;
    assert_eq!(command, Command::Whoami);
    assert!(bench.node.answer(reply, Ok(Reply::Done)));
    bench.type_line("quit").await;
    assert_eq!(bench.end().await.0, Exit::Failed);
}

#[tokio::test]
async fn an_input_that_cannot_be_read_on_makes_the_run_fail() {
    for manners in [PIPED, Manners::Prompt] {
        let mut bench = start(manners, Screen::default());
        bench.lines.send(Input::Broken).await.unwrap();
        bench.lines = mpsc::channel(1).0;
        if manners == PIPED {
            bench.close().await;
        }
        assert_eq!(bench.end().await.0, Exit::Failed, "{manners:?}");
    }
}

#[tokio::test]
async fn a_node_that_stays_outlives_its_input() {
    let mut bench = start(Manners::Piped { stay: true }, Screen::default());
    bench.lines = mpsc::channel(1).0;
    bench.close().await;
    assert!(bench.node.emit(message("still here")));
    while !bench.screen.shown.lock().unwrap().contains("still here") {
        tokio::task::yield_now().await;
    }
    assert!(!bench.front.is_finished());
}

#[tokio::test]
async fn at_a_prompt_commands_run_beside_each_other_in_the_order_typed() {
    let mut bench = start(Manners::Prompt, Screen::default());
    let mut replies = Vec::new();
    for _ in 0..10 {
        bench.type_line("wait").await;
        bench.type_line("peers").await;
    }
    for _ in 0..10 {
        for expected in [Command::Wait, Command::Peers] {
            let (command, reply) = bench.node.command().await;
            assert_eq!(command, expected);
            replies.push(reply);
        }
    }
    bench.type_line("conect a:1").await;
    bench.type_line("quit").await;
    let (exit, shown) = bench.end().await;
    assert_eq!(exit, Exit::Fine, "at a prompt a mistake is no failure of the program");
    assert_eq!(shown, "error: unknown command `conect`; did you mean `connect`?\n");
}

#[tokio::test]
async fn interrupted_and_end_of_input_leave_a_prompt_at_once() {
    let bench = start(Manners::Prompt, Screen::default());
    bench.lines.send(Input::Interrupt).await.unwrap();
    assert_eq!(bench.end().await.0, Exit::Interrupted);
    let bench = start(Manners::Prompt, Screen::default());
    assert_eq!(bench.end().await.0, Exit::Fine);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_program() {
    let bench = start(PIPED, Screen { broken: true, ..Screen::default() });
    bench.type_line("help").await;
    bench.node.stopped().await;
    assert_eq!(bench.front.await.unwrap(), Exit::Output);
}

#[tokio::test]
async fn a_reader_that_stalls_ends_the_program_once_events_are_lost() {
    let mut bench = start(PIPED, Screen { stalls: true, ..Screen::default() });
    let text = "x".repeat(400_000);
    // What fits is queued, the rest waits in the node, which goes on until that is too much.
    while bench.node.emit(message(&text)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.front.await.unwrap(), Exit::Output);
}
