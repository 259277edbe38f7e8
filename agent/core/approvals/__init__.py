"""What waits for a person, and how it was decided."""
