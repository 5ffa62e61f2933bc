-- Question: how much is there? Grain: one row. Units: measurements (a ping round is one); repeated ids count once.
SELECT
    (SELECT count(*) FROM ping_sample WHERE is_round_start AND NOT is_duplicate_id) AS ping,
    (SELECT count(*) FROM traceroute WHERE NOT is_duplicate_id) AS traceroute,
    (SELECT count(*) FROM throughput WHERE NOT is_duplicate_id) AS throughput,
    (SELECT count(*) FROM inference WHERE NOT is_duplicate_id) AS inference,
    (SELECT count(*) FROM http WHERE NOT is_duplicate_id) AS http,
    (SELECT count(*) FROM stamp WHERE NOT is_duplicate_id) AS stamp,
    (SELECT count(*) FROM serving WHERE NOT is_duplicate_id) AS serving,
    (SELECT count(*) FROM rtt_matrix) AS rtt_matrix;
