//! What `p2p config` prints.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::escape::escape;
use super::human::{NOTHING, table};
use crate::config::{Origin, Setting, Settings};
use crate::engine::AcceptRule;

/// For people, on a screen of so many columns.
pub(super) fn text(settings: &Settings, columns: usize) -> String {
    let file = match &settings.file {
        Some(path) if settings.is_there => format!("settings in {}", escape(&path.to_string_lossy())),
        Some(path) => format!("no settings in {} (no such file)", escape(&path.to_string_lossy())),
        None => "no file of settings is used".to_owned(),
    };
    let rows: Vec<_> = settings
        .options
        .iter()
        .map(|Setting { key, value, origin }| [key.clone(), shown(value), said_by(origin)])
        .collect();
    let mut text = format!("{file}\n\n{}\n", table(["OPTION", "VALUE", "SET BY"], &rows, (2, columns)));
    if !settings.rules.is_empty() {
        text += "\naccept rules, of which the first that fits decides, and then `accept`:\n";
        for (index, rule) in settings.rules.iter().enumerate() {
            text += &format!("{:>3}  {}\n", index + 1, escape(&rule.to_string()));
        }
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => escape(text).into_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn said_by(origin: &Origin) -> String {
    match origin {
        // Which file it is stands above.
        Origin::File(_, line) => format!("line {line} of the file"),
        origin => escape(&origin.to_string()).into_owned(),
    }
}

/// One line of JSON. The names are a promise to scripts, as those of the events are.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    command: &'static str,
    file: Option<Cow<'a, str>>,
    exists: bool,
    options: Vec<OptionRow<'a>>,
    accept_rules: Vec<RuleRow>,
}

#[derive(Serialize)]
struct OptionRow<'a> {
    option: &'a str,
    value: &'a Value,
    set_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

#[derive(Serialize)]
struct RuleRow {
    action: &'static str,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<u64>,
}

/// For programs, as one line.
pub(super) fn json(settings: &Settings) -> String {
    fn option(setting: &Setting) -> OptionRow<'_> {
        let Setting { key, value, origin } = setting;
        let (set_by, variable, line) = match origin {
            Origin::Flag(_) => ("flag", None, None),
            Origin::Variable(name) => ("variable", Some(name.as_str()), None),
            Origin::File(_, line) => ("file", None, Some(*line)),
            Origin::Default => ("default", None, None),
        };
        OptionRow { option: key, value, set_by, variable, line }
    }
    let rule = |rule: &AcceptRule| RuleRow {
        action: rule.action.as_str(),
        from: rule.from.to_string(),
        name: rule.name.as_ref().map(ToString::to_string),
        max_size: rule.max_size,
    };
    let line = Line {
        event: "result",
        command: "config",
        file: settings.file.as_ref().map(|path| path.to_string_lossy()),
        exists: settings.is_there,
        options: settings.options.iter().map(option).collect(),
        accept_rules: settings.rules.iter().map(rule).collect(),
    };
    serde_json::to_string(&line).expect("words and numbers are always JSON") + "\n"
}

/// Where the file is or would be.
pub(super) fn path(path: Option<&Path>, json: bool) -> String {
    let shown = path.map(|path| path.to_string_lossy().into_owned());
    match json {
        true => format!("{}\n", json!({ "command": "config", "event": "result", "file": shown })),
        false => format!("{}\n", shown.as_deref().unwrap_or("none")),
    }
}
