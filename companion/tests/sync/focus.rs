//! The export is read back, and has what the ledgers have.

use std::collections::BTreeMap;

use gw_testkit::{Server, call};
use redis_gateway_client::Amount;

use crate::companion::Companion;
use crate::database::Database;
use crate::traffic::Traffic;

#[test]
fn the_export_has_every_day() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    for database in [Some(Database::sqlite(server.dir())), Database::postgres()].into_iter().flatten() {
        Traffic::new(7).changes(&mut client, 2_000);
        // 2024-01-20 12:00 UTC.
        call!(client, "GW.ADDCOST", "a,\"b\"\n", "0.000000000001", "AT", 1_705_752_000_000_u64 => ());
        let companion =
            Companion::new(server.dir(), &format!("redis://127.0.0.1:{}", server.port()), &database.address());
        companion.catch_up();
        let file = server.dir().join("focus.csv");
        let mut export = companion.command(&["spend", "focus"]);
        export.args(["--from", "2024-01-10", "--to", "2024-02-10", "--output"]).arg(&file);
        assert!(export.status().unwrap().success());

        let mut expected = BTreeMap::<(String, String), Amount>::new();
        for ((account, table, period, day), amount) in database.rows() {
            if table == "spend" && period == "DAY" && ("2024-01-10".."2024-02-10").contains(&&*day) {
                expected.insert((account, format!("{day}T00:00:00Z")), amount.parse().unwrap());
            }
        }
        assert!(expected.len() > 300, "{} rows: hardly a test", expected.len());
        let mut read = csv::Reader::from_path(&file).unwrap();
        let mut found = BTreeMap::new();
        for row in read.deserialize::<BTreeMap<String, String>>() {
            let row = row.unwrap();
            let month = row["ChargePeriodStart"][..7].to_owned();
            assert_eq!(row["BillingPeriodStart"], format!("{month}-01T00:00:00Z"));
            assert_eq!((&*row["ChargeCategory"], &*row["BillingCurrency"]), ("Usage", "USD"));
            for column in ["EffectiveCost", "ListCost", "ContractedCost"] {
                assert_eq!(row[column], row["BilledCost"]);
            }
            let day = (row["SubAccountId"].clone(), row["ChargePeriodStart"].clone());
            assert!(found.insert(day, row["BilledCost"].parse().unwrap()).is_none(), "a day comes twice: {row:?}");
        }
        assert_eq!(found, expected);
        call!(client, "FLUSHALL" => ());
    }
}
