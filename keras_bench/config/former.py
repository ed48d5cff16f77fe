"""Settings that earlier versions wrote under other names."""

from collections.abc import Mapping

# Per former key, its current name, and per former value, its current name.
FORMER_KEYS = {"training.class_weights": ("training.imbalance", {"none": "none", "balanced": "class_weights"})}


def current_names(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings under their current names; a setting whose value was never valid keeps its former name.

    Args:
        settings: values by dotted key, as any version wrote them.
    """
    renamed: dict[str, object] = {}
    for key, value in settings.items():
        current, current_values = FORMER_KEYS.get(key, (key, {}))
        if isinstance(value, str) and value in current_values:
            renamed[current] = current_values[value]
        else:
            renamed[key] = value
    return renamed
