"""Keeping the core and this node in agreement: pull definitions, push events, report the node."""
