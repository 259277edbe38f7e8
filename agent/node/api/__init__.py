"""The node's own HTTP API (DESIGN §6): one file per group of endpoints, wired in `routes`."""
