//! What was found, what it means and what to do.

use std::fmt;

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Data or limits are lost, or will be.
    Problem,
    /// It works, and is not what the book advises for production.
    Warning,
    /// Worth knowing. Alone it is no reason to act.
    Note,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A name that scripts may go by.
    pub id: &'static str,
    pub severity: Severity,
    /// `None` if it is about all nodes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    pub found: String,
    pub means: &'static str,
    pub advice: &'static str,
    /// A page of the book, with the section.
    pub link: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Problem => "PROBLEM",
            Severity::Warning => "WARNING",
            Severity::Note => "NOTE",
        };
        let node = self.node.as_ref().map_or(String::new(), |node| format!(" at {node}"));
        writeln!(f, "{severity} {}{node}: {}", self.id, self.found)?;
        writeln!(f, "  means:  {}", self.means)?;
        writeln!(f, "  advice: {}", self.advice)?;
        write!(f, "  see:    {}", self.link)
    }
}

/// What can be found: the texts that do not depend on the server.
#[derive(Debug)]
pub struct Kind {
    pub id: &'static str,
    pub severity: Severity,
    pub means: &'static str,
    pub advice: &'static str,
    pub link: &'static str,
}

impl Kind {
    /// At one node.
    pub fn at(&self, node: &str, found: impl Into<String>) -> Finding {
        Finding { node: Some(node.to_owned()), ..self.of_all(found) }
    }

    /// About all nodes together.
    pub fn of_all(&self, found: impl Into<String>) -> Finding {
        let Kind { id, severity, means, advice, link } = *self;
        Finding { id, severity, node: None, found: found.into(), means, advice, link }
    }
}
