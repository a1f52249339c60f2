"""How much is allowed: every size, count and deadline that guards a daemon against what others ask of it.

Nothing is imported here, so every room can go by these numbers: the pure rooms, the roles, the clients, the command
line. OPERATIONS.md has them as a table for people. A message that refuses something for its size says the limit.
"""

# -- unit files -------------------------------------------------------------------------------------------------------

UNIT_BYTES = 64 * 1024
"""The most bytes of one unit file, and of one drop-in. No unit that Debian ships is a quarter as large."""

WHOLE_UNIT_BYTES = 4 * UNIT_BYTES
"""The most bytes of a unit file together with its drop-ins."""

HEAVY_BYTES = 8 * 1024
"""A stored unit of more bytes is compiled outside the event loop. One of so many takes 5 ms, or 20 ms at the worst."""

RECORD_BYTES = 512 * 1024
"""The most bytes of a unit's record in the store: half of a Txn that every store takes."""

DROP_INS = 64
"""The most drop-ins of one unit."""

UNIT_LINES = 2_000
"""The most lines of one unit file, and of one drop-in. Comments and empty lines count."""

PROBLEMS_TOLD = 50
"""The most problems of one unit that are told one by one. Those that are left are counted in one more line."""

PROBLEM_CHARACTERS = 500
"""The most characters of one problem's message. What a message quotes may be as long as the file."""

REFUSED_FILES = 1_000
"""The most refused files of one machine of which the whole cluster is told. Its own status tells of all."""

STEPS = 256
"""The most commands of one unit, in all its phases."""

TRIGGERS = 100
"""The most triggers of one unit. Its scheduler stores how far each is with every fire."""

PLACEMENT_TERMS = 100
"""The most values that one key of `[X-Fleet]` has. Each is asked of every machine, with every placement."""

EXPANDED_CHARACTERS = 1024 * 1024
"""The most characters that a value has, and that a command has, when its specifiers and variables are filled in.

It is also the most that all docker command lines of one unit have together, and all values of its [Container].
"""

PORTS = 4_096
"""The most ports that one container publishes, and the most that it exposes; counted before a range is expanded.

It is also the most that all docker command lines of one unit have together, and all values of its [Container].
"""

STORED_PORTS = 65_536
"""As PORTS, of a unit that an earlier version has accepted, which knew no bound: each port fits once."""

PATH_CHARACTERS = 4_096
"""The most characters of what a submission calls its file, and of the name of a drop-in."""

# -- requests to the API ----------------------------------------------------------------------------------------------

BODY_BYTES = 1024 * 1024
"""The most bytes of a request's body. A unit of the largest size fits, however JSON has to escape it."""

BODIES_BYTES = 32 * 1024 * 1024
"""The most bytes of the bodies of all requests that are not answered."""

CONNECTIONS = 512
"""The connections that the API has at a time, where the process has the descriptors. One peer has three quarters."""

DESCRIPTORS_KEPT = 256
"""The descriptors that the API leaves to the store, the executors and the files of attempts; and half of the others."""

HALF_REQUEST_SECONDS = 10.0
"""How long a request may take to arrive, from the connection or the answer before it to the last byte of its body."""

KEEP_ALIVE_SECONDS = 5
"""How long a connection is kept after an answer, until the next request begins."""

SLOW_READER_SECONDS = 30.0
"""How long a peer may take no byte of its answer."""

UNSENT_BYTES = 64 * 1024 * 1024
"""The most bytes of answers that wait for peers to take them."""

REQUESTS_AT_ONCE = 8
"""The requests that are answered at a time, besides lists, unit files and logs. Probes and the unix socket are not
counted."""

REQUESTS_WAITING = 128
"""The requests that wait for that. What comes then is told to ask again."""

LISTS_AT_ONCE = 2
"""The lists of units, executions and machines that are made at a time."""

LISTS_WAITING = 64
"""The lists that wait for that."""

COMPILES_AT_ONCE = 2
"""The unit files that are compiled at a time, for a submission or for being verified."""

COMPILES_WAITING = 64
"""The unit files that wait for that."""

LOGS_AT_ONCE = 128
"""The logs that are read at a time, those that are followed included."""

UNITS_DESTROYED = 1_000
"""The most units that one request destroys. A client asks as often as it has to."""

# -- the process that serves the API ----------------------------------------------------------------------------------

WORKER_NICENESS = 10
"""How much the process that makes lists and compiles for the API gives way to the others (nice(2))."""

API_STOP_SECONDS = 8.0
"""The seconds that it has for what is under way when the daemon ends. Then it is killed."""

WORKER_IDLE_SECONDS = 20.0
"""How long the process that makes lists and compiles for the API is kept when nobody asks for either."""

# -- answers of the API -----------------------------------------------------------------------------------------------

UNITS_PER_PAGE = 500
"""The units in one page of a list. They are few enough that the daemon turns to its schedule between two pages."""

MOST_LISTED = 5_000
"""The most units or executions that one answer lists."""

EXECUTIONS_LISTED = 100
"""The executions that an answer lists when the request does not say how many."""

RECENT_EXECUTIONS = 5
"""The ended executions that are shown with a unit when the request does not say how many."""

MOST_RECENT = 1_000
"""The most ended executions that are shown with a unit."""

FIRE_TIMES = 10
"""The fire times that a calendar has when the request does not say how many."""

MOST_FIRE_TIMES = 1_000
"""The most fire times that a calendar has."""

PART_BYTES = 64 * 1024
"""The most bytes of an answer's body that its reader takes at a time."""

# -- what a machine says of itself ------------------------------------------------------------------------------------

METADATA_KEYS = 64
"""The most metadata of one machine."""

METADATA_KEY_BYTES = 255
"""The most bytes of the name of one of a machine's metadata."""

METADATA_VALUE_BYTES = 1_024
"""The most bytes of the value of one of a machine's metadata."""

# -- files of the host that units name --------------------------------------------------------------------------------

HOST_FILE_BYTES = 1024 * 1024
"""The most bytes of an environment file, a label file, a seccomp profile or a secret. A step's environment has to fit
into the some 2 MiB that the kernel gives to it."""

HOST_FILES_MATCHED = 100
"""The most files that one EnvironmentFile= with wildcards matches."""

HOST_FILE_SECONDS = 10.0
"""The seconds that a host has for opening and reading one of these files."""

HOST_FILE_THREADS = 16
"""The threads that read them. A file that does not answer keeps one."""

OUTSIDE_TOLD = 100
"""The most files outside of read_paths that the status names."""

UNIT_DIRECTORY_PATIENCE = 5.0
"""The seconds for which other directories of unit files wait for one that has not answered."""

UNIT_DIRECTORY_SECONDS = 60.0
"""The seconds that a directory of unit files, or a hundred of its files, have for being read."""

# -- artifacts --------------------------------------------------------------------------------------------------------

ARTIFACT_BYTES = 4 * 1024**3
"""The most bytes of an artifact."""

ARTIFACT_SECONDS = 1800.0
"""The seconds that fetching an artifact may take, further tries and their pauses included."""

ARTIFACT_SILENCE = 60.0
"""The seconds of silence after which a server, or the file's own, is given up."""

ARTIFACT_RETRY_AFTER = 120.0
"""The most seconds that a server's Retry-After is followed for. One that asks for more is not asked again."""

ARTIFACT_PIECE = 256 * 1024
"""The bytes of an artifact that are read and written together."""
# -- the event loop ---------------------------------------------------------------------------------------------------

STALL_SECONDS = 0.1
"""How long the event loop may stand before that is counted and logged with what held it up."""

SWITCH_SECONDS = 0.0005
"""How long a thread that computes keeps the interpreter before the event loop gets its turn, where the loop asks."""

ANSWER_SECONDS = 1.0
"""How long a probe waits for the event loop that schedules before it says that this one stands."""

# -- engines ----------------------------------------------------------------------------------------------------------

ENGINE_AWAY_SECONDS = 900.0
"""The seconds for which a step that waits for an engine to come back keeps its own time. After that they count."""

# -- what is remembered -----------------------------------------------------------------------------------------------

HISTORY_KEYS = 50_000
"""The most keys of histories that a scheduler remembers, some 8 MB. A history beyond that is read before it is cut."""

# -- machines that are down -------------------------------------------------------------------------------------------

DOWN_DAYS = 30
"""For how many days a machine that is down is remembered. `xchronosctl machine forget` forgets it sooner."""

DOWN_MACHINES = 1_000
"""The most machines that are down and remembered. Those that went down first are forgotten first."""
