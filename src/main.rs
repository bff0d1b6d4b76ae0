//! The program `p2p`: arguments, runtime, exit code. Everything else is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;
use peer_to_peer::config::{Config, Mode};
use peer_to_peer::exit::Exit;
use peer_to_peer::ui;

fn main() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            // Help and version end here too; clap knows which go to stdout. Nobody is left to tell
            // if that fails.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Fine.into() };
        }
    };
    // At a prompt Ctrl-C is one of the ways to leave; a loop around commands it is to end.
    let is_one_of_several = matches!(config.mode, Mode::Send(_) | Mode::Receive { .. });
    match run(config) {
        Ok(exit) => {
            if exit == Exit::Interrupted && is_one_of_several {
                Exit::die_of_interrupt();
            }
            exit.into()
        }
        Err(error) => {
            // Each error says itself what caused it.
            let _ = writeln!(std::io::stderr(), "p2p: {error}");
            Exit::NotStarted.into()
        }
    }
}

fn run(config: Config) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start the runtime: {error}"))?;
    let exit = runtime.block_on(ui::run(config))?;
    // Whatever still runs has had its time in `NodeHandle::stop`.
    runtime.shutdown_background();
    Ok(exit)
}
