//! Log queues.

use std::collections::{HashSet, VecDeque};

use serde::de::IgnoredAny;

use super::state::State;
use super::wire::Reply;
use super::words::{Done, Stop, Words, refused, unknown_option};
use crate::Text;

/// The most of what counts records or bytes.
const MOST: i64 = 1 << 62;

#[derive(Clone, Default)]
struct Queue {
    records: VecDeque<Text>,
    ids: HashSet<Text>,
}

/// At which byte a text is no JSON.
pub(super) fn json_problem(text: &[u8]) -> Option<usize> {
    let error = serde_json::from_slice::<IgnoredAny>(text).err()?;
    let lines = text.split_inclusive(|&byte| byte == b'\n').take(error.line().saturating_sub(1));
    let before: usize = lines.map(<[u8]>::len).sum();
    // The column counts from 1, and of what is missing at the end it is the last byte's.
    Some(before + if error.is_eof() { error.column() } else { error.column().saturating_sub(1) })
}

pub(super) fn push(state: &mut State, words: &mut Words) -> Done {
    let (key, mut count, mut bytes) = (words.take("key")?, 1_000_000, 64 << 20);
    let (mut reject, mut as_json, mut id) = (false, false, None);
    // Records may be option words, too: from the first word that is none, or from RECORDS.
    loop {
        let option = words.peek();
        if !["MAXLEN", "MAXBYTES", "ID", "REJECT", "JSON", "RECORDS"].contains(&option.as_str()) {
            break;
        }
        words.option()?;
        match option.as_str() {
            "MAXLEN" => count = words.integer(&option, 1..=MOST)?,
            "MAXBYTES" => bytes = words.integer(&option, 1..=MOST)?,
            "ID" => id = Some(words.name(&option, 512)?),
            "REJECT" => reject = true,
            "JSON" => as_json = true,
            _ => break,
        }
    }
    let records = words.rest();
    if records.is_empty() {
        return refused("missing value", "record");
    }
    for (at, record) in records.iter().enumerate().filter(|_| as_json) {
        if let Some(byte) = json_problem(record) {
            return refused("not valid JSON", format!("record {at} at byte {byte}"));
        }
    }
    let own = state.made::<Queue>(key)?;
    if id.as_ref().is_some_and(|id| own.ids.contains(id)) {
        return Ok(vec![(own.records.len() as i64).into(), 0.into()].into());
    }
    let over = |all: &VecDeque<Text>| {
        all.len() as i64 > count || all.iter().map(|record| record.len() as i64).sum::<i64>() > bytes
    };
    let (mut all, mut dropped) = (own.records.clone(), 0);
    all.extend(records);
    while over(&all) {
        if reject {
            return Err(Stop::Refused("QUEUEFULL the queue is full: nothing was stored".to_owned()));
        }
        all.pop_front();
        dropped += 1;
    }
    own.records = all;
    own.ids.extend(id);
    Ok(vec![(own.records.len() as i64).into(), dropped.into()].into())
}

pub(super) fn len(state: &mut State, words: &mut Words) -> Done {
    let own = state.at::<Queue>(&words.take("key")?)?;
    Ok(own.map_or(0, |own| own.records.len() as i64).into())
}

pub(super) fn peek(state: &mut State, words: &mut Words) -> Done {
    let (key, mut count, mut bytes) = (words.take("key")?, 10, MOST);
    while let Some(option) = words.next_option() {
        match option.as_str() {
            "COUNT" => count = words.integer(&option, 1..=10_000)?,
            "MAXBYTES" => bytes = words.integer(&option, 1..=MOST)?,
            _ => return unknown_option(&option),
        }
    }
    let mut made = Vec::new();
    for record in state.at::<Queue>(&key)?.iter().flat_map(|own| &own.records) {
        bytes -= record.len() as i64;
        if made.len() as i64 == count || bytes < 0 {
            break;
        }
        made.push(Reply::from(record.clone()));
    }
    Ok(made.into())
}
