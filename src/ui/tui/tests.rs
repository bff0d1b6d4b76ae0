use std::io::Read as _;

use pty_process::blocking::Command;
use rustix::termios::tcgetattr;

use super::*;

/// Set in the process that panics.
const PANICS: &str = "P2P_TEST_PANICS";

/// The thread whose panic ends the screen must give the terminal back before it tells why. The test
/// starts itself once more, at a terminal of its own.
#[test]
fn a_panic_gives_the_terminal_back() {
    if std::env::var_os(PANICS).is_some() {
        return panic_at_a_screen();
    }
    let (mut pty, pts) = pty_process::blocking::open().unwrap();
    pty.resize(pty_process::Size::new(24, 80)).unwrap();
    let before = tcgetattr(&pty).unwrap();
    let name = "ui::tui::tests::a_panic_gives_the_terminal_back";
    let command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(["--exact", name, "--nocapture"]).env(PANICS, "1").env("TERM", "xterm");
    let mut child = command.spawn(pts).unwrap();
    let mut told = Vec::new();
    // Where nobody has the other side open any more this is an error.
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = pty.read(&mut buffer) {
        told.extend_from_slice(&buffer[..read]);
    }
    let told = String::from_utf8_lossy(&told);
    assert!(child.wait().unwrap().success(), "{told}");
    let now = tcgetattr(&pty).unwrap();
    assert_eq!((now.local_modes, now.input_modes), (before.local_modes, before.input_modes), "{told:?}");
    assert!(told.contains("Peers 0"), "there was a screen: {told:?}");
    let panicked = told.find("panicked on purpose").expect("it is told");
    for (on, off) in
        [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?2004h", "\x1b[?2004l"), ("\x1b[?25l", "\x1b[?25h")]
    {
        let restored = told.rfind(off).expect(off);
        assert!(told.rfind(on).unwrap() < restored && restored < panicked, "{off:?}: {told:?}");
    }
}

fn panic_at_a_screen() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _in_it = runtime.enter();
    let home = tempfile::tempdir().unwrap();
    let opened = Opened::new(Some(home.path()), Known::default(), Style::PLAIN).unwrap();
    let screen = opened.screen().clone();
    let (_lines, _shown) = opened.show(Known::default()).unwrap();
    // The first picture is there when the painter waits for a change.
    let begun = Instant::now();
    while {
        let state = screen.0.lock();
        state.stale || state.painting
    } {
        assert!(begun.elapsed() < Duration::from_secs(60), "the screen never came");
        thread::park_timeout(Duration::from_millis(5));
    }
    let painter = thread::Builder::new().name("painter".to_owned());
    painter.spawn(|| panic!("panicked on purpose")).unwrap().join().unwrap_err();
    // Not by way of the test harness, whose words would come last.
    std::process::exit(0);
}
