"""What each route of the core takes and answers: one module of tables per ground.

A module has `OPERATIONS` and `SCHEMAS`; `agent.core.api.description` puts them together, and a test
holds them against the routes that are served. Nobody lists 400, 401, 403, 413, 422 and 503.
"""
