"""Settings that earlier versions wrote under another name."""

from collections.abc import Mapping

# For each former key its name of today, and for each former value what it is called now.
FORMER_KEYS = {"training.class_weights": ("training.imbalance", {"none": "none", "balanced": "class_weights"})}


def by_names_of_today(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings by their names of today; one with a value it could never have keeps its former name.

    Args:
        settings: values by dotted key, as any version wrote them.
    """
    renamed: dict[str, object] = {}
    for key, value in settings.items():
        today, meaning = FORMER_KEYS.get(key, (key, {}))
        if isinstance(value, str) and value in meaning:
            renamed[today] = meaning[value]
        else:
            renamed[key] = value
    return renamed
