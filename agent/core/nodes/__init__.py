"""The node protocol: what a node may say, and what it is told. Functions over a connection."""
