//! How the program ends: the one place that knows the exit codes and what they mean.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::engine::Code;

/// The end of a run. The numbers are promised to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Fine,
    /// A command, a send or a receipt failed.
    Failed,
    /// The arguments are wrong.
    Usage,
    /// The node could not start.
    NotStarted,
    /// What was to be shown could not be written, or nobody read it.
    Output,
    /// Nobody could be reached.
    Unreachable,
    /// Somebody else was there, or it could not be told who.
    Stranger,
    /// The receiver did not take it.
    Declined,
    /// What was to be sent cannot be read, or changed meanwhile.
    Source,
    /// The connection was lost, or the receiver left, in the middle.
    Lost,
    /// Nobody who could be asked has it.
    NotFound,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    const ALL: [Self; 13] = [
        Self::Fine,
        Self::Failed,
        Self::Usage,
        Self::NotStarted,
        Self::Output,
        Self::Unreachable,
        Self::Stranger,
        Self::Declined,
        Self::Source,
        Self::Lost,
        Self::NotFound,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotStarted => 3,
            Self::Output => 4,
            Self::Unreachable => 5,
            Self::Stranger => 6,
            Self::Declined => 7,
            Self::Source => 8,
            Self::Lost => 9,
            Self::NotFound => 10,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// How sending something ends that failed for this reason.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::Unreachable | Code::HandshakeFailed | Code::SelfConnection => Self::Unreachable,
            Code::IdentityChanged | Code::WrongIdentity | Code::UnknownIdentity => Self::Stranger,
            Code::Declined
            | Code::Expired
            | Code::TooLarge
            | Code::NoSpace
            | Code::Busy
            | Code::Banned
            | Code::BadTree
            | Code::Unsupported => Self::Declined,
            Code::Usage => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::SourceUnreadable | Code::SourceChanged | Code::BadName => Self::Source,
            // Whoever was there at the start and is unknown later has gone in between.
            Code::Disconnected | Code::Stalled | Code::ShuttingDown | Code::UnknownPeer => Self::Lost,
            _ => Self::Failed,
        }
    }

    /// Ends this process as Ctrl-C ends one that knows nothing of it, so that a shell that waits for it ends
    /// its loop too: shells go on after a mere 130. Returns where that is impossible.
    pub fn die_of_interrupt() {
        // Handlers do not outlive an `exec`, which is the way to give one back without unsafe code. As the
        // first process of a container nobody dies of this signal.
        let _error = Command::new("/bin/sh").args(["-c", "kill -INT $$; exit 130"]).exec();
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Fine => "all went well",
            Self::Failed => {
                "a command, a send or a receipt failed (where input is not a terminal),\n       or the input could not be read"
            }
            Self::Usage => "the arguments are wrong",
            Self::NotStarted => {
                "the node could not start, for example because the port is in use or the key is damaged"
            }
            Self::Output => "output could not be written, or its reader stalled",
            Self::Unreachable => "`send`: nobody could be reached there",
            Self::Stranger => "`send`: somebody else is there than was expected",
            Self::Declined => "`send`: the receiver did not take it",
            Self::Lost => {
                "`send`: the connection was lost before all of it was there; another try goes on with it"
            }
            Self::Interrupted => {
                "ended by Ctrl-C; `send` and `receive` by its signal, for which shells show this"
            }
            Self::Source => "`send`, `share`: what was to be sent cannot be read, or changed meanwhile",
            Self::NotFound => "`get`: nobody who could be asked has it",
            Self::Terminated => "ended by SIGTERM",
        }
    }

    /// What `--help` says about the codes.
    pub(crate) fn table() -> String {
        let rows = Self::ALL.map(|exit| format!("  {:>3}  {}\n", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", rows.concat())
    }

    /// All codes, and what they mean.
    pub(crate) fn meanings() -> impl Iterator<Item = (u8, String)> {
        // The help has lines of its own.
        let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self::ALL.into_iter().map(move |exit| (exit.code(), in_one_line(exit.meaning())))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
