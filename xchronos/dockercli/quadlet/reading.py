"""How the values of a key are read: quadlet's quotes and words, systemd's variables, then the key's own rule.

Measured with the generators of podman 5.4.2 and 5.8.6: `tests/model/test_container_variables.py` has what they write.
"""

import re
from collections.abc import Mapping

from xchronos.dockercli.quadlet.draft import ContainerDraft, Form, LineRule, Rule
from xchronos.dockercli.quadlet.variables import (
    ExpansionBudget,
    Variables,
    expand_line,
    expand_value,
    literal,
    names_of,
)
from xchronos.errors import InvalidValue, Severity
from xchronos.unitfile.words import Escapes, split_words

_FOR_A_SHELL = frozenset(("Exec", "Entrypoint", "HealthCmd", "PodmanArgs", "Environment", "Label", "Annotation"))
"""The keys in which a `$NAME` that stays as it is may well be meant: something in the container may read it."""

_QUOTED = re.compile(r"""(?:"[^"]*"|'[^']*')""")


class ValueReader:
    """Reads the assignments to one key into a draft."""

    def __init__(self, key: str, rule: Rule | LineRule, variables: Variables, budget: ExpansionBudget) -> None:
        self._key = key
        self._rule = rule
        self._variables = variables
        self._budget = budget
        self.many = rule.many if isinstance(rule, LineRule) else rule.form in (Form.RAW, Form.WORDS)
        """Whether every assignment counts, not only the last."""
        self.open = False
        """Whether a value names a variable that only the machine knows."""

    def read(self, draft: ContainerDraft, value: str) -> list[tuple[str, Severity]]:
        """Read one assignment. Returns its problems, as message and severity."""
        rule = self._rule
        if isinstance(rule, Rule) and rule.reset is not None and value in ("", '""'):
            rule.reset(draft)
            return []
        try:
            words = self._words(value)
        except InvalidValue as error:
            return [(str(error), "error")]
        if isinstance(rule, Rule) and words == [""] and rule.form in (Form.TEXT, Form.SWITCH):
            return []
        joined = isinstance(rule, Rule) and rule.joined
        expands = not isinstance(rule, Rule) or rule.form is not Form.SWITCH
        names = names_of(words, joined=joined) if expands else frozenset()
        found: list[tuple[str, Severity]] = []
        found += ((message, "warning") for message in self._doubts(words, names, joined=joined))
        refusal = ""
        for stand_in, env in self._variables.candidates(names):
            self.open |= bool(stand_in)
            try:
                if stand_in:
                    self._apply(ContainerDraft(), words, env, joined=joined)
                self._apply(draft, words, env, joined=joined)
            except InvalidValue as error:
                refusal = refusal or str(error)
                continue
            found += ((message, "warning") for message in draft.warnings)
            draft.warnings.clear()
            return found
        draft.warnings.clear()
        shown = " and ".join(f"${name}" for name in sorted(names))
        if not self.open:
            return [*found, (refusal + (f" ({shown} comes from [Service])" if names else ""), "error")]
        # Of a word that is nothing but a variable, nothing is known at all.
        if not any(word in (f"${name}", f"${{{name}}}") for word in words for name in names):
            found.append((f"cannot be checked before {shown} is known: {refusal}", "warning"))
        return found

    def _words(self, value: str) -> list[str]:
        if isinstance(self._rule, LineRule) or self._rule.form is Form.WORDS:
            return split_words(value, Escapes.KEEP_UNKNOWN)
        if self._rule.form is Form.RAW:
            return [value]
        return [value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value]

    def _apply(self, draft: ContainerDraft, words: list[str], env: Mapping[str, str], *, joined: bool) -> None:
        self._budget.check()
        if isinstance(self._rule, LineRule):
            line = expand_line(words, env)
            self._budget.take(line)
            self._rule.apply(draft, line)
            return
        for word in words:
            plain = self._rule.form is Form.SWITCH or "$" not in word
            value = word if plain else expand_value(word, env, joined=joined)
            self._budget.take((value,))
            self._rule.apply(draft, value)

    def _doubts(self, words: list[str], names: frozenset[str], *, joined: bool) -> list[str]:
        """What was probably meant otherwise, although it can be read."""
        doubts = []
        plain = isinstance(self._rule, Rule) and self._rule.form in (Form.RAW, Form.TEXT)
        if plain and self._key != "GPUs" and _QUOTED.fullmatch(words[0]) is not None:
            doubts.append(f"the quotes are part of the value, as in podman: expected {words[0][1:-1]}")
        missing = sorted(
            name for name in names if name not in self._variables.values and not self._variables.is_open(name)
        )
        if missing and not self._variables.final:
            shown = " and ".join(f"${{{name}}}" for name in missing)
            doubts.append(
                f"{shown} expands to nothing: no such variable in [Service]; for a $ that the container reads write $$"
            )
        if self._key not in _FOR_A_SHELL:
            kept = [found for word in words if (found := literal(word, joined=joined))]
            doubts += (f"{name} stays as it is within a word: expected ${{{name[1:]}}}" for name in kept)
        return doubts
