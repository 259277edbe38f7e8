"""Rules: what is decided about a dispatch before anything is stored."""
