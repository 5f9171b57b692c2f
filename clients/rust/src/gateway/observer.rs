/// A name with its value, such as `family` and `admission`. No label has a key, a prompt, an answer or a credential in it.
pub type Label<'a> = (&'static str, &'a str);

/// The value of a figure at the time when it is read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// In the unit that the figure's name says: `away.seconds` in seconds, the others in pieces.
    pub value: f64,
    /// The address of the server that it is about, if it is about one.
    pub server: Option<String>,
}

impl Reading {
    pub(super) fn new(value: f64, server: Option<String>) -> Self {
        Self { value, server }
    }
}

/// Reads a figure. None: its gateway is closed, and it is not to be read again.
pub type ReadFigure = Box<dyn Fn() -> Option<Vec<Reading>> + Send + Sync>;

/// Is told how a call has ended: by nothing, or by the kind of its error, such as `timeout` or `NoAccount`. `cancelled`: nobody waits
/// for it any more.
pub type CallEnd = Box<dyn FnOnce(Option<&str>) + Send>;

/// Is told what a gateway decides and how it goes: see [`Settings::observer`](super::Settings::observer). The feature `opentelemetry`
/// has one. Its methods are called by many tasks at once, and are to return soon.
pub trait Observer: Send + Sync {
    /// Adds to a count, such as `decisions`.
    fn count(&self, name: &'static str, amount: u64, labels: &[Label<'_>]);

    /// A call to the server begins, in the task that waits for it. `operation` is the command's name, or `PIPELINE`, and `server` its
    /// address.
    fn call(&self, operation: &str, server: &str) -> CallEnd;

    /// Tokens that a settled request has used. `kind` is `input` or `output`, and the attributes are those of the admission.
    fn tokens(&self, kind: &'static str, tokens: u64, attributes: &[(String, String)]);

    /// A figure that can be read at any time, such as the length of a queue.
    fn watch(&self, name: &'static str, read: ReadFigure);
}
