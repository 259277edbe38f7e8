"""`GET /v1/doctor`: the invariants of the live state, each measured, judged and explained."""
