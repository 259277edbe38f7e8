"""The node agent and its core. Nothing is re-exported: import from the module that has it."""
