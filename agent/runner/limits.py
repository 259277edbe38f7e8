"""Every bound of the runner, each with its reason. Nothing here is configurable but what says so.

Times are seconds, sizes are bytes, unless the name says otherwise.
"""

VERSION = "0.1.0"  # of the package; a test compares it with pyproject.toml
PROTOCOLS = (1,)

# -- the socket -----------------------------------------------------------------------------
LINE_BYTES_MAX = 262_144  # docs/runner-protocol.md, Frames
CONNECTIONS_MAX = 16  # agentd needs one; the rest is for people and for a restart's overlap
ACCEPT_AGAIN_S = 1.0  # after descriptors or memory ran out
SEND_BUFFER_SOFT_BYTES = 262_144  # above it no further request of that client is read
SEND_BUFFER_HARD_BYTES = 1_048_576  # above it (notices that nobody reads) the client is cut off
REQUESTS_PER_TURN = 64  # so that one talkative client does not hold up the others
SOCKET_PATH_BYTES_MAX = 107  # sun_path without its NUL
RECORDS_PAGE_MAX = 500  # of the longest ids and kinds: half of what a line may have
LIST_ITEMS_MAX = 10_000  # what fits in a line; forgetting so many takes half a second
PROGRESS_ITEMS_MAX = 256  # the answer must fit in one line
PROGRESS_MESSAGE_CHARS_MAX = 160
OUTPUT_CHUNK_BYTES_MAX = 65_536

# -- runs -----------------------------------------------------------------------------------
PARALLEL_DEFAULT = 8
PARALLEL_MAX = 128  # hello names every running run and must fit in one line
RUNS_PER_PARALLEL = 4  # last bound = RUNS_PER_PARALLEL * parallel + RUNS_EXTRA
RUNS_EXTRA = 64
FDS_PER_RUN = 7  # pidfd, two pipes, the record, two output files, their order
FDS_RESERVED = 64
GRACE_S_DEFAULT = 10.0
GRACE_S_MAX = 86_400.0
TIMEOUT_S_MAX = 10 * 366 * 86_400.0
INTEGER_MAX = 2**63 - 1

# -- stopping -------------------------------------------------------------------------------
STOP_POLL_FIRST_S = 0.02
STOP_POLL_MAX_S = 0.25
SURVIVOR_PATIENCE_S = 5.0  # after KILL; what is left then waits inside the kernel
RECOVERY_PATIENCE_S = 10.0
WALL_LEAP_S = 3_600.0  # so far ahead the wall clock is set by mistake or after a boot without one
WALL_DOUBT_S = 600.0  # so long such a leap ends no window; both as in agentd (DESIGN, Time)
CPU_GRACE_S = 2  # between SIGXCPU, which a script may catch, and the kernel's KILL

# -- files ----------------------------------------------------------------------------------
RECORD_FILE_BYTES = 4_096
OUTPUT_CAP_BYTES = 262_144  # per stream: half is the head, two quarters alternate as the tail
OUTPUT_CAP_BYTES_MIN = 4_096  # what a manifest may set instead
OUTPUT_CAP_BYTES_MAX = 1 << 28
MARKS_CAP_BYTES = 65_536  # 4,096 changes between stdout and stderr, head and tail
OUTPUTS_BYTES_MAX = 1 << 30  # of all runs together; --output-bytes-max says otherwise
OUTPUTS_BYTES_MAX_LEAST = 1 << 20
OUTPUTS_KEEP = 0.9  # pruning goes on to this share, so that it is not needed again at once
TAIL_BYTES = 2_048  # in notices
PIPE_READ_BYTES = 65_536
OUTPUT_RETRY_S = 1.0  # after a full disk
PROGRESS_FILE_BYTES_MAX = 65_536
PROGRESS_TAIL_BYTES = 4_096  # a progress line longer than this is not read
UNRECORDED_MAX = 1_024  # failed starts that a full disk kept from being written, held in memory
MESSAGE_CHARS_MAX = 300  # of a spawn error: it must fit in the record's slot

# -- housekeeping ---------------------------------------------------------------------------
TICK_S = 1.0  # only while something runs
COLLECT_WITHIN_S = 1.0  # an exit record that nobody collected by then is fsynced
SYNC_BUDGET_S = 0.02  # fsyncs in one go; the rest waits for the next turn
LEAVE_AFTER_S = 2.0
LEAVE_UNVISITED_AFTER_S = 30.0
UPGRADE_SETTLE_S = 3.0  # an installer replaces many files; the newest must be so old
LOCK_PATIENCE_S = 2.0  # a child between fork and exec may hold a dead runner's lock for a moment

# -- the catalogue --------------------------------------------------------------------------
KINDS_MAX = 1_024
KINDS_SETTLE_S = 0.2  # after a change: installing a kind is several changes
MANIFEST_BYTES_MAX = 65_536
KINDS_ANSWER_BYTES_MAX = 240_000
FRESH_NS = 100_000_000  # younger changes are not cached: clocks of file systems tick in 4-10 ms
