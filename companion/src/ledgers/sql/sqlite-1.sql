CREATE TABLE gw_account (
  name TEXT PRIMARY KEY, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE gw_spend (
  account TEXT NOT NULL, period TEXT NOT NULL, first_day TEXT NOT NULL,
  amount TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (account, period, first_day)
) WITHOUT ROWID;
CREATE TABLE gw_credit (
  account TEXT NOT NULL, period TEXT NOT NULL, first_day TEXT NOT NULL,
  amount TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (account, period, first_day)
) WITHOUT ROWID;
CREATE INDEX gw_spend_by_day ON gw_spend (first_day, account) WHERE period = 'DAY';
