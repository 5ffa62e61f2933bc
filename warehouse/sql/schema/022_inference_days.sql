-- By day: what was served in an hour is then read from a file or two, not from a month's. Files written before stay as they are.
ALTER TABLE inference SET PARTITIONED BY (year(received_at), month(received_at), day(received_at));
