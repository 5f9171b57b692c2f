//! What is asked of accounts.

use super::account::{Account, Amounts, Outcome, Row, longest, refuse, wait_of};
use super::state::State;
use super::wire::Reply;
use super::words::{Done, LONGEST, Stop, Words, refused, upper};
use crate::Text;

struct Question {
    keys: Vec<Text>,
    lease: Text,
    rows: Option<String>,
    /// All targets are asked, also those behind the first that has room.
    all: bool,
    ttl: Option<i64>,
    cooldown: i64,
    required: bool,
    shadow: bool,
    amounts: Amounts,
}

fn question(words: &mut Words, most: i64) -> Done<Question> {
    let mut made = Question {
        keys: words.keys(most)?,
        lease: Text::default(),
        rows: None,
        all: false,
        ttl: None,
        cooldown: 0,
        required: false,
        shadow: false,
        amounts: Amounts::new(),
    };
    while words.more() {
        let word = words.take("word")?;
        let option = upper(&word);
        match option.as_str() {
            "LEASE" => made.lease = words.name(&option, 512)?,
            "TTL" => made.ttl = Some(words.time(&option)?),
            "COOLDOWN" => made.cooldown = words.time(&option)?,
            "TOOK" => drop(words.integer(&option, 0..=LONGEST)?),
            "ROWS" => made.rows = Some(words.option()?),
            // The first that has room is taken, whatever this says.
            "PICK" => made.all = words.option()? != "FIRST",
            "REQUIRE" => made.required = true,
            "SHADOW" => made.shadow = true,
            "FAILED" => {}
            _ => drop(made.amounts.insert(word.clone(), words.amount(&word.to_string())?)),
        }
    }
    if made.lease.is_empty() { refused("missing option", "LEASE") } else { Ok(made) }
}

impl Question {
    fn ttl(&self) -> Done<i64> {
        self.ttl.map_or_else(|| refused("missing option", "TTL"), Ok)
    }

    /// Which rows are replied.
    fn rows(&self, words: &[&str], usual: &str) -> Done<String> {
        let Some(found) = &self.rows else { return Ok(usual.to_owned()) };
        if words.contains(&found.as_str()) {
            return Ok(found.clone());
        }
        let (last, others) = words.split_last().unwrap_or((&"", &[]));
        refused(&format!("not {} or {last}", others.join(", ")), found)
    }

    /// It is asked for one request, unless it says otherwise.
    fn count(&mut self) {
        self.amounts.entry("requests".into()).or_insert(1.into());
    }
}

fn told(rows: Vec<Row>, which: &str) -> Reply {
    let wanted = rows.into_iter().filter(|row| which != "NONE" && (which != "REFUSED" || !row.allowed));
    wanted.map(|row| row.fields(which == "DETAIL")).collect::<Vec<_>>().into()
}

fn no_account<T>(key: &Text) -> Done<T> {
    Err(Stop::Refused(format!("NOACCOUNT no such account: {key}")))
}

fn lease_ended<T>(lease: &Text) -> Done<T> {
    Err(Stop::Refused(format!("LEASEENDED lease has ended: {lease}")))
}

struct Decision {
    allowed: bool,
    retry: i64,
    rows: Vec<Row>,
}

/// Takes what is asked for from all accounts, which exist, or from none.
fn decide(state: &mut State, keys: &[Text], asked: &Question) -> Done<Decision> {
    let (now, end) = (state.now, state.now + asked.ttl()?);
    // Of an account that has admitted this lease before there is nothing to decide.
    let mut before: Vec<Option<Vec<Row>>> = Vec::new();
    for key in keys {
        let Some(own) = state.account(key)? else { return no_account(key) };
        let known = own.admissions.get(&asked.lease);
        if known.is_some_and(|one| one.settled || one.end <= now) {
            return lease_ended(&asked.lease);
        }
        let known = known.is_some();
        before.push((!known).then(|| own.rows(key, &asked.amounts, now)));
    }
    let refusing = before.iter().flatten().filter(|rows| refuse(rows));
    let refused = refusing.clone().next().is_some();
    let retry = longest(refusing.map(|rows| wait_of(rows)));
    let mut rows = Vec::new();
    for (key, before) in keys.iter().zip(before) {
        let Some(own) = state.account(key)? else { continue };
        if before.is_some() && !refused && !asked.shadow {
            own.take(&asked.lease, &asked.amounts, now, end);
        }
        let mut after = own.rows(key, &asked.amounts, now);
        match before {
            None => {
                after.retain(|row| !row.is_cooldown());
                after.iter_mut().for_each(|row| (row.allowed, row.retry) = (true, 0));
            }
            // What is left now, and what was decided before.
            Some(before) if !refused || asked.shadow => {
                for (row, before) in after.iter_mut().zip(before) {
                    (row.allowed, row.retry) = (before.allowed, before.retry);
                }
            }
            Some(_) => {}
        }
        rows.extend(after);
    }
    Ok(Decision { allowed: !refused || asked.shadow, retry, rows })
}

// The commands.

pub(super) fn admit(state: &mut State, words: &mut Words) -> Done {
    let mut asked = question(words, 15)?;
    asked.count();
    asked.ttl()?;
    let which = asked.rows(&["ALL", "REFUSED", "NONE", "DETAIL"], "ALL")?;
    let mut keys = Vec::new();
    for key in &asked.keys {
        if state.account(key)?.is_some() {
            keys.push(key.clone());
        } else if asked.required {
            return no_account(key);
        }
    }
    let made = decide(state, &keys, &asked)?;
    let rows = told(made.rows, &which);
    Ok(vec![made.allowed.into(), made.retry.into(), rows].into())
}

pub(super) fn route(state: &mut State, words: &mut Words) -> Done {
    let mut asked = question(words, 63)?;
    asked.count();
    asked.ttl()?;
    let which = asked.rows(&["ALL", "REFUSED", "NONE"], "NONE")?;
    let now = state.now;
    let (mut exists, mut known, mut free) = (false, None, None);
    for key in &asked.keys {
        let Some(own) = state.account(key)? else { continue };
        exists = true;
        if let Some(one) = own.admissions.get(&asked.lease) {
            if one.settled || one.end <= now {
                return lease_ended(&asked.lease);
            }
            known = known.or(Some(key));
        } else if free.is_none() && !refuse(&own.rows(key, &asked.amounts, now)) {
            free = Some(key);
        }
    }
    if !exists {
        return no_account(&asked.keys[0]);
    }
    let chosen = known.or(free);
    let (mut rows, mut waits) = (Vec::new(), Vec::new());
    for key in &asked.keys {
        if Some(key) == chosen {
            rows.extend(decide(state, std::slice::from_ref(key), &asked)?.rows);
            if !asked.all {
                break;
            }
            continue;
        }
        match state.account(key)? {
            None => rows.push(Row::refusing(key, "NOACCOUNT", -1)),
            Some(own) => {
                let found = own.rows(key, &asked.amounts, now);
                if refuse(&found) {
                    waits.push(wait_of(&found));
                }
                rows.extend(found);
            }
        }
    }
    let rows = told(rows, &which);
    // Whichever has room first.
    let retry = waits.into_iter().filter(|&wait| wait >= 0).min().unwrap_or(-1);
    Ok(match chosen {
        Some(key) => vec![key.clone().into(), 0.into(), rows].into(),
        None => vec![Reply::Nil, retry.into(), rows].into(),
    })
}

pub(super) fn settle(state: &mut State, words: &mut Words) -> Done {
    let (asked, now) = (question(words, 15)?, state.now);
    let mut best = Outcome::Unknown;
    for key in &asked.keys {
        let Some(own) = state.at::<Account>(key)? else { continue };
        let found = own.settle(&asked.lease, &asked.amounts, now);
        best = best.min(found);
        if asked.cooldown > 0 && found <= Outcome::Late {
            own.cooldown = own.cooldown.max(now + asked.cooldown);
        }
    }
    Ok(best.word().into())
}

pub(super) fn keep_alive(state: &mut State, words: &mut Words) -> Done {
    let (asked, now) = (question(words, 15)?, state.now);
    let (ttl, mut live) = (asked.ttl()?, 0);
    for key in &asked.keys {
        let own = state.at::<Account>(key)?.and_then(|own| own.admissions.get_mut(&asked.lease));
        if let Some(one) = own.filter(|one| !one.settled && one.end > now) {
            one.end = now + ttl;
            live += 1;
        }
    }
    Ok(live.into())
}
