//! The manual page: what clap knows of options and commands, and what it does not.
//!
//! **Invariant**: what stands elsewhere as a table is taken from there: the options, the commands of the
//! prompt, the exit codes.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::parse::COMMANDS;
use crate::config::Config;
use crate::exit::Exit;

/// The page, as `man` reads it.
///
/// # Errors
/// None: it is written to memory.
pub(super) fn page() -> io::Result<Vec<u8>> {
    let command = Config::manual().after_help(None::<&str>);
    let man = Man::new(command.clone().disable_help_flag(true)).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    section("DESCRIPTION", DESCRIPTION).to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    section("COMMANDS OF THE SHELL", COMMANDS_OF_SHELL).to_writer(&mut page)?;
    for sub in built(&command).get_subcommands() {
        // What all of them take stands above.
        let own = sub.clone().mut_args(|arg| {
            let is_own = !arg.is_global_set() && arg.get_id() != "help";
            arg.hide(!is_own)
        });
        let usage = own.clone().render_usage().to_string();
        let mut heading = Roff::new();
        heading.control("SS", [usage.trim_start_matches("Usage: ").trim()]);
        if let Some(about) = sub.get_long_about().or_else(|| sub.get_about()) {
            paragraphs(&mut heading, &about.to_string());
        }
        heading.to_writer(&mut page)?;
        let mut options = Vec::new();
        Man::new(own).render_options_section(&mut options)?;
        // They stand in the section of the commands.
        page.extend(String::from_utf8_lossy(&options).replace(".SH OPTIONS\n", "").into_bytes());
    }
    prompt().to_writer(&mut page)?;
    section("ACCEPT RULES", ACCEPT_RULES).to_writer(&mut page)?;
    listed("FILES", FILES.iter().map(|(name, about)| (bold(*name), (*about).to_owned())))
        .to_writer(&mut page)?;
    environment(&command).to_writer(&mut page)?;
    let codes = Exit::meanings().map(|(code, meaning)| (bold(code.to_string()), meaning));
    listed("EXIT STATUS", codes).to_writer(&mut page)?;
    listed("EXAMPLES", EXAMPLES.iter().map(|(typed, about)| (bold(*typed), (*about).to_owned())))
        .to_writer(&mut page)?;
    Ok(page)
}

/// The same, with what its commands have from it.
fn built(command: &clap::Command) -> clap::Command {
    let mut command = command.clone();
    command.build();
    command
}

fn section(heading: &str, text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    paragraphs(&mut roff, text);
    roff
}

/// Lines that are empty end a paragraph; those that are indented stand as they are.
fn paragraphs(roff: &mut Roff, text: &str) {
    let mut stands = false;
    for line in text.lines() {
        let is_indented = line.starts_with("    ");
        if is_indented != stands && !line.is_empty() {
            roff.control(if is_indented { "EX" } else { "EE" }, []);
            stands = is_indented;
        }
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    if stands {
        roff.control("EE", []);
    }
}

fn listed(heading: &str, rows: impl Iterator<Item = (Inline, String)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, about) in rows {
        roff.control("TP", []);
        roff.text([name]);
        roff.text([roman(about)]);
    }
    roff
}

fn prompt() -> Roff {
    let mut roff = section("COMMANDS OF THE PROMPT", PROMPT);
    for spec in COMMANDS {
        roff.control("TP", []);
        roff.text([bold(spec.name), roman(" "), italic(spec.arguments)]);
        roff.text([roman(format!("{}. {}", spec.about, spec.more))]);
    }
    roff
}

fn environment(command: &clap::Command) -> Roff {
    let mut roff = section("ENVIRONMENT", ENVIRONMENT);
    let options = command.get_arguments().filter_map(|arg| Some((arg, arg.get_env()?)));
    for (option, variable) in options {
        roff.control("TP", []);
        roff.text([bold(variable.to_string_lossy())]);
        roff.text([match option.get_long() {
            Some(long) => roman(format!("as --{long}")),
            None => roman("the port to listen on"),
        }]);
    }
    for (name, about) in OTHER_VARIABLES {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*about)]);
    }
    roff
}

const DESCRIPTION: &str = "\
Sends files and messages straight from one computer to another: no account, no server, nothing to set up. Everything \
is encrypted, and each side proves who it is.

At a terminal p2p is a node with a prompt. Without one the same commands are read from the input, one on each line; \
those that were begun are finished at its end. The commands of the shell do one thing and leave.

A switch that is on by the environment or the file of settings is switched off by, for example, --lan=false. \
`p2p config` shows what each option is set to, and by whom.";

const COMMANDS_OF_SHELL: &str =
    "The options above may stand before and after them, where they have an effect.";

const PROMPT: &str = "\
A peer is the host:port that was connected to, an address that `peers` lists, an alias, or the beginning of an \
identity: 16 digits, or 4 of one that was pinned, named or trusted.";

const ACCEPT_RULES: &str = "\
Rules in the file of settings say what becomes of an offer: the first that fits decides, and where none does, the \
option accept. Each has an action (accept, ask or reject) and from (trusted, known, anyone, an alias, or all 64 \
digits of an identity), and may have name (a pattern: * is anything, ? one character, upper and lower case are the \
same) and max_size, beyond which it does not fit. What is to be asked about where nobody can be asked is declined, \
and so is what would leave less free than keep_free says.

    keep_free = \"10GB\"

    [[accept_rule]]
    from = \"anyone\"
    name = \"*.exe\"
    action = \"reject\"

    [[accept_rule]]
    from = \"anna\"
    max_size = \"2GB\"
    action = \"accept\"";

const FILES: &[(&str, &str)] = &[
    (
        "$XDG_CONFIG_HOME/p2p/config.toml",
        "The settings, in ~/.config where the variable is not set, or where --config says. TOML: each option may stand \
         there under its name, with _ for -, as in limit_up = \"5MB/s\" or lan = true. What stands on the command line \
         wins over the environment, that over this file. A file that others can change is refused, and so is one \
         with a key that is not understood.",
    ),
    (
        "$XDG_STATE_HOME/p2p",
        "The home, in ~/.local/state where the variable is not set, or where --home says: identity.pem is the key, for \
         nobody else to read; known.toml is who is known, records.toml how they behaved, shares.toml what is shared, history.ndjson what was said, sent and received, outbox what waits for others, shown which of their messages were shown.",
    ),
    (
        "./downloads/.p2p-partial",
        "What has arrived in part, below --downloads; it goes when it is complete, or after --keep-partials.",
    ),
];

const ENVIRONMENT: &str = "Each option may be a variable. An empty one is as good as none.";

const OTHER_VARIABLES: &[(&str, &str)] = &[
    ("RUST_LOG", "debug shows more of what goes on."),
    ("NO_COLOR", "Where it is set and not empty, nothing is coloured."),
    ("TMPDIR", "Where what comes from the standard input is kept until it is sent."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME", "See FILES."),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("p2p", "A prompt; others connect to this computer on port 8000."),
    ("p2p send localhost:8000 report.pdf", "Sends a file and leaves; the exit status tells how it went."),
    ("p2p receive --once --accept all", "Takes one file and leaves."),
    ("p2p --json --stay < /dev/null", "No prompt: tells what happens as JSON until Ctrl-C."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_option_command_variable_and_code() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        // Hyphens are escaped, so that they can be copied.
        let page = page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "");
        let has = |text: &str| assert!(page.contains(text), "{text} is missing in:\n{page}");
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "\"COMMANDS OF THE SHELL\"",
            "\"COMMANDS OF THE PROMPT\"",
            "\"ACCEPT RULES\"",
            "FILES",
            "ENVIRONMENT",
            "\"EXIT STATUS\"",
            "EXAMPLES",
        ] {
            has(&format!("\n.SH {section}\n"));
        }
        let command = Config::manual();
        for option in command.get_arguments() {
            if let Some(long) = option.get_long() {
                has(&format!("--{long}"));
            }
            if let Some(variable) = option.get_env() {
                has(&format!("\n{}\n", variable.to_string_lossy()));
            }
        }
        for sub in command.get_subcommands() {
            has(&format!("p2p {}", sub.get_name()));
            sub.get_arguments().filter_map(|arg| arg.get_long()).for_each(|long| has(&format!("--{long}")));
        }
        COMMANDS.iter().for_each(|spec| has(&format!("\n{} {}\n", spec.name, spec.arguments)));
        for (code, meaning) in Exit::meanings() {
            has(&format!("\n.TP\n{code}\n{meaning}\n"));
        }
        assert_eq!(page.matches(".SH OPTIONS").count(), 1);
    }
}
