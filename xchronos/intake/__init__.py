"""The directory intake: unit files that lie in directories are the units that are in force.

`scan` looks and reads, `selection` and `plan` decide (they are pure), `intake` acts.
"""

from xchronos.intake.files import source_of
from xchronos.intake.intake import Intake
from xchronos.intake.problems import IntakeProblem

__all__ = ["Intake", "IntakeProblem", "source_of"]
