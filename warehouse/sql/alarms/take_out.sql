-- Take out the rows of alarm that are to be replaced.
DELETE FROM alarm WHERE id IN (SELECT id FROM incoming);
