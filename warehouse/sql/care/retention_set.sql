-- Keep a kind for so many days (NULL: for ever) from now on.
UPDATE retention SET keep_days = $keep_days WHERE name = $name;
