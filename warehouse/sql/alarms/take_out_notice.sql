-- Take out the rows of alarm_notice that are to be replaced.
DELETE FROM alarm_notice WHERE id IN (SELECT id FROM incoming);
