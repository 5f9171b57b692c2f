//! Policies as words, as GW.POLICYSET takes and GW.POLICYLIST replies them. The words and their meaning are defined in
//! `gateway_core::admission::form`, for arguments and JSON alike.

use gateway_core::admission::form::{Draft, Form, Given, Mistake, Said, Takes, Wrong, check_policy_name};
use gateway_core::admission::{Policy, ShortName, Tally};

use super::args::check_name;
use crate::server::Error;
use crate::server::args::{Args, Short};
use crate::server::reply::Reply;

/// Parses the words of a policy, the kind first. `now_ms` is the server's time, at which a block with `FOR` begins.
fn parse_policy(args: &mut Args, now_ms: i64) -> Result<Policy, Error> {
    let name = args.bytes("policy")?;
    let form = Form::named(name).ok_or_else(|| Error::new(&Mistake::NotAKind.to_string(), name))?;
    let mut draft = Draft::new(form);
    let mut options = Short::new();
    for (index, word) in form.words.iter().enumerate() {
        match word.option {
            Some(option) => options.push((option, index)),
            None => {
                draft.give(index, Given::Argument(args.bytes(word.member)?));
            }
        }
    }
    while let Some(index) = args.option(&options)? {
        let takes = form.words.get(index).map(|word| (word.takes, word.argument()));
        let given = match takes {
            None | Some((Takes::Nothing, _)) => Given::Word,
            Some((_, option)) => Given::Argument(args.bytes(option)?),
        };
        draft.give(index, given);
    }
    draft.policy(now_ms).map_err(|wrong| explain(&wrong))
}

/// The error for a mistake in the arguments.
fn explain(wrong: &Wrong) -> Error {
    let argument = wrong.word.argument();
    match (wrong.mistake, &wrong.given) {
        (Mistake::MissingWord, _) if wrong.word.option.is_some() => Error::missing_option(argument),
        (Mistake::MissingWord, _) => Error::missing_value(argument),
        (Mistake::ConflictingWord, _) => Error::conflicting_option(argument),
        (Mistake::OnlyWith(word), _) => Error::only_with(word.argument(), argument),
        (mistake @ (Mistake::NotAPeriod | Mistake::Reserved), Some(given)) => {
            Error::new(&mistake.to_string(), given.shown())
        }
        (mistake @ Mistake::NotAName, _) => Error::new(&mistake.to_string(), wrong.word.member),
        (mistake, _) => Error::new(&mistake.to_string(), argument),
    }
}

/// Parses a policy's name and its words.
pub fn parse_named<'a>(mut args: Args<'a>, now_ms: i64) -> Result<(&'a [u8], Policy), Error> {
    let name = args.bytes("name")?;
    check_name(name, "name")?;
    check_policy_name(name).map_err(|mistake| Error::new(&mistake.to_string(), name))?;
    Ok((name, parse_policy(&mut args, now_ms)?))
}

/// Replies a policy's tally on this node: the requests that it refused, and when its meter was last named.
pub fn reply_tally(reply: &Reply, tally: &Tally) {
    let &Tally { denied, named_ms } = tally;
    reply.map(2).bytes("denied").count(denied).bytes("named_ms");
    match named_ms {
        0 => reply.null(),
        _ => reply.int(named_ms),
    };
}

/// A policy's name and the words that set it, in a fixed order. A block's end is among them, so that they mean the same
/// at any time.
pub fn words(name: &ShortName, policy: &Policy) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = vec![name.to_vec(), Form::of(&policy.kind).name.into()];
    for (word, said) in policy.words() {
        words.extend(word.option.map(Vec::from));
        words.extend(match said {
            Said::Word => None,
            Said::Integer(value) => Some(value.to_string().into_bytes()),
            Said::Amount(amount) => Some(amount.to_text().as_bytes().to_vec()),
            Said::Period(period) => Some(period.name().into()),
            Said::Name(name) => Some(name.to_vec()),
        });
    }
    words
}

/// Replies [`words`].
pub fn reply_words(reply: &Reply, name: &ShortName, policy: &Policy) {
    let words = words(name, policy);
    reply.array(words.len());
    for word in words {
        reply.bytes(word);
    }
}
