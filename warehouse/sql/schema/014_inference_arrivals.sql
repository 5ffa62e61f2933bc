-- Whether tokens came apart, as a fact beside the verdict on streaming.
ALTER TABLE inference ADD COLUMN token_arrivals BIGINT;
COMMENT ON COLUMN inference.token_arrivals IS 'How many times, at least, tokens came apart from those before; 1: all came together; NULL: no token, or measured before it was kept';
