"""The hands: starts and supervises scripts. Standard library only, nothing else of this project."""
