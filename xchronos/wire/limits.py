"""Limits and defaults of the API that the daemon and its clients both go by.

Nothing is imported here: the options of the CLI's commands are made of these numbers.
"""

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
