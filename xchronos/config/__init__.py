"""Inert settings of the daemon: defaults, then a TOML file, then the environment, then the command line.

A setting has one name everywhere: `listen` in the table `[api]` of the file is `XCHRONOS_API_LISTEN` in the environment
and `--api-listen` on the command line. What is given further up replaces what is given below as a whole, lists and
tables too. An empty variable counts as unset. All that is wrong is said at once.
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
