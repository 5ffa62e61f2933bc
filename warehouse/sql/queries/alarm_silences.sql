-- Question: which silences are there? Grain: silence that holds after $now.
SELECT * FROM alarm_silence WHERE until_at > $now ORDER BY created_at, id;
