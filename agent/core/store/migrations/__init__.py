"""Alembic's scripts: one file per step, `env.py` runs them."""
