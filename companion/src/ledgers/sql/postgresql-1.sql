CREATE TABLE gw_account (
  name text COLLATE "C" PRIMARY KEY, version bigint NOT NULL
);
CREATE TABLE gw_spend (
  account text COLLATE "C" NOT NULL, period text NOT NULL, first_day date NOT NULL,
  amount numeric(31, 12) NOT NULL, version bigint NOT NULL, PRIMARY KEY (account, period, first_day)
);
CREATE TABLE gw_credit (
  account text COLLATE "C" NOT NULL, period text NOT NULL, first_day date NOT NULL,
  amount numeric(31, 12) NOT NULL, version bigint NOT NULL, PRIMARY KEY (account, period, first_day)
);
CREATE INDEX gw_spend_by_day ON gw_spend (first_day, account) WHERE period = 'DAY';
