CREATE TABLE credit (
  account BLOB NOT NULL, period TEXT NOT NULL, first_day TEXT NOT NULL,
  amount TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (account, period, first_day)
) WITHOUT ROWID;
