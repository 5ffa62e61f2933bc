"""Pure: links -> graph -> routes -> scenarios. No I/O, no clock, no randomness but a seed."""
