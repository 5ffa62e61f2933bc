-- Question: as link_imports, for reading by column. Grain: src, dst, medium. Units: ns; us since 1970.
SELECT src, dst, medium, rtt_min_ns, rtt_p50_ns, rtt_p95_ns, loss_ratio, epoch_us(measured_at) AS measured_us
FROM imported_links
ORDER BY src, dst, medium;
