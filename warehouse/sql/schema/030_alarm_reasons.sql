-- Why else an alarm may be over.
COMMENT ON COLUMN alarm.close_reason IS 'recovered, settled (the new is the usual), revoked, not measured any more or not seen any more; NULL: it is open';
