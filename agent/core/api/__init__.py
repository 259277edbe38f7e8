"""HTTP around the services; no decision is made here."""
