"""The role "intake": the units in force are those whose files are in some directories.

`scan` lists and reads the directories. `selection` and `plan` decide, and are pure. `intake` acts.
"""

from xchronos.intake.files import source_of
from xchronos.intake.intake import Intake
from xchronos.intake.options import IntakeOptions
from xchronos.intake.problems import IntakeProblem

__all__ = ["Intake", "IntakeOptions", "IntakeProblem", "source_of"]
