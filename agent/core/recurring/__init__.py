"""Recurring actions as operators plan them; the nodes evaluate them."""
