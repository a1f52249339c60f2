"""An execution that has not ended, in a scheduler's memory, and what memory holds while a write about it is under way.

A scheduler does not wait for the store. It enters a decision into its memory immediately, as if the write had
happened, so that its next decisions see it. After that the store's answer and the watch tell of the same write, in any
order. The answer may be missing, and others (agents, people, other schedulers) write about the same execution.

The states of one execution, and the events that take it from one to another:

      .--------.      put       .----------------------------------.      assume it here      .---------.
      |        | -------------> |                                  | -----------------------> |         | --.
      |        |                |              stored              |                          | leaving |   | confirmed
      |  none  |     delete     |                                  | put, refused, unanswered |         | <-'
      |        | <------------- |                                  | <----------------------- |         |
      |        |                '----------------------------------'                          '---------'
      |        |                  |            ^             ^   ^                                 |
      |        |     assume it    |            | put,        |   | refused,                        | delete
      |        |     elsewhere    |            | confirmed   |   | unanswered                      v
      |        |                  v            |             |   | (it had a source)              none
      |        |                .----------------.           |   |
      |        |   assume it    |                | ----------|---'
      |        | -------------> |    assumed     |           |
      |        |  (it is new)   |                |           |
      |        |                '----------------'           |
      |        |                  |            |             | put, confirmed
      |        | <----------------'            | delete      |
      |        |  delete; refused, unanswered  | of the      |
      |        |  (it was new)                 v source      |
      |        |                          .------------.     |
      |        | <----------------------- |  uprooted  | ----'
      '--------'  delete; refused,        '------------'
                  unanswered

- *none*: memory does not hold it. It has ended, or nobody has told of it yet.
- *stored*: memory holds what the store held at `revision`. Only such an execution is decided upon.
- *leaving*: it stays where it is until the watch says that it has left or changed. It has a machine, and a machine's
  room is free only when the store says so; or it is to end. An answer that confirms the write changes nothing.
- *assumed*: memory has it where the write takes it, so that the room there is taken; it comes from nowhere (it is new)
  or from its *source*, where no machine has it.
- *uprooted*: assumed, and the watch says that it is not at its source any more. Either our own write has removed it
  there, and its place is told next; or somebody else was sooner, and a refusal has nothing to go back to.

Two guards come before the table (`transition`):

- News and confirmations count when they are newer than what memory holds. The watch repeats later what a confirmation
  has told already, and a confirmation may come after the watch has told of what followed the write.
- A refusal, or a missing answer, counts while memory still holds what the write was decided upon. A write without an
  answer may have happened: what the watch has brought since is the truth, and another write may be under way upon it.

`tests/engine/test_open_execution.py` pins the table. `tests/engine/test_memory_machine.py` drives it through all orders
of answers and news, and finds each of the races that the guards and the state *uprooted* were introduced for.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from xchronos.clock import Micros
from xchronos.model.lifecycle import IllegalEvent
from xchronos.model.records import Execution, ExecutionState
from xchronos.model.unit import Unit
from xchronos.registry.codec import FORMAT, decode
from xchronos.store.contract import Event, KeyValue

MemoryState = Literal["none", "stored", "assumed", "leaving", "uprooted"]

MemoryEvent = Literal[
    "assume",  # a write is submitted that takes it to a place
    "confirmed",  # the store's answer: the write has happened
    "refused",  # the store's answer: a guard did not hold, nothing was written
    "unanswered",  # there is no answer: the write has happened or not, nobody knows which
    "watched put",  # the watch brings its record, at a place
    "watched delete",  # the watch says that its record has left a place
]

Place = Literal[
    "here",  # where memory has it
    "source",  # where the write that is under way takes it from, when memory has it elsewhere
    "elsewhere",  # any other place
]
"""Where the event is about: where the write takes it, where what the answer is about came from, where the news is."""

MemoryAction = Literal[
    "keep",  # nothing
    "enter",  # file it anew, at the event's place
    "update",  # its record is another one, where it is
    "revise",  # what was assumed is true, as of the answer's revision
    "return",  # file it again as it was before the write
    "uproot",  # there is nothing to go back to
    "drop",  # file it nowhere
]

Transition = tuple[MemoryState, MemoryAction]

TRANSITIONS: Mapping[tuple[MemoryState, MemoryEvent, Place], Transition] = {
    ("none", "assume", "elsewhere"): ("assumed", "enter"),
    ("none", "watched put", "elsewhere"): ("stored", "enter"),
    ("stored", "assume", "elsewhere"): ("assumed", "enter"),
    ("stored", "assume", "here"): ("leaving", "keep"),
    ("stored", "watched put", "here"): ("stored", "update"),
    ("stored", "watched put", "elsewhere"): ("stored", "enter"),
    ("stored", "watched delete", "here"): ("none", "drop"),
    # It may have left long before memory hears of it: whatever is confirmed, the watch says when.
    ("leaving", "confirmed", "here"): ("leaving", "keep"),
    ("leaving", "refused", "here"): ("stored", "return"),
    ("leaving", "unanswered", "here"): ("stored", "return"),
    # Ours, or somebody else's that makes ours be refused: either way it is what the store holds now.
    ("leaving", "watched put", "here"): ("stored", "update"),
    ("leaving", "watched put", "elsewhere"): ("stored", "enter"),
    ("leaving", "watched delete", "here"): ("none", "drop"),
    ("assumed", "confirmed", "source"): ("stored", "revise"),
    ("assumed", "confirmed", "elsewhere"): ("stored", "revise"),
    ("assumed", "refused", "source"): ("stored", "return"),
    ("assumed", "refused", "elsewhere"): ("none", "drop"),
    # If it has happened after all, the watch tells of it, newer than what memory goes back to.
    ("assumed", "unanswered", "source"): ("stored", "return"),
    ("assumed", "unanswered", "elsewhere"): ("none", "drop"),
    ("assumed", "watched put", "here"): ("stored", "update"),
    ("assumed", "watched put", "elsewhere"): ("stored", "enter"),
    ("assumed", "watched put", "source"): ("stored", "enter"),
    ("assumed", "watched delete", "here"): ("none", "drop"),
    ("assumed", "watched delete", "source"): ("uprooted", "uproot"),
    # It is held to be gone only until its record is seen where it went.
    ("uprooted", "confirmed", "source"): ("stored", "revise"),
    ("uprooted", "refused", "source"): ("none", "drop"),
    ("uprooted", "unanswered", "source"): ("none", "drop"),
    ("uprooted", "watched put", "here"): ("stored", "update"),
    ("uprooted", "watched put", "elsewhere"): ("stored", "enter"),
    ("uprooted", "watched put", "source"): ("stored", "enter"),
    ("uprooted", "watched delete", "here"): ("none", "drop"),
}
"""What an event that counts leads to. Any other answer or news is about what memory has given up, and changes nothing.

A Txn that moves a record tells of both places in one revision. So what is uprooted is never confirmed, and is never
seen at its source or leaving the place where it went; these rows say what would be right if it were.
"""

_NEWER = frozenset(("watched put", "watched delete", "confirmed"))
"""Events that count when they tell of something newer; the others count when memory is what they were decided upon."""


def transition(state: MemoryState, event: MemoryEvent, place: Place, known: int, told: int) -> Transition:
    """The state after an event, and what is to be done.

    Args:
        state: The state so far.
        event: What has happened.
        place: Where that is about.
        known: The revision that memory holds: the record's, or the one that a write under way was decided upon; 0
            when it holds nothing.
        told: The revision of the news or of the confirmed write; of a write that was refused or has no answer, and of
            one that is submitted, the one that it was decided upon.

    Raises IllegalEvent, a defect of the caller, for a write that is decided upon anything but what is stored.
    """
    if known < told if event in _NEWER else known == told:
        found = TRANSITIONS.get((state, event, place))
        if found is not None:
            return found
    if event == "assume":
        raise IllegalEvent(f"an execution that is {state} in memory at {known} cannot be moved upon {told} ({place})")
    return state, "keep"


class _StateOnly(msgspec.Struct, gc=False):
    """As much of an execution's record as every one of them is asked for."""

    state: ExecutionState = "waiting"
    home: str = ""
    v: int = 1


_read_state = msgspec.json.Decoder(_StateOnly).decode


def _state_in(value: bytes) -> ExecutionState | None:
    """The state that a record's bytes tell; None when they cannot be read."""
    try:
        told = _read_state(value)
    except msgspec.MsgspecError:
        # Whoever wants the whole record says so in the log, and leaves it alone.
        return None
    return told.state if told.v <= FORMAT else None


def keeps_room(value: bytes) -> bool:
    """Whether the record of an execution without a machine says that it keeps a machine's room."""
    try:
        return bool(_read_state(value).home)
    except msgspec.MsgspecError:
        return False  # whoever wants the whole record says so in the log


class OpenExecution:
    """An execution that has not ended: on `machine`, or (empty) on none.

    Attributes:
        machine: Where memory has it. An entry keeps its place; where memory has it elsewhere, that is another entry.
        revision: That of the record, or of what the write that is under way was decided upon; 0 while it is new.
        unit: What it asks of a machine, as far as that is known.
        state: See the module. It changes by `transition` only.
        source: What the entry was, before the write that is under way, where no machine had it.
        begun: Whether its agent has begun it, so that it presses on its machine no more (see `backpressure`).
        lead: The clock's lead when it began to wait (see `timers`).
    """

    __slots__ = ("_known", "_record_state", "begun", "lead", "machine", "revision", "source", "state", "unit")

    def __init__(
        self,
        machine: str,
        known: Execution | KeyValue | Event,
        revision: int,
        unit: Unit | None = None,
        *,
        state: MemoryState = "stored",
        source: "OpenExecution | None" = None,
    ) -> None:
        self.machine = machine
        self._known = known
        # Every execution passes here: its state is read once per record, and the rest only when somebody asks for it.
        self._record_state = known.state if isinstance(known, Execution) else _state_in(known.value)
        self.revision = revision
        self.unit = unit
        self.state = state
        self.source = source
        self.begun = self._record_state != "placed"
        self.lead: Micros | None = None

    @property
    def execution(self) -> Execution:
        """The record. Raises StoreError when it cannot be read."""
        known = self._known
        if not isinstance(known, Execution):
            known = self._known = decode(known, Execution)
        return known

    @property
    def busy(self) -> bool:
        """Whether a write of ours about it is under way: nothing is decided upon it until that is known to be over."""
        return self.state != "stored"

    @property
    def readable(self) -> bool:
        """Whether the record can be read; `execution` raises StoreError if not."""
        return self._record_state is not None

    @property
    def reported(self) -> bool:
        """Whether its agent has handed it back."""
        return self._record_state == "reported"

    def place_of(self, machine: str) -> Place:
        """What the place where `machine` has an execution, or (empty) where none has it, is to this entry."""
        if machine == self.machine:
            return "here"
        return "elsewhere" if machine or self.source is None else "source"

    @property
    def origin(self) -> Place:
        """Where the write that is under way, if any, has taken it from: `elsewhere` if it is new."""
        if self.source is not None:
            return "source"
        return "elsewhere" if self.state == "assumed" else "here"

    def update(self, item: KeyValue | Event, state: MemoryState) -> None:
        """Its record is another one, where it is."""
        self._known = item
        self._record_state = _state_in(item.value)
        self.revision = item.mod_revision
        self.state = state
        self.source = None
        self.begun = self.begun or self._record_state != "placed"

    def revise(self, revision: int, state: MemoryState) -> None:
        """What was assumed of it is true, as of a revision."""
        self.revision = revision
        self.state = state
        self.source = None
