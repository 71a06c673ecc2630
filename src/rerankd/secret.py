"""A text that prints as *** wherever it is printed: keys of upstreams, and keys of ours in the moment when they are made."""

from __future__ import annotations

from collections.abc import Callable

from rerankd.errors import BadSettings

SHOWN = "***"


class Secret:
    """`reveal` is the one way to the text.

    It is no str and has no fields, so that neither json, msgspec, pickle nor a dataclass's repr finds what is in it.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        """Blanks around it are dropped: a key read from a file ends in a newline. Raises `BadSettings`."""
        stripped = text.strip()
        if not stripped or not all(" " < character <= "~" for character in stripped):
            raise BadSettings("A key is empty, or holds what no HTTP header can carry.")
        self._reveal: Callable[[], str] = lambda: stripped

    def reveal(self) -> str:
        return self._reveal()

    def __repr__(self) -> str:
        return SHOWN

    def __str__(self) -> str:
        return SHOWN

    def __format__(self, spec: str) -> str:
        return SHOWN

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written down")

    def __deepcopy__(self, seen: object) -> Secret:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())
