-- Make room for a newer description of the incoming sites.
DELETE FROM site WHERE id IN (SELECT id FROM incoming);
