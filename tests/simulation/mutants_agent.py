"""What careless changes of the agent would take away, each as a patch: see `mutants_engine`."""

import asyncio

from tests.simulation.mutant import Mutants, without
from xchronos.agent import admission, placement_record, placement_runner
from xchronos.agent.attempt import journal
from xchronos.agent.lease import lease_clock
from xchronos.clock import SECOND
from xchronos.registry import transitions
from xchronos.store.contract import Txn
from xchronos.testing.simulation import machines


def launch_before_claim(patch):
    """The agent starts first, and writes down later that it has."""
    begin = placement_runner.PlacementRunner._begin

    async def begin_later(self, placement, unit):
        placement.begin_later = asyncio.create_task(begin(self, placement, unit))
        return True

    patch.setattr(placement_runner.PlacementRunner, "_begin", begin_later)


def begin_whatever_changed(patch):
    """The agent's claim does not look at what it was decided upon."""
    patch.setattr(placement_record, "begin", lambda *args: without(transitions.begin(*args), 0))


def finish_whatever_changed(patch):
    """The agent records an end although the placement was taken away from it."""
    patch.setattr(placement_record, "finish", lambda *args: without(transitions.finish(*args), 0))


def report_whatever_changed(patch):
    """The agent hands back what was taken away from it."""

    def unguarded(self, attempt):
        return Txn((), original(self, attempt).operations)

    original = placement_record.PlacementRecord._end
    patch.setattr(placement_record.PlacementRecord, "_end", unguarded)


def machines_that_judge_nothing(patch):
    """An agent begins whatever is placed on it, however full its machine is by then."""
    patch.setattr(admission.Admission, "refusals", lambda self, unit: ("", ""))


# -- the journal ------------------------------------------------------------------------------------------------------


def journals_that_are_not_found(patch):
    """A restarted agent does not find what the one before it has begun."""
    patch.setattr(journal.AttemptJournal, "exists", property(lambda self: False))


# -- the lease, and the guardian --------------------------------------------------------------------------------------


def no_lease_margin(patch):
    """What has OnPartition=stop goes on until well behind the end of the machine's lease."""
    patch.setattr(lease_clock, "STOP_AT", 1.5)
    patch.setattr(lease_clock, "KILL_AT", 1.7)


def no_guardian(patch):
    """Nobody kills in the place of an agent that is dead or stopped."""
    patch.setattr(machines.SimulatedGuardian, "put_off", lambda self, left: None)


def a_guardian_that_strikes_once(patch):
    """The guardian ends once it has struck, and the agent does not start another one."""
    strike = machines.SimulatedGuardian._strike

    def strike_and_end(self):
        strike(self)
        self.deadline = None
        self.put_off = lambda left: None

    patch.setattr(machines.SimulatedGuardian, "_strike", strike_and_end)


def a_guardian_that_reads_late(patch):
    """The guardian looks at its deadline every three seconds only."""

    def look(self):
        self._looks = self.deadline is not None
        if self.deadline is not None:
            if self.deadline <= self.now:
                self._strike()
            self._engine.loop.at(self.now + 3 * SECOND, self._look)

    patch.setattr(machines.SimulatedGuardian, "_look", look)


def a_guardian_that_leaves_no_mark(patch):
    """The agent does not hear that its guardian has struck, and takes what was killed for failed."""
    patch.setattr(machines.GuardianHand, "struck", property(lambda self: False))
    patch.setattr(machines.GuardianHand, "struck_since", lambda self, at: False)


CLAIMS: Mutants = {
    launch_before_claim: ("I1", 10),
    begin_whatever_changed: ("I2", 200),
    finish_whatever_changed: ("I2", 200),
    report_whatever_changed: ("I2", 200),
    machines_that_judge_nothing: ("slots are taken|in conflict", 100),
}
JOURNAL: Mutants = {journals_that_are_not_found: ("no rest", 100)}
LEASE: Mutants = {
    no_lease_margin: ("OnPartition=stop", 40),
    no_guardian: ("OnPartition=stop", 300),
    a_guardian_that_strikes_once: ("OnPartition=stop", 100),
    a_guardian_that_reads_late: ("OnPartition=stop", 50),
    a_guardian_that_leaves_no_mark: ("charged as failed", 50),
}
