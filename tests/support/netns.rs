//! Two computers with a cable between them, which nothing else is connected to: network namespaces of Linux.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Gone when it is dropped, with all that runs there.
pub(crate) struct Cable {
    hosts: [String; 2],
    network: u32,
}

/// One end of a [`Cable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Left,
    Right,
}

impl Cable {
    /// `None` where none can be laid, which is said aloud: a test that needs one is skipped then.
    pub(crate) fn lay(test: &str) -> Option<Self> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("p2p{}-{number}{side}", std::process::id());
        let cable = Self { hosts: [name("l"), name("r")], network: number % 250 };
        if let Err(why) = cable.connect() {
            // Not by `eprintln!`, which shows nothing where a test succeeds.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: needs network namespaces: {why}");
            return None;
        }
        Some(cable)
    }

    fn connect(&self) -> Result<(), String> {
        let [left, right] = &self.hosts;
        ip(&["netns", "add", left])?;
        ip(&["netns", "add", right])?;
        // The same name is free in both, as each is made where it stays.
        ip(&[
            "link", "add", "cable", "netns", left, "type", "veth", "peer", "name", "cable", "netns", right,
        ])?;
        for end in [End::Left, End::Right] {
            self.set_address(end, 1)?;
            ip(&["-n", self.host(end), "link", "set", "lo", "up"])?;
            ip(&["-n", self.host(end), "link", "set", "cable", "up"])?;
        }
        Ok(())
    }

    /// What the namespace is called.
    pub(crate) fn host(&self, end: End) -> &str {
        &self.hosts[end as usize]
    }

    /// An address of that end.
    pub(crate) fn address(&self, end: End, number: u8) -> String {
        format!("10.77.{}.{}", self.network, end as u8 * 100 + number)
    }

    /// Gives an end another address in place of those that it has.
    pub(crate) fn set_address(&self, end: End, number: u8) -> Result<(), String> {
        let address = format!("{}/24", self.address(end, number));
        ip(&["-n", self.host(end), "-4", "addr", "flush", "dev", "cable"])?;
        ip(&["-n", self.host(end), "addr", "add", &address, "dev", "cable"])
    }

    /// Has an end send what is for nobody near to the other one.
    pub(crate) fn route_by_other_end(&self, end: End) {
        let other = if end == End::Left { End::Right } else { End::Left };
        ip(&["-n", self.host(end), "route", "add", "default", "via", &self.address(other, 1)]).unwrap();
    }

    /// Runs something at an end, in a thread of its own: that does not come back from there, nor do those that it
    /// starts.
    pub(crate) fn run_at<T: Send + 'static>(
        &self,
        end: End,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.host(end))).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _never_made = ip(&["netns", "del", host]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new("ip").args(arguments).output().map_err(|error| format!("`ip`: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&ran.stderr);
    Err(format!("`ip {}`: {}", arguments.join(" "), why.trim()))
}
