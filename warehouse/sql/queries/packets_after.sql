-- Question: is there a probe packet of after $last? Grain: one row; the latest, NULL: there is none. Those from the future are left out.
SELECT max(sent_at) AS last_at FROM ping_sample WHERE sent_at > $last AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000;
