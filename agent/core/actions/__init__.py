"""Actions as operators see them: dispatch, cancel, lists, history."""
