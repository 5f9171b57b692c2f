//! The part `[console]` of the configuration.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

use crate::values::{Secret, Wrong, wrong};

/// A web page that shows what happens, and lets operators act.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// With this part, on by default if `http.listen` is a loopback address, off beyond. Without the part there is no
    /// console: the user of a companion that only ships has not the rights that it needs.
    pub enabled: Option<Spanned<bool>>,
    /// Who has it may look. Without any token or proxy, everybody on this machine may look, and nobody may act.
    pub viewer_token: Option<Spanned<Secret>>,
    /// Who has it may look and act.
    pub operator_token: Option<Spanned<Secret>>,
    /// A proxy in front that has signed its users in.
    pub proxy: Option<Proxy>,
}

/// What the proxy tells. It must remove the header from what its clients send.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// The header with the user's groups, separated by commas, such as `X-Auth-Request-Groups`.
    pub header: Spanned<String>,
    /// The addresses that the proxy connects from. From others the header means nothing.
    pub from: Spanned<Vec<std::net::IpAddr>>,
    /// The groups whose members may look.
    #[serde(default)]
    pub viewers: Vec<String>,
    /// The groups whose members may look and act.
    #[serde(default)]
    pub operators: Vec<String>,
}

/// The shortest token.
const TOKEN_CHARS_MIN: usize = 16;

/// What types alone do not tell.
///
/// # Errors
/// The first value that is wrong.
pub fn check(console: &Console, listen: SocketAddr) -> Result<(), Wrong> {
    for (name, token) in [("viewer_token", &console.viewer_token), ("operator_token", &console.operator_token)] {
        let Some(token) = token else { continue };
        let text = token.as_ref().read().map_err(|error| wrong(token, format!("{name}: {error}")))?;
        if text.chars().count() < TOKEN_CHARS_MIN {
            return Err(wrong(token, format!("{name}: shorter than {TOKEN_CHARS_MIN} characters")));
        }
    }
    if let Some(proxy) = &console.proxy {
        if axum::http::HeaderName::from_bytes(proxy.header.as_ref().as_bytes()).is_err() {
            return Err(wrong(&proxy.header, "header: not the name of a header"));
        }
        if proxy.from.as_ref().is_empty() {
            return Err(wrong(&proxy.from, "from: none"));
        }
    }
    match &console.enabled {
        Some(enabled) if *enabled.as_ref() && !listen.ip().is_loopback() && !is_guarded(console) => {
            Err(wrong(enabled, "enabled: beyond this machine only with viewer_token, operator_token or proxy"))
        }
        _ => Ok(()),
    }
}

/// Whether anybody has to say who they are.
pub fn is_guarded(console: &Console) -> bool {
    console.viewer_token.is_some() || console.operator_token.is_some() || console.proxy.is_some()
}

/// Whether the console is served.
pub fn is_on(console: &Console, listen: SocketAddr) -> bool {
    console.enabled.as_ref().map_or(listen.ip().is_loopback(), |enabled| *enabled.as_ref())
}
