//! The few styles that the output uses. anstream strips them where they do not belong.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

pub fn bad(text: impl Display) -> String {
    paint(AnsiColor::Red.on_default().bold(), text)
}

pub fn good(text: impl Display) -> String {
    paint(AnsiColor::Green.on_default().bold(), text)
}

pub fn warn(text: impl Display) -> String {
    paint(AnsiColor::Yellow.on_default().bold(), text)
}

pub fn label(text: impl Display) -> String {
    paint(AnsiColor::Cyan.on_default(), text)
}

pub fn strong(text: impl Display) -> String {
    paint(Style::new().bold(), text)
}

pub fn dim(text: impl Display) -> String {
    paint(Style::new().dimmed(), text)
}
