-- Why a trace has no path: its packets did not leave.
ALTER TABLE traceroute ADD COLUMN error VARCHAR;
COMMENT ON COLUMN traceroute.error IS 'Why a packet did not leave: name of the errno (ENETUNREACH) or of the resolver''s error (EAI_NONAME); NULL: all left';
