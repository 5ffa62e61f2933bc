-- Take out the rows of alarm_silence that are to be replaced.
DELETE FROM alarm_silence WHERE id IN (SELECT id FROM incoming);
