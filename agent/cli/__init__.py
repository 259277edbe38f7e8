"""The commands people type: API clients, nothing more. Imports `domain`, `wire`, `infra`."""
