"""The directory intake: unit files that lie in directories are the units that are in force.

`scan` looks and reads, `selection` and `plan` decide (they are pure), `intake` acts.
"""

from xchronos.intake.files import source_of
from xchronos.intake.intake import Intake
from xchronos.intake.options import IntakeOptions
from xchronos.intake.problems import IntakeProblem

__all__ = ["Intake", "IntakeOptions", "IntakeProblem", "source_of"]
