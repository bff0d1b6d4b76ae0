//! How the program ends: the one place that knows the exit codes and what they mean.

use std::process::ExitCode;

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
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Exit {
    const ALL: [Self; 7] = [
        Self::Fine,
        Self::Failed,
        Self::Usage,
        Self::NotStarted,
        Self::Output,
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
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
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
            Self::Interrupted => "ended by Ctrl-C",
            Self::Terminated => "ended by SIGTERM",
        }
    }

    /// What `--help` says about the codes.
    pub(crate) fn table() -> String {
        let rows = Self::ALL.map(|exit| format!("  {:>3}  {}\n", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", rows.concat())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
