//! Where log lines go: to the painter at a prompt, to the screen where there is one, else to stderr.
//!
//! Invariants: logging never waits (a log that nobody reads loses lines, and says how many), and a
//! log line is escaped as a whole, whoever wrote what in it.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::escape::escape;

/// What is logged where nobody says otherwise. What the DHT's crate has to say about the network is said better
/// by this program.
const UNASKED: &str = "warn,mainline=off";

/// Takes a line to show, and says whether there was room for it. Never waits.
pub(super) type Sink = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Sends the log of this process there from now on.
pub(super) fn start(sink: Sink) {
    let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .parse_lossy(asked.as_deref().unwrap_or(UNASKED));
    let lines = Lines { sink, lost: Arc::default() };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(Plain { targets: asked.is_some() })
        .with_writer(lines)
        .finish();
    // It can only fail where somebody, a test, has set one up before; then that one has the log.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// `warning: …`, and with the module where somebody looks closer.
struct Plain {
    targets: bool,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "{level}: ")?;
        if self.targets {
            write!(writer, "{}: ", event.metadata().target())?;
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[derive(Clone)]
struct Lines {
    sink: Sink,
    lost: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    /// Takes whole lines: `tracing-subscriber` formats an event before it writes it, at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = escape(text.strip_suffix('\n').unwrap_or(&text));
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let shown = match lost {
            0 => (self.sink)(&line),
            lost => (self.sink)(&format!("warning: {lost} log lines were lost\n{line}")),
        };
        if !shown {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::output::Output;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_log_line_is_one_line_and_harmless() {
        let kept = Kept::default();
        let output = Output::start("test", Box::new(kept.clone()), None).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(Plain { targets: false })
            .with_writer(Lines { sink: output.sink(), lost: Arc::default() })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("192.0.2.5:1: it sent \x1b[2J\nerror: fake\u{202e}");
        });
        output.flushed().await.unwrap();
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log, "warning: 192.0.2.5:1: it sent \\x1b[2J\\nerror: fake\\u{202e}\n");
    }
}
