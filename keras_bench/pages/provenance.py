"""What every page and card says of its own making."""

from dataclasses import dataclass
from datetime import UTC, datetime

from keras_bench import __version__


@dataclass(frozen=True)
class Provenance:
    """When a page or card was made, and with what.

    Attributes:
        made: the time, as it is printed: "2026-01-31 12:00 UTC".
        version: of keras-bench.
    """

    made: str
    version: str

    @staticmethod
    def now() -> "Provenance":
        """Return the present minute and this version."""
        return Provenance(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", __version__)
