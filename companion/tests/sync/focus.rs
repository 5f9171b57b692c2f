//! The export is read back, and has what the ledgers have.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use gw_testkit::{Server, call, project_root};
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
        parquet_has_the_same(&companion, &file);
        call!(client, "FLUSHALL" => ());
    }
}

/// Reads both files with pyarrow, and compares them value by value.
const COMPARE: &str = "
import csv, decimal, sys
import pyarrow.parquet as parquet
table = parquet.read_table(sys.argv[1])
assert str(table.schema.field('BilledCost').type) == 'decimal128(31, 12)', table.schema
assert str(table.schema.field('ChargePeriodEnd').type) == 'timestamp[us, tz=UTC]', table.schema
def text(value):
    if value is None: return ''
    if isinstance(value, decimal.Decimal): return value
    return value if isinstance(value, str) else value.strftime('%Y-%m-%dT%H:%M:%SZ')
rows = list(csv.DictReader(open(sys.argv[2], newline='')))
found = [{name: text(value) for name, value in row.items()} for row in table.to_pylist()]
wanted = [{name: decimal.Decimal(value) if isinstance(found[0][name], decimal.Decimal) else value
           for name, value in row.items()} for row in rows]
assert len(found) > 300 and found == wanted
";

fn parquet_has_the_same(companion: &Companion, csv: &Path) {
    let python = project_root().join(".tools/companion/bin/python");
    if !python.exists() {
        println!("SKIPPED: there is no .tools/companion, which scripts/companion.sh installs");
        return;
    }
    let file = csv.with_extension("parquet");
    let mut export = companion.command(&["spend", "focus", "--format", "parquet"]);
    export.args(["--from", "2024-01-10", "--to", "2024-02-10", "--output"]).arg(&file);
    assert!(export.status().unwrap().success());
    let read = Command::new(python).args(["-c", COMPARE]).arg(&file).arg(csv).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}
