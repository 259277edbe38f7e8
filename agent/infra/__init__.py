"""Thin edges to the outside world, used by both halves. Imports `domain` only."""
