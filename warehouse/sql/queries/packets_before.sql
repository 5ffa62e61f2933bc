-- Question: is there a probe packet of before $first? Grain: one row; the earliest, NULL: there is none. Those from the future are left out.
SELECT min(sent_at) AS first_at FROM ping_sample WHERE sent_at < $first AND epoch_us(sent_at) <= epoch_us(received_at) + 86_400_000_000;
