"""The messages that both sides speak, and strict decoding. Imports `domain` only."""
