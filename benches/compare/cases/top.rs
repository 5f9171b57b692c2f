//! What it costs to count refusals and amounts for GW.TOP: commands with its lists, and with the lists switched off.

use crate::case::{Case, Group, addcost, allow_admitted, allow_denied, filled, pair, tokens_admitted, tokens_denied};

use super::admission::{admit_and_settle, admit_denied, route_refused};

fn acquire_denied() -> Case {
    let line = |holder| format!("GW.ACQUIRE slots:# 1 {holder} TTL 86400000");
    Case::new("GW.ACQUIRE denied", &line("other"), "[0, ", filled(&line("holder"), 1))
}

pub fn group() -> Group {
    type Make = fn() -> Case;
    let commands: [(Make, &'static str); 9] = [
        (allow_admitted, "GW.ALLOW, lists off"),
        (allow_denied, "GW.ALLOW denied, lists off"),
        (tokens_admitted, "GW.TOKENS, lists off"),
        (tokens_denied, "GW.TOKENS denied, lists off"),
        (acquire_denied, "GW.ACQUIRE denied, lists off"),
        (addcost, "GW.ADDCOST, lists off"),
        (admit_and_settle, "GW.ADMIT + GW.SETTLE, lists off"),
        (admit_denied, "GW.ADMIT denied, lists off"),
        (route_refused, "GW.ROUTE refused by 8, lists off"),
    ];
    let cases = commands.iter().flat_map(|(case, off)| [case(), case().with(off, "gw.top-keys", "0")]).collect();
    let pairs = commands.iter().map(|(case, off)| pair(case().name, off, None)).collect();
    Group { requests_max: 200_000, cases, pairs }
}
