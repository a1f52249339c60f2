"""From a unit file's text to a Unit. All problems of a file are reported together, each with its line.

Nothing is imported here; take what you need from the modules.

- `unit`: `compile_unit`, which calls all the others. Start here.
- `reader`: reads the options of one section. Every module below uses it.
- `chronos`, `service`, `commands`, `container`: the sections [X-Chronos], [Service] (settings and Exec lines) and
  [Container]. [X-Fleet] is read by `unitfile.fleet.requirements`.
- `options`: judges every assignment by itself: unknown keys, and values that systemd would not accept.
- `consistency`: judges the unit as a whole: settings that contradict each other, and links to other units.
"""
