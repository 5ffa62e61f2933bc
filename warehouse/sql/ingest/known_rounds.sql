-- Question: is one of the incoming ping rounds stored already? Grain: one truth value. $since and $until as in ping_sample.sql.
SELECT EXISTS (
    FROM ping_sample
    WHERE is_round_start AND started_at BETWEEN $since AND $until
        AND measurement_id IN (SELECT measurement_id FROM incoming WHERE is_round_start)
);
