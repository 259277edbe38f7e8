"""The event stream outwards: server-sent events and webhooks."""
