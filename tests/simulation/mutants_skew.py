"""What careless changes would take away from clusters whose daemons differ, each as a patch.

Each says which promise must be seen broken, and within how many seeds.
"""

from tests.simulation.mutant import Mutants
from xchronos.engine.state import unreadable
from xchronos.scheduler import acceptance
from xchronos.scheduler.timing import rule_changes, schedule


def decide_about_what_cannot_be_read(patch):
    """A unit that cannot be read has a fence like any other, and what of it is not at hand counts as gone."""
    patch.setattr(unreadable.UnreadableRecords, "__contains__", lambda self, unit: False)


def forget_what_has_fired_by_other_rules(patch):
    """A fixed expression fires again for a wall time that has fired, when the rules are others."""
    patch.setattr(rule_changes, "_after", lambda cursor, floor, fired: cursor.after(floor))


def keep_what_follows_by_other_rules(patch):
    """What follows is not computed anew when the rules are others."""
    for module in (acceptance, schedule):
        patch.setattr(module, "are_others", lambda unit, old: False)


SKEW: Mutants = {
    decide_about_what_cannot_be_read: ("was ended as a destroyed unit's, and its unit was not destroyed", 60),
    forget_what_has_fired_by_other_rules: ("fires again for the wall time", 60),
    keep_what_follows_by_other_rules: ("fires again for the wall time", 60),
}
