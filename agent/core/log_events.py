"""The names of everything `cored` logs; `docs/core-api.md` explains each."""

READY = "ready"
STOPPING = "stopping"
STOPPED = "stopped"
STATE_OPENED = "state_opened"
ADMIN_TOKEN_WRITTEN = "admin_token_written"  # noqa: S105  (a word in the log, not a token)
ADMIN_TOKEN_READABLE = "admin_token_readable_by_others"  # noqa: S105
LISTENING_IN_THE_CLEAR = "listening_in_the_clear"
ENROLLED = "enrolled"
ENROLMENT_REFUSED = "enrolment_refused"
NODE_FENCED = "node_fenced"
EVENTS_REFUSED = "events_refused"
REQUEST_FAILED = "request_failed"
STORE_FAILED = "store_failed"
STORE_RECOVERED = "store_recovered"
