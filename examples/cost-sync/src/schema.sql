CREATE TABLE account (name BLOB PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE spend (
  account BLOB NOT NULL, period TEXT NOT NULL, first_day TEXT NOT NULL,
  amount TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (account, period, first_day)
) WITHOUT ROWID;
