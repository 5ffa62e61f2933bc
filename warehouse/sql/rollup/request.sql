-- Part of statements: the inference requests that count, as in valid_inference. Grain: as inference.
FROM inference AS r
LEFT JOIN agent_degraded AS d
    ON d.agent = r.agent AND d.boot = r.boot AND r.started_at > d.degraded_from_at AND r.started_at <= d.degraded_until_at
WHERE d.agent IS NULL AND NOT r.is_duplicate_id AND epoch_us(r.started_at) <= epoch_us(r.received_at) + 86_400_000_000
