-- Question: as view imported_links, row by row, for reading by column (see warehouse.imported, which takes the newest and the medians:
-- most links have one row, and grouping half a million rows by texts takes longer than all else). Grain: as rtt_matrix. Units: ns; us
-- since 1970; NaN: not given. src and dst are the hashes of their ids, as link_import_names has them: a number for each row is read
-- in a third of the time of a text. medium: its place in records.link.MEDIA, from 1 on.
SELECT
    hash(src) AS src,
    hash(dst) AS dst,
    list_position(['internet', 'backbone', 'direct-connect'], medium) AS medium,
    coalesce(CAST(coalesce(p50_ns, rtt_ns) AS DOUBLE), 'NaN') AS rtt_p50_ns,
    coalesce(CAST(min_ns AS DOUBLE), 'NaN') AS rtt_min_ns,
    coalesce(CAST(p95_ns AS DOUBLE), 'NaN') AS rtt_p95_ns,
    coalesce(loss_ratio, 'NaN') AS loss_ratio,
    coalesce(CAST(epoch_us(measured_at) AS DOUBLE), 'NaN') AS measured_us,
    epoch_us(received_at) AS received_us
FROM rtt_matrix;
