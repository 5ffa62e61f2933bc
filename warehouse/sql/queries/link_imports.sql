-- Question: what do imported matrices say of each link? Grain: src, dst, medium. Units: ns.
SELECT src, dst, medium, rtt_min_ns, rtt_p50_ns, rtt_p95_ns, loss_ratio, measured_at FROM imported_links ORDER BY ALL;
