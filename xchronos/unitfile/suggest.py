"""What a person probably meant by a misspelt word."""

from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to `word`; None when none is near enough to be what was meant.

    A difference in case alone is always near enough. Otherwise about one wrong, missing, extra or swapped letter in
    four is. Of equally near words the first one counts. Meant for error paths: it looks at every known word.
    """
    folded = word.casefold()
    best: str | None = None
    limit = max(1, len(word) // 4) + 1
    for candidate in known:
        target = candidate.casefold()
        if target == folded:
            return candidate
        if abs(len(target) - len(folded)) < limit:
            distance = _distance(folded, target)
            if distance < limit:
                best, limit = candidate, distance
    return best


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: `, did you mean X?`, or nothing."""
    found = suggest(word, known)
    return f", did you mean {found}?" if found else ""


def _distance(left: str, right: str) -> int:
    """How many letters are wrong, missing, extra or swapped with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row, older = row, [i], before
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        before = above
    return row[-1]
