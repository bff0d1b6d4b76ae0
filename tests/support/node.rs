//! The real program in a process of its own, with its own directories, watched through `--json`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::files::listing;
use super::inbox::{Inbox, Missing};
use super::netns::{Cable, End};
use super::{DEADLINE, abridged, holds_in_time, includes};

/// Who nobody is, on every system.
const NOBODY: u32 = 65_534;

/// A node that is about to be started: its directories are there to be prepared.
pub(crate) struct NodeSetup {
    dir: TempDir,
    downloads: Option<PathBuf>,
    home: Option<PathBuf>,
    plain: bool,
    port: String,
    options: Vec<OsString>,
    prelude: Option<String>,
    unprivileged: bool,
    /// The network namespace that it runs in.
    host: Option<String>,
}

impl NodeSetup {
    pub(crate) fn new() -> Self {
        Self::under(&std::env::temp_dir())
    }

    /// A node that speaks the baseline protocol unencrypted, to peers that a test plays itself.
    pub(crate) fn plain() -> Self {
        Self { plain: true, ..Self::new() }
    }

    /// A node that has its directories under this one.
    pub(crate) fn under(parent: &Path) -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("p2p-test-").tempdir_in(parent).unwrap(),
            downloads: None,
            home: None,
            plain: false,
            port: "0".to_owned(),
            options: Vec::new(),
            prelude: None,
            unprivileged: false,
            host: None,
        }
    }

    /// The node's own directory, for files that it sends.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the node puts what it receives; does not exist unless a test makes it.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.downloads.clone().unwrap_or_else(|| self.dir.path().join("downloads"))
    }

    pub(crate) fn downloads_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.downloads = Some(path.into());
        self
    }

    /// Where the node keeps who it is and whom it knows.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.clone().unwrap_or_else(|| self.dir.path().join("home"))
    }

    pub(crate) fn home_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.home = Some(path.into());
        self
    }

    /// Listens at a port of a network of the test's own.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port.to_string();
        self
    }

    /// Listens where another node has listened before.
    pub(crate) fn at_the_address_of(mut self, former: &TestNode) -> Self {
        former.port().clone_into(&mut self.port);
        self
    }

    pub(crate) fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// Shell commands that run in the process before it becomes the node.
    pub(crate) fn after_shell(mut self, commands: &str) -> Self {
        self.prelude = Some(commands.to_owned());
        self
    }

    /// The node runs as somebody whom file permissions stop, also where the tests run as root.
    pub(crate) fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// The node runs at one end of a cable, and listens at all addresses there.
    pub(crate) fn on(mut self, cable: &Cable, end: End) -> Self {
        self.host = Some(cable.host(end).to_owned());
        self
    }

    /// Starts the node and waits until it listens. Unless a test says otherwise, it is encrypted and
    /// takes every offer.
    #[track_caller]
    pub(crate) fn start(self) -> TestNode {
        let command = match &self.host {
            None => self.command(&["--json", "--bind", "127.0.0.1", &self.port]),
            Some(_) => self.command(&["--json", &self.port]),
        };
        let mut node = TestNode::spawn(self, command);
        let listening = node.wait_for(&json!({ "event": "listening" }));
        listening["addr"].as_str().unwrap().clone_into(&mut node.addr);
        node
    }

    /// Runs the program with these arguments and this input, to its end.
    #[track_caller]
    pub(crate) fn run(self, arguments: &[&str], input: &str) -> Finished {
        let command = self.command(arguments);
        let mut node = TestNode::spawn(self, command);
        input.lines().for_each(|line| _ = node.type_line(line));
        node.close_stdin();
        let code = node.exit_code();
        Finished { code, stdout: node.stdout.all().join("\n"), stderr: node.stderr.all().join("\n") }
    }

    /// The program with the node's directories and further arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let as_root = self.unprivileged && rustix::process::geteuid().is_root();
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_p2p"));
        if as_root {
            program = self.hand_to_nobody(&program);
        }
        let mut command = match (&self.prelude, &self.host) {
            (None, None) => Command::new(&program),
            (None, Some(host)) => {
                let mut ip = Command::new("ip");
                ip.args(["netns", "exec", host]).arg(&program);
                ip
            }
            (Some(prelude), _) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{prelude}\nexec \"$0\" \"$@\"")).arg(&program);
                shell
            }
        };
        #[cfg(unix)]
        if as_root {
            std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
            std::os::unix::process::CommandExt::gid(&mut command, NOBODY);
        }
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("P2P_") || variable == "RUST_LOG" {
                command.env_remove(variable);
            }
        }
        // Whoever runs the tests may have settings of their own.
        command.env("P2P_CONFIG", "none");
        if self.plain {
            command.arg("--plain");
        } else {
            // An `--accept` among the options wins.
            command.env("P2P_ACCEPT", "all");
        }
        command.current_dir(self.dir()).arg("--home").arg(self.home());
        command.arg("--downloads").arg(self.downloads()).args(&self.options).args(arguments);
        command
    }

    /// Gives the node's directory to nobody, and a copy of the program with it: the real one may lie
    /// where nobody may look.
    fn hand_to_nobody(&self, program: &Path) -> PathBuf {
        let copy = self.dir().join("p2p");
        // By another process: while this one writes a file, one that it forks may hold it open
        // for writing too, and then it cannot be run.
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
        for entry in listing(self.dir()).into_iter().map(PathBuf::from).chain([PathBuf::new()]) {
            let path = self.dir().join(entry);
            std::os::unix::fs::lchown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        copy
    }
}

/// What a run of the program left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running node. Dropping it kills it.
pub(crate) struct TestNode {
    setup: NodeSetup,
    child: Child,
    stdin: Option<ChildStdin>,
    lines_typed: u64,
    addr: String,
    stdout: Arc<Inbox<String>>,
    stderr: Arc<Inbox<String>>,
    /// The lines of `stdout` as JSON; text where a line is none.
    events: Arc<Inbox<Value>>,
}

impl TestNode {
    /// A node with the default options.
    #[track_caller]
    pub(crate) fn start() -> Self {
        NodeSetup::new().start()
    }

    /// A node for peers that a test plays itself.
    #[track_caller]
    pub(crate) fn start_plain() -> Self {
        NodeSetup::plain().start()
    }

    /// Starts the command with its three streams in hand, without waiting for anything.
    pub(crate) fn spawn(setup: NodeSetup, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, events, stderr) =
            (Arc::new(Inbox::new()), Arc::new(Inbox::new()), Arc::new(Inbox::new()));
        let pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (lines, values, log) = (Arc::clone(&stdout), Arc::clone(&events), Arc::clone(&stderr));
        thread::spawn(move || {
            for line in lines_of(pipes.0) {
                values.push(serde_json::from_str(&line).unwrap_or_else(|_| line.as_str().into()));
                lines.push(line);
            }
            values.close();
            lines.close();
        });
        thread::spawn(move || {
            lines_of(pipes.1).for_each(|line| log.push(line));
            log.close();
        });
        let stdin = child.stdin.take();
        Self { setup, child, stdin, lines_typed: 0, addr: String::new(), stdout, stderr, events }
    }

    /// Where it listens, as `ip:port`.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    pub(crate) fn port(&self) -> &str {
        self.addr.rsplit_once(':').unwrap().1
    }

    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir()
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.setup.downloads()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.setup.home()
    }

    /// Who it says it is.
    #[track_caller]
    pub(crate) fn node_id(&mut self) -> String {
        self.result_of("whoami")["node_id"].as_str().expect("an encrypted node has an id").to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that the process ever had in use; `None` where the system does not tell.
    pub(crate) fn peak_memory_kib(&self) -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(peak.trim().trim_end_matches(" kB").parse().unwrap())
    }

    /// Types one line and tells its number, which is the `cmd` of the answer.
    pub(crate) fn type_line(&mut self, line: &str) -> u64 {
        self.type_bytes(format!("{line}\n").as_bytes())
    }

    /// The same for a line that need not be text, newline included.
    pub(crate) fn type_bytes(&mut self, line: &[u8]) -> u64 {
        self.lines_typed += 1;
        let stdin = self.stdin.as_mut().expect("stdin was closed by the test");
        // A node that ended meanwhile is for the test to find out by waiting for something.
        let _gone = stdin.write_all(line).and_then(|()| stdin.flush());
        self.lines_typed
    }

    /// Types a command and waits for what it is answered with.
    #[track_caller]
    pub(crate) fn result_of(&mut self, line: &str) -> Value {
        let cmd = self.type_line(line);
        self.wait_where(&format!("the result of command {cmd}, `{line}`"), |event| {
            event["cmd"] == cmd && (event["event"] == "result" || event["event"] == "error")
        })
    }

    /// Types a command that must fail, and tells its error.
    #[track_caller]
    pub(crate) fn error_of(&mut self, line: &str) -> Value {
        let cmd = self.type_line(line);
        let error = self.wait_for(&json!({ "event": "error", "cmd": cmd }));
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "no message: {error}");
        error
    }

    /// Connects to an address and waits until it is known what the peer speaks.
    #[track_caller]
    pub(crate) fn connect(&mut self, addr: &str) {
        let cmd = self.type_line(&format!("connect {addr}"));
        let answer = self.wait_where(&format!("a connection to {addr}"), |event| {
            (event["event"] == "peer_connected" && event["peer"] == addr)
                || (event["event"] == "error" && event["cmd"] == cmd)
        });
        assert_eq!(answer["event"], "peer_connected", "{}", self.report());
    }

    /// Connects to another node and tells by which name that one knows this node.
    #[track_caller]
    pub(crate) fn connect_to(&mut self, other: &Self) -> String {
        self.connect(other.addr());
        other.wait_for_peer()
    }

    /// Waits for a new peer and tells its name.
    #[track_caller]
    pub(crate) fn wait_for_peer(&self) -> String {
        self.wait_for(&json!({ "event": "peer_connected" }))["peer"].as_str().unwrap().to_owned()
    }

    /// Starts to send a file; how that ends is for the test to wait for.
    pub(crate) fn sendfile(&mut self, peer: &str, path: &Path) -> u64 {
        self.type_line(&format!("sendfile {peer} {}", path.display()))
    }

    /// Waits until a file offered under that name is in place, and tells where, having compared
    /// what the event says with what is on disk.
    #[track_caller]
    pub(crate) fn wait_received(&self, name: &str) -> PathBuf {
        let event = self.wait_where(&format!("`{name}` to be received"), |event| {
            event["name"] == name && (event["event"] == "received" || event["event"] == "transfer_failed")
        });
        assert_eq!(event["event"], "received", "{}", self.report());
        let path = PathBuf::from(event["path"].as_str().unwrap());
        let path = self.dir().join(path);
        assert_eq!(event["size"], std::fs::symlink_metadata(&path).unwrap().len(), "{}", self.report());
        assert_eq!(event["sha256"], super::files::sha256_of(&path), "{}", self.report());
        path
    }

    /// Waits until a file is sent and the other side has said that it has it.
    #[track_caller]
    pub(crate) fn wait_sent(&self, name: &str) -> Value {
        let event = self.wait_where(&format!("`{name}` to be sent"), |event| {
            event["name"] == name && (event["event"] == "sent" || event["event"] == "transfer_failed")
        });
        assert_eq!(event["event"], "sent", "{}", self.report());
        event
    }

    /// Waits until a transfer of that name has failed, and tells with which code.
    #[track_caller]
    pub(crate) fn wait_failed(&self, name: &str) -> String {
        let event = self.wait_where(&format!("`{name}` to fail"), |event| {
            event["name"] == name
                && ["transfer_failed", "received", "sent"].iter().any(|e| event["event"] == *e)
        });
        assert_eq!(event["event"], "transfer_failed", "{}", self.report());
        event["code"].as_str().unwrap().to_owned()
    }

    /// Waits for an event that includes the pattern, passing over all others.
    #[track_caller]
    pub(crate) fn wait_for(&self, pattern: &Value) -> Value {
        self.wait_where(&pattern.to_string(), |event| includes(event, pattern))
    }

    #[track_caller]
    pub(crate) fn wait_where(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let found = self.events.take(|event| !event["event"].is_string() || matches(event));
        match found {
            Ok(event) if event["event"].is_string() => event,
            Ok(other) => panic!("stdout is for events, and {other} is none;\n{}", self.report()),
            Err(missing) => panic!("waited for {what} ({missing:?});\n{}", self.report()),
        }
    }

    /// Waits until the log or a `warning` event has a line that contains all of these words.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &[&str]) -> String {
        match self.stderr.take(|line| words.iter().all(|word| line.contains(word))) {
            Ok(line) => line,
            Err(missing) => panic!("nothing in the log has {words:?} ({missing:?});\n{}", self.report()),
        }
    }

    /// Waits until stdout has a line that contains all of these words, for a node without `--json`.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, words: &[&str]) -> String {
        match self.stdout.take(|line| words.iter().all(|word| line.contains(word))) {
            Ok(line) => line,
            Err(missing) => panic!("no line has {words:?} ({missing:?});\n{}", self.report()),
        }
    }

    /// Everything on stdout so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.stdout.all()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// How many events that include the pattern there were so far.
    pub(crate) fn count(&self, pattern: &Value) -> usize {
        self.events.all().iter().filter(|event| includes(event, pattern)).count()
    }

    /// Shows that the node still does its work: a text from a stranger arrives.
    #[track_caller]
    pub(crate) fn assert_alive(&self) {
        if !self.setup.plain {
            let mut stranger = Self::start();
            stranger.connect(&self.addr);
            let text = format!("are you there? asks {}", stranger.addr);
            stranger.type_line(&format!("send {} {text}", self.addr));
            self.wait_for(&json!({ "event": "message", "text": text }));
            return;
        }
        let mut stranger = TcpStream::connect(&self.addr).unwrap();
        let text = format!("are you there, {}?", stranger.local_addr().unwrap());
        let line = json!({ "type": "TEXT", "payload": text }).to_string();
        stranger.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.wait_for(&json!({ "event": "message", "text": text }));
    }

    /// No more commands will come.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Kills the process as nothing can catch it.
    /// Kills the node, if it still runs, and starts it again with the same directories and options.
    pub(crate) fn restart(&mut self) {
        if self.is_running() {
            self.kill();
        }
        let setup = std::mem::replace(&mut self.setup, NodeSetup::new());
        *self = setup.start();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end by itself. `None` where a signal ended it.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut status: Option<ExitStatus> = None;
        let ended = holds_in_time(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "still running after {DEADLINE:?};\n{}", self.report());
        // Everything that it wrote has then been read.
        for stream in [&self.stdout, &self.stderr] {
            assert_eq!(stream.take(|_| false), Err(Missing::Closed));
        }
        status.unwrap().code()
    }

    /// All that there is to say about the node when a test has failed.
    pub(crate) fn report(&self) -> String {
        let events: Vec<String> = self.events.all().iter().map(abridged).collect();
        format!(
            "--- node {} said on stdout:\n{}\n--- and on stderr:\n{}\n--- its directory has:\n{}\n---",
            self.addr,
            events.join("\n"),
            self.stderr.all().join("\n"),
            listing(self.dir()).join("\n"),
        )
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The lines of a pipe until it ends; bytes that are no UTF-8 are replaced.
fn lines_of(pipe: impl std::io::Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(pipe).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned())
}
