//! GW.CACHEKEY: the same key for the same request, whichever client wrote it.

use gateway_core::canonical::{Json, NotCanonical};
use sha2::{Digest, Sha256};

use crate::server::call::entry;
use crate::server::command::{Arg, Command, Keys};
use crate::server::{Call, Error, Outcome, Str};

pub const COMMAND: Command = Command {
    name: "GW.CACHEKEY",
    handler: entry!(key),
    flags: "readonly",
    arity: -3,
    keys: Keys::None,
    summary: "Replies prefix:SHA-256 of a JSON text in canonical form (RFC 8785): the same key from every client.",
    complexity: "O(N log N) in the bytes of the JSON text",
    since: "0.1.0",
    tips: "",
    args: &[
        Arg::text("prefix"),
        Arg::text("json"),
        Arg::block("ignored", &[Arg::text("field").multiple()]).after("IGNORE").optional(),
    ],
};

/// The longest text in bytes: canonical and hashed in about a millisecond.
const JSON_BYTES_MAX: usize = 128 << 10;

/// The longest prefix in bytes.
const PREFIX_BYTES_MAX: usize = 256;

/// GW.CACHEKEY prefix json [IGNORE field [field ...]]
fn key(call: &mut Call) -> Outcome {
    let mut args = call.args();
    let (prefix, json) = (args.bytes("prefix")?, args.bytes("json")?);
    let ignored = match args.option(&[("IGNORE", ())])? {
        Some(()) => args.rest("IGNORE")?,
        None => &[],
    };
    if prefix.len() > PREFIX_BYTES_MAX {
        return Err(Error::longer_than(PREFIX_BYTES_MAX, "prefix"));
    }
    if json.len() > JSON_BYTES_MAX {
        return Err(Error::longer_than(JSON_BYTES_MAX, "json"));
    }
    let ignored: Vec<&[u8]> = ignored.iter().map(Str::bytes).collect();
    let json = Json::parse(json).map_err(not_canonical)?.without(&ignored);
    let mut hash = Sha256::new();
    json.write(&mut |piece| hash.update(piece));
    let mut key = prefix.to_vec();
    key.push(b':');
    hash.finalize().iter().for_each(|byte| key.extend_from_slice(format!("{byte:02x}").as_bytes()));
    call.reply().bytes(key);
    Ok(())
}

/// As in GW.LOGPUSH: what is wrong, and at which byte, counted from 0.
fn not_canonical(error: NotCanonical) -> Error {
    Error::new(error.reason.text(), format!("at byte {}", error.at))
}
