"""Which models are served and under which names: facts to look up, apart from the Rerankers that do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rerankd.types import ModelCard


@dataclass(frozen=True)
class Catalog:
    """`aliases` maps a further name to a model's; `default` is what the configuration gives to a request without one."""

    cards: Sequence[ModelCard] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None

    def names(self) -> list[str]:
        return [*(card.name for card in self.cards), *self.aliases]

    def name_for(self, asked: str | None, promised: str | None = None) -> str | None:
        """The name that a request goes by: what it asked for, else the configured default, else what its wire format's
        documentation promises where that is served, else the first model.
        """
        if asked is not None:
            return asked
        if self.default is not None:
            return self.default
        names = self.names()
        return promised if promised in names else next(iter(names), None)
