# Follows the ledgers of a server or a cluster into a database, and prints its rows before and after a change.
import json
import sys

port = int(sys.argv[1])
redis = Redis(port=port, socket_timeout=60)
# The tables of the page are those of the worker.
by_page = sqlite3.connect(":memory:")
by_page.executescript(sys.argv[2])
database = open_database(":memory:")
of = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
assert database.execute(of).fetchall() == by_page.execute(of).fetchall()


def total(table="spend"):
    of = f"SELECT amount FROM {table} WHERE account = ? AND period = 'TOTAL'"
    return database.execute(of, (b"spend:7",)).fetchone()[0]


follow("127.0.0.1", port, database, forever=False)
found = {"total": total(), "credit": total("credit"), "accounts": database.execute("SELECT count(*) FROM account").fetchone()[0]}
redis.execute_command("GW.ADDCOST", "spend:7", "1")
redis.execute_command("GW.CREDIT", "spend:7", "TOTAL", "-1")
follow("127.0.0.1", port, database, forever=False)
found["total_later"], found["credit_later"] = total(), total("credit")
month = database.execute("SELECT max(first_day) FROM spend WHERE period = 'MONTH'").fetchone()[0]
found["report"] = len(database.execute(sys.argv[3].replace("2026-11-01", month)).fetchall())
since = 0
found["rows"] = [
    [table, key.decode(), version, since, period, first_day, amount]
    for table in ("spend", "credit")
    for key, version, period, first_day, amount in database.execute(
        f"SELECT account, version, period, first_day, amount FROM {table} WHERE account IN (?, ?)", (b"spend:7", b"spend:8"))
]
print(json.dumps(found))
