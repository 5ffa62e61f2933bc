-- Question: how many rows that the catalog keeps were committed after snapshot $mark, and since when did they arrive? Grain: one row.
SELECT count(*) AS n, min(TRY_CAST(received_at AS TIMESTAMPTZ)) AS arrived_from FROM kept_in WHERE begin_snapshot > $mark;
