-- Question: which alarms are these? Grain: alarm of $ids (rows of one text), open or not.
SELECT * FROM alarm WHERE id IN $ids ORDER BY opened_at, id;
