"""Kinds of lists: words, paths, environment variables, capabilities, exit statuses, CPUs, units, conditions.

systemd judges a list word by word. It drops the words that it cannot use, and the others count. The verdict of such a
list is *ignored*, and its effect shows the words that count. The test `test_what_is_good_of_a_list_counts` pins this.
"""

import re
from collections.abc import Callable

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.capabilities import CAPABILITY_NAMES, capability_name, capability_number
from xchronos.unitfile.directives.forms import merge_ranges, plain_path, relative_path
from xchronos.unitfile.directives.scalars import parse_integer
from xchronos.unitfile.directives.signals import exit_status_set
from xchronos.unitfile.directives.verdict import OK, DirectiveVerdict, Kind, Scope, ignored, shown, warned
from xchronos.unitfile.environment import is_valid_variable, parse_environment
from xchronos.unitfile.names import is_valid_name
from xchronos.unitfile.words import Escapes, leading_words, split_words

_CPU_MAX = 8191
_RANGE = re.compile(r"([^-]+)(?:-([^-]+))?")
_SPACES = re.compile(r"[ \t\n\r]+")
_LOG_FIELD = re.compile(r"[A-Z0-9][A-Z0-9_]{0,63}=")
_URL = re.compile(r"(?:https?://|file:/|info:|man:).", re.DOTALL)
_SECURE_BITS = "keep-caps keep-caps-locked no-setuid-fixup no-setuid-fixup-locked noroot noroot-locked"
_MOUNT_OPTIONS = frozenset(("rbind", "norbind"))


def _outcome(effect: list[str], bad: list[str]) -> DirectiveVerdict:
    return DirectiveVerdict("ignored" if bad else "ok", "; ".join(bad), tuple(effect))


def _each(words: list[str], judge: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """The results of `judge` for the words that it accepts, and its errors for the others."""
    good: list[str] = []
    bad: list[str] = []
    for word in words:
        try:
            good.append(judge(word))
        except InvalidValue as problem:
            bad.append(str(problem))
    return good, bad


def _each_word(value: str, escapes: Escapes, judge: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """As `_each`, for the words of a value. An open quote drops the rest of the value, but no word before it."""
    words, broken = leading_words(value, escapes)
    good, bad = _each(words, judge)
    return good, [*bad, broken] if broken else bad


def words_of(known: str, *, label: str | None = None, loud: bool = True, one: bool = False, each: bool = False) -> Kind:
    """Words out of the list `known`, shown under `label` (the key if None). Other words do not count.

    With `loud`, there is a warning if no word counts; with `each` as well, there is one for every other word. With
    `one`, only a single word is allowed.
    """
    names = frozenset(known.split())

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        listed = value.split()
        bad = [word for word in listed if word not in names]
        good = [word for word in listed if word in names]
        name = key if label is None else label
        effect = (f"{name}: {' '.join(good)}",) if good and name else ()
        if one and len(listed) > 1:
            effect, bad = (), [value]
        elif not (bad and loud and (each or not good)):
            return shown(*effect)
        return ignored(f"{bad[0]!r} is none of its values: expected {', '.join(sorted(names))}", *effect)

    return judge


secure_bits = words_of(_SECURE_BITS, label="Secure Bits", loud=False)


def exit_statuses(_key: str, value: str, _scope: Scope) -> DirectiveVerdict:
    """`SuccessExitStatus=` and the like: exit codes and signals. systemd does not show them."""
    _, bad = exit_status_set(value.replace("\\", "").split())
    if bad:
        return ignored(
            f"{bad[0]!r} is neither an exit status nor a signal: expected 0 to 255, a name such as TEMPFAIL, or SIGTERM"
        )
    return OK


def capabilities(*, ambient: bool = False) -> Kind:
    """A set of capabilities, for `AmbientCapabilities=` if `ambient`. As in systemd, unknown names do not count."""

    def judge(key: str, value: str, _scope: Scope) -> DirectiveVerdict:
        if ambient and not value:
            return OK
        inverted = value.startswith("~")
        listed: set[int] = set()
        for word in split_words(value.removeprefix("~"), Escapes.DROP_RELAXED):
            try:
                listed.add(capability_number(word))
            except InvalidValue:
                continue  # systemd gives no warning either. `parse_capabilities` is the strict reading.
        known = set(range(len(CAPABILITY_NAMES)))
        kept = known - listed if inverted else listed & known
        beyond = not inverted and kept != listed
        if (not kept and not beyond) if ambient else len(kept) == len(CAPABILITY_NAMES):
            return OK
        names = " ".join(capability_name(number) for number in sorted(kept))
        return shown(f"{key}: {names}".rstrip())

    return judge


def environment(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`Environment=`: a list of assignments `NAME=value`."""
    parsed = parse_environment([value], scope.name)
    effect = [f"{key}: {name}={scope.expand(text)}" for name, text in parsed.values.items()]
    if not parsed.dropped:
        return shown(*effect)
    dropped = parsed.dropped[0]
    message = f"{dropped!r} is no assignment: expected NAME=value, quoted if it holds blanks"
    try:
        scope.expand(dropped)
    except InvalidValue as unknown:
        message = f"the variable is not set: {unknown}"
    return ignored(message, *effect)


def variables(*, assignments: bool = False) -> Kind:
    """A list of names of environment variables. With `assignments`, `NAME=value` is allowed too."""

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        def judge_word(word: str) -> str:
            text = scope.expand(word)
            name, equals, _ = text.partition("=")
            if not is_valid_variable(name) or (equals and not assignments):
                raise InvalidValue(f"{text!r} is no name of a variable: expected letters, digits and _, no digit first")
            return text

        good, bad = _each_word(value, Escapes.C if assignments else Escapes.DROP, judge_word)
        return _outcome([f"{key}: {word}" for word in good], bad[:1])

    return judge


def environment_file(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`EnvironmentFile=`: one path. A `-` before it says that the file may be missing."""
    if not value:
        return OK
    text = scope.expand(value)
    optional = text.startswith("-")
    return shown(f"{key}: {'-' * optional}{plain_path(text[optional:])}")


def paths(*, prefixes: str = "", label: str | None = None) -> Kind:
    """A list of absolute paths, shown on one line under `label` (the key if None).

    Each path may have the characters of `prefixes` before it, in that order.
    """

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        def judge_word(word: str) -> str:
            text = scope.expand(word)
            prefix = ""
            for mark in prefixes:
                if text.startswith(mark):
                    prefix, text = prefix + mark, text[1:]
            return prefix + plain_path(text)

        good, bad = _each_word(value, Escapes.DROP, judge_word)
        name = key if label is None else label
        return _outcome([f"{name}: {' '.join(good)}"] if good and name else [], bad[:1])

    return judge


def bind_paths(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`BindPaths=`: a list of `source[:destination[:options]]`."""

    def judge_word(word: str) -> str:
        source, *rest = (scope.expand(part) for part in word.split(":", 2))
        prefix = "-" if source.startswith("-") else ""
        source = plain_path(source.removeprefix("-"))
        destination = plain_path(rest[0]) if rest else source
        option = rest[1] if len(rest) == 2 else "rbind"
        if option not in _MOUNT_OPTIONS:
            raise InvalidValue(f"{option!r} is no option of a bind mount: expected rbind or norbind")
        return f"{prefix}{source}:{destination}:{option}"

    good, bad = _each_word(value, Escapes.DROP, judge_word)
    return _outcome([f"{key}: {word}" for word in good], bad[:1])


def temporary_file_systems(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`TemporaryFileSystem=`: a list of `path[:options]`."""

    def judge_word(word: str) -> str:
        path, colon, options = scope.expand(word).partition(":")
        return f"{plain_path(path)}{colon}{options}"

    good, bad = _each_word(value, Escapes.DROP, judge_word)
    return _outcome([f"{key}: {word}" for word in good], bad[:1])


def directories(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`RuntimeDirectory=` and the like: a list of relative paths, shown sorted.

    A path may be followed by a colon and the path of a symbolic link to it, except in `ConfigurationDirectory=`.
    """
    links: list[str] = []

    def judge_word(word: str) -> str:
        source, *rest = (scope.expand(part) for part in word.split(":"))
        path = relative_path(source)
        if path == "private" or path.startswith("private/"):
            raise InvalidValue(f"{path!r} is reserved: expected a directory other than 'private'")
        if rest and rest[0]:
            if key == "ConfigurationDirectory":
                raise InvalidValue(f"{word!r} names a link: expected directories only, links are for the other kinds")
            links.append(f"{key}Symlink: {path}:{relative_path(rest[0])}")
        return path

    good, bad = _each_word(value, Escapes.C, judge_word)
    return _outcome([f"{key}: {word}" for word in sorted(good)] + links, bad[:1])


def cpus(*, special: str = "", before: tuple[str, ...] = ()) -> Kind:
    """A set of numbers and ranges of CPUs or memory nodes, shown after the lines `before`.

    `special` is a word that may stand instead of the set.
    """
    shows_empty = bool(special)

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        if special and value == special:
            return shown(*before, f"{key}: 0") if before else OK
        words = [part for word in split_words(scope.expand(value), Escapes.DROP) for part in word.split(",") if part]
        if not words:
            return OK
        mask = 0  # a bit for each CPU: thousands of words may each name them all
        message = ""
        for word in words:
            found = _RANGE.fullmatch(word)
            if not found:
                raise InvalidValue(f"{word!r} is no CPU: expected a number or a range such as 0-3")
            low = parse_integer(found[1], 0, _CPU_MAX, "a CPU")
            high = parse_integer(found[2], 0, _CPU_MAX, "a CPU") if found[2] else low
            if low > high:
                message = f"the range {word!r} is upside down: expected the lower number first"
            else:
                mask |= (2 << high) - (1 << low)
        numbers = {number for number in range(_CPU_MAX + 1) if mask >> number & 1} if mask else set()
        lines = (*before, f"{key}: {merge_ranges(numbers)}".rstrip()) if numbers or shows_empty else ()
        return DirectiveVerdict("ignored" if message else "ok", message, lines)

    return judge


def units(_key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """A list of unit names: dependencies. systemd does not show them with the settings."""

    def judge_word(word: str) -> str:
        name = scope.expand(word)
        if not is_valid_name(name):
            raise InvalidValue(f"{name!r} is no unit: expected a name with its type, such as {name or 'foo'}.service")
        return name

    return _outcome([], _each(value.split(), judge_word)[1][:1])


def obsolete_units(successor: str) -> Kind:
    """A list of unit names under an obsolete key. The warning names its successor."""

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        message = f"{key}= is obsolete: expected {successor}="
        verdict = units(key, value, scope)
        return warned(message) if verdict.outcome == "ok" else ignored(f"{message}; {verdict.message}")

    return judge


def slice_(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`Slice=`: the name of one slice unit."""
    name = scope.expand(value)
    if not is_valid_name(name) or not name.endswith(".slice") or "@" in name:
        raise InvalidValue(f"{name!r} is no slice: expected a name such as {name.partition('.')[0] or 'foo'}.slice")
    return shown(f"{key}: {name}")


def sockets(_key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`Sockets=`: a list of names of socket units."""

    def judge_word(word: str) -> str:
        name = scope.expand(word)
        if not name.endswith(".socket") or not is_valid_name(name):
            raise InvalidValue(f"{name!r} is no socket: expected a name such as foo.socket")
        return name

    return _outcome([], _each(value.split(), judge_word)[1][:1])


def documentation(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`Documentation=`: a list of addresses."""

    def judge_word(word: str) -> str:
        if not _URL.match(word):
            raise InvalidValue(f"{word!r} is no address: expected http://, https://, file:, info: or man:")
        return word

    good, bad = _each(split_words(scope.expand(value), Escapes.DROP), judge_word)
    return _outcome([f"{key}: {' '.join(good)}"] if good else [], bad[:1])


def log_fields(key: str, value: str, scope: Scope) -> DirectiveVerdict:
    """`LogExtraFields=`: a list of `NAME=value`."""

    def judge_word(word: str) -> str:
        text = scope.expand(word)
        if not _LOG_FIELD.match(text):
            raise InvalidValue(f"{text!r} is no log field: expected NAME=value, the name in upper case")
        return text

    good, bad = _each_word(value, Escapes.C, judge_word)
    return _outcome([f"{key}: {word}" for word in good], bad[:1])


def condition(*, path: bool = False) -> Kind:
    """`ConditionX=` and `AssertX=`: an optional `|` (one of these has to hold), an optional `!` (not), an argument.

    With `path`, the argument is an absolute path.
    """

    def judge(key: str, value: str, scope: Scope) -> DirectiveVerdict:
        if not value:
            return OK
        rest = value
        trigger = "|" if rest.startswith("|") else ""
        rest = rest.removeprefix(trigger)
        negation = "!" if rest.startswith("!") else ""
        rest = scope.expand(rest.removeprefix(negation))
        asked = plain_path(rest) if path else rest.lstrip()
        return shown(f"{key}: {trigger}{negation}{asked} untested")

    return judge
