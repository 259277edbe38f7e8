"""The commands of `corectl`, one subject per file."""
