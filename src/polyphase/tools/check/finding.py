"""A fault, or something worth knowing, with its numbers and its mend."""

from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; ``layer`` is "" where it is about the whole model.

    ``says`` holds what is so, with its numbers; ``mend`` what to do about it.
    """

    code: str
    severity: str
    layer: str
    says: str
    mend: str

    def as_data(self) -> dict[str, Any]:
        """The finding as plain data.

        >>> Finding("bias-only", "warning", "up", "One row.", "Drop it.").as_data()["code"]
        'bias-only'
        """
        return asdict(self)


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Errors first, and otherwise as they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def by(size: tuple[int, ...]) -> str:
    """A size as people write it.

    >>> by((3, 4))
    '3x4'
    """
    return "x".join(map(str, size))


def several(count: int, name: str) -> str:
    """A count with its noun.

    >>> several(1, "tap"), several(2, "tap")
    ('1 tap', '2 taps')
    """
    return f"{count:,} {name}{'' if count == 1 else 's'}"
