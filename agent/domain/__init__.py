"""Pure: no I/O, no clock, no randomness. What is true on every machine."""
