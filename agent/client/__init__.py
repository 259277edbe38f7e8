"""A small client of the core for Python programs (docs/client.md)."""
