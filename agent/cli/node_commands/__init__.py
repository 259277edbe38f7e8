"""The subcommands of `agentctl`, one file each, loaded when called."""
