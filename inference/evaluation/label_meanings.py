"""Compare what two dataset descriptions say about label values."""

from configs.dataset import DatasetDescription

Values = frozenset[int]


def contradictions(one: DatasetDescription, other: DatasetDescription) -> list[str]:
    """Return where two descriptions give a label different values or a value different labels, in words.

    Labels that only one of them names are no contradiction, nor is another way to write small and capital letters. A region
    and a plain label of one name may differ as long as one contains the other, such as `kidney` with and without its tumours.
    """
    first, second = _meanings(one), _meanings(other)
    may_contain = one.has_regions != other.has_regions
    problems = [
        f"`{name}` is {_words(values)} in one and {_words(second[name])} in the other"
        for name, values in first.items()
        if name in second and not _agree(values, second[name], may_contain)
    ]
    named = {name for name in first if name in second}
    problems += [
        f"{_words(values)} is `{name}` in one and `{another}` in the other"
        for name, values in first.items()
        for another, others in second.items()
        if values == others and name not in named and another not in named
    ]
    return problems


def _agree(values: Values, others: Values, may_contain: bool) -> bool:
    return values == others or (may_contain and (values <= others or others <= values))


def _meanings(description: DatasetDescription) -> dict[str, Values]:
    """Return the values of each label by its name in small letters."""
    return {
        name.strip().casefold(): frozenset(values if isinstance(values, tuple) else (values,))
        for name, values in description.labels.items()
    }


def _words(values: Values) -> str:
    return f"value{'s' if len(values) > 1 else ''} {', '.join(map(str, sorted(values)))}"
