"""The known word that a misspelt one probably means, for error messages."""

from collections.abc import Iterable

from xchronos.limits import PROBLEMS_TOLD


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to `word`, or None if none is near enough.

    A word that differs in case only is always near enough. Otherwise at most one letter in four may be wrong, missing,
    extra or swapped; words shorter than eight letters may have one such mistake. Of equally near words the first one
    is taken. The function looks at every known word, so it is meant for error messages only.
    """
    folded = word.casefold()
    best: str | None = None
    limit = max(1, len(word) // 4) + 1
    for candidate in known:
        target = candidate.casefold()
        if target == folded:
            return candidate
        if abs(len(target) - len(folded)) < limit:
            distance = _distance(folded, target, limit)
            if distance < limit:
                best, limit = candidate, distance
    return best


def did_you_mean(word: str, known: Iterable[str], told: int = 0) -> str:
    """The end of an error message: `, did you mean X?`, or an empty text if no known word is near enough.

    `told` is how many problems the file has already. After PROBLEMS_TOLD of them a message is only counted, and no word
    is looked for: that takes most of the time of a file with thousands of unknown keys.
    """
    found = suggest(word, known) if told < PROBLEMS_TOLD else None
    return f", did you mean {found}?" if found else ""


def _distance(left: str, right: str, limit: int) -> int:
    """The number of letters that are wrong, missing, extra or swapped with a neighbour (optimal string alignment).

    It is `limit` or more, and need not be exact, as soon as it cannot be below `limit`.
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row, older = row, [i], before
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        # A swap looks two rows back.
        if min(row) >= limit and min(above) >= limit:
            return limit
        before = above
    return row[-1]
