"""Who may operate the core, and the record of what they did."""
