"""The settings of the daemon: from the command line, else the environment, else a TOML file, else the defaults.

A setting has one name everywhere: `listen` in the table `[api]` of the file is `XCHRONOS_API_LISTEN` in the environment
and `--api-listen` on the command line. A value that is given in one place replaces the whole value of the places after
it in that list, also where it is a list or a table. An empty variable counts as unset. All that is wrong is told
together. Settings are values: nothing is opened or made here.
"""

from xchronos.config.load import config_files, load, misspelt_variables
from xchronos.config.settings import SettingRow, Settings, describe_settings
from xchronos.config.values import ROLES, STORES, Role

__all__ = [
    "ROLES",
    "STORES",
    "Role",
    "SettingRow",
    "Settings",
    "config_files",
    "describe_settings",
    "load",
    "misspelt_variables",
]
