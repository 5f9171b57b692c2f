//! Who may look, and who may act.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::settings::{Console, Proxy};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Operator,
}

/// Somebody who is signed in, or comes through the proxy, or is on this machine.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub role: Role,
    /// What an action has to bring along, in a header that no other site can set.
    pub csrf: String,
    /// By a token, so that there is a session to end.
    pub signed_in: bool,
}

/// A session ends this long after the sign-in.
const SESSION: Duration = Duration::from_secs(12 * 3_600);
/// More sessions than this are not kept: the oldest end.
const SESSIONS_MAX: usize = 1_000;
pub const COOKIE: &str = "gw_session";
pub const CSRF: &str = "x-gw-csrf";

pub struct Access {
    tokens: Vec<([u8; 32], Role)>,
    proxy: Option<Proxy>,
    /// Where everybody may look, since only this machine is served.
    open: bool,
    /// For those who have no session: of this process.
    csrf: String,
    sessions: Mutex<BTreeMap<String, (Visitor, Instant)>>,
}

impl Access {
    /// # Errors
    /// If a token cannot be read, or the system has no random bytes.
    pub fn new(console: &Console) -> anyhow::Result<Self> {
        let mut tokens = Vec::new();
        for (token, role) in [(&console.operator_token, Role::Operator), (&console.viewer_token, Role::Viewer)] {
            if let Some(token) = token {
                let token = token.as_ref().read().map_err(anyhow::Error::msg)?;
                tokens.push((Sha256::digest(token).into(), role));
            }
        }
        let proxy = console.proxy.clone();
        let open = tokens.is_empty() && proxy.is_none();
        Ok(Self { tokens, proxy, open, csrf: random()?, sessions: Mutex::default() })
    }

    /// Who sends this; `None` if nobody knows.
    pub fn visitor(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<Visitor> {
        if let Some(visitor) = self.session(headers) {
            return Some(visitor);
        }
        if let Some(role) = self.proxy.as_ref().and_then(|proxy| role_by(proxy, peer, headers)) {
            return Some(Visitor { role, csrf: self.csrf.clone(), signed_in: false });
        }
        // A name that leads here from elsewhere (DNS rebinding) is not this machine's.
        (self.open && is_local(headers)).then(|| Visitor {
            role: Role::Viewer,
            csrf: self.csrf.clone(),
            signed_in: false,
        })
    }

    /// Signs in; returns the session's id.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn sign_in(&self, token: &str) -> anyhow::Result<Option<(String, Role)>> {
        let given: [u8; 32] = Sha256::digest(token).into();
        // Hashes are compared: how long that takes tells nothing of the token.
        let Some(&(_, role)) = self.tokens.iter().find(|(known, _)| *known == given) else { return Ok(None) };
        let (id, visitor) = (random()?, Visitor { role, csrf: random()?, signed_in: true });
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, (_, since)| since.elapsed() < SESSION);
        while sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| id.clone());
            oldest.and_then(|id| sessions.remove(&id));
        }
        sessions.insert(id.clone(), (visitor, Instant::now()));
        Ok(Some((id, role)))
    }

    pub fn sign_out(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }

    fn session(&self, headers: &HeaderMap) -> Option<Visitor> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let (visitor, since) = sessions.get(cookie(headers)?)?;
        (since.elapsed() < SESSION).then(|| visitor.clone())
    }
}

fn role_by(proxy: &Proxy, peer: SocketAddr, headers: &HeaderMap) -> Option<Role> {
    if !proxy.from.as_ref().contains(&peer.ip()) {
        return None;
    }
    let groups = headers.get(proxy.header.as_ref())?.to_str().ok()?;
    let is_in = |list: &[String]| groups.split(',').any(|group| list.iter().any(|known| known == group.trim()));
    match (is_in(&proxy.operators), is_in(&proxy.viewers)) {
        (true, _) => Some(Role::Operator),
        (false, true) => Some(Role::Viewer),
        (false, false) => None,
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
    matches!(name, Some("127.0.0.1" | "localhost" | "[::1]"))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

/// 128 random bits.
fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (axum::http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn access(text: &str) -> Access {
        Access::new(&toml::from_str(text).unwrap()).unwrap()
    }

    const HERE: &str = "127.0.0.1:1";

    #[test]
    fn without_tokens_this_machine_may_look() {
        let access = access("");
        let role = |host| access.visitor(HERE.parse().unwrap(), &headers(&[("host", host)])).map(|who| who.role);
        assert_eq!(role("127.0.0.1:9464"), Some(Role::Viewer));
        assert_eq!((role("localhost"), role("[::1]:9464")), (Some(Role::Viewer), Some(Role::Viewer)));
        assert_eq!((role("evil.example"), role("127.0.0.1.evil.example")), (None, None));
    }

    #[test]
    fn tokens_make_sessions() {
        let access = access("viewer_token = \"a-viewer's-token\"\noperator_token = \"an-operator's-token\"\n");
        let peer = HERE.parse().unwrap();
        assert!(access.visitor(peer, &headers(&[("host", "localhost")])).is_none());
        assert!(access.sign_in("a-viewer's-toke").unwrap().is_none());
        let (id, role) = access.sign_in("an-operator's-token").unwrap().unwrap();
        assert_eq!(role, Role::Operator);
        let signed_in = headers(&[("cookie", &format!("a=b; gw_session={id}"))]);
        assert_eq!(access.visitor(peer, &signed_in).unwrap().role, Role::Operator);
        access.sign_out(&signed_in);
        assert!(access.visitor(peer, &signed_in).is_none());
    }

    #[test]
    fn a_proxy_is_believed_at_its_own_address_alone() {
        let access = access(
            "[proxy]\nheader = \"X-Groups\"\nfrom = [\"127.0.0.1\"]\nviewers = [\"all\"]\noperators = [\"ops\"]\n",
        );
        let role = |peer: &str, groups: &str| {
            access.visitor(peer.parse().unwrap(), &headers(&[("x-groups", groups)])).map(|who| who.role)
        };
        assert_eq!(role(HERE, "all, ops"), Some(Role::Operator));
        assert_eq!(role(HERE, "all"), Some(Role::Viewer));
        assert_eq!((role(HERE, "others"), role("10.0.0.9:1", "ops")), (None, None));
    }
}
