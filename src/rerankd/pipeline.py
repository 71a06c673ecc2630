"""THE place where policies are put in order around models; `rerankd doctor` prints what stands here.

Order is meaning: what stands first is asked first and answers last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rerankd.policies.deadlined import Deadlined
from rerankd.policies.routed import Routed
from rerankd.policies.validated import Validated
from rerankd.reranker import Reranker

Policy = type[Deadlined] | type[Validated]

AROUND_ALL: Sequence[Policy] = (Deadlined,)
AROUND_EACH: Sequence[Policy] = (Validated,)


def pipeline(models: Mapping[str, Reranker], aliases: Mapping[str, str]) -> Reranker:
    """One Reranker over all `models`; `aliases` gives further names to the names of models."""
    wrapped = {name: _wrap(AROUND_EACH, model) for name, model in models.items()}
    return _wrap(AROUND_ALL, Routed(wrapped | {alias: wrapped[name] for alias, name in aliases.items()}))


def order() -> list[str]:
    """The policies from the outside in, as class names, and the model at the end."""
    return [
        *(policy.__name__ for policy in AROUND_ALL),
        "Routed",
        *(policy.__name__ for policy in AROUND_EACH),
        "model",
    ]


def _wrap(policies: Sequence[Policy], inner: Reranker) -> Reranker:
    for policy in reversed(policies):
        inner = policy(inner)
    return inner
