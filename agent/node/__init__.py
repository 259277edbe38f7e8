"""`agentd`: what runs on each machine. Never imports `agent.core` or `agent.runner`."""
