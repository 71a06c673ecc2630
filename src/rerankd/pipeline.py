"""THE place where policies are put in order around models and channels; `rerankd doctor` prints what stands here.

Order is meaning: what stands first is asked first and answers last. In front of everything: an answer that is given again
costs nothing; what a key has left is taken before any work, and settled by what its row in the ledger says. Around each
channel: an answer that was kept costs no call; a request that is too large is split before anything is counted; the breaker
counts what retrying could not mend; what an upstream says is checked before anybody believes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rerankd.policies.breaker import Breaker
from rerankd.policies.cached import Cached
from rerankd.policies.cascaded import Cascaded
from rerankd.policies.coalesced import Coalesced
from rerankd.policies.counters import Counters
from rerankd.policies.deadlined import Deadlined
from rerankd.policies.fallback import Choice, Fallback
from rerankd.policies.guarded import Guarded
from rerankd.policies.idempotent import Claims, Idempotent
from rerankd.policies.limited import Limited
from rerankd.policies.metered import Ledger, Metered
from rerankd.policies.named import Named
from rerankd.policies.permitted import Permitted
from rerankd.policies.prices import Prices
from rerankd.policies.retried import Retried
from rerankd.policies.retry_budget import RetryBudget
from rerankd.policies.routed import Routed
from rerankd.policies.score_store import ScoreStore
from rerankd.policies.split import Split
from rerankd.policies.validated import Validated
from rerankd.reranker import Reranker
from rerankd.types import LOCAL


@dataclass(frozen=True, kw_only=True)
class Local:
    """A model on this machine; `pairwise` says that a document's score does not depend on the others. `revision` is all that
    a score depends on beside the request, for where what was kept may be another process's.
    """

    name: str
    reranker: Reranker
    pairwise: bool = False
    revision: str = ""
    priority: int = 0
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A channel, for one of its models; `breaker` is this pair's own. What was kept of another `revision` is not used."""

    name: str
    reranker: Reranker
    breaker: Breaker
    ttl: float
    revision: str = ""
    listwise: bool = False
    max_documents: int | None = None
    max_tokens: int | None = None
    priority: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class Cascade:
    first: str
    then: str
    keep: int


@dataclass(frozen=True, kw_only=True)
class Accounting:
    """Who keeps count where requests are somebody's: `counters` of what keys may use, `deadline` in seconds for how long at
    most; the `ledger` with its `prices`, and the `claims` on kept answers, which the ledger completes.
    """

    counters: Counters
    deadline: float
    ledger: Ledger | None = None
    claims: Claims | None = None
    prices: Prices = field(default_factory=Prices)


Member = Local | Remote


def pipeline(
    members: Mapping[str, Sequence[Member]],
    aliases: Mapping[str, str],
    *,
    cascades: Mapping[str, Cascade] | None = None,
    fallback: Mapping[str, Sequence[str]] | None = None,
    scores: ScoreStore | None = None,
    accounting: Accounting | None = None,
) -> Reranker:
    """One Reranker over everything that is served: `members` are those that answer for each public name."""
    chains = {name: _one_of(of_name, name, scores) for name, of_name in members.items()}
    for name, others in (fallback or {}).items():
        chains[name] = _standing_in(name, others, chains)
    for name, cascade in (cascades or {}).items():
        first, then = Named(chains[cascade.first], cascade.first), Named(chains[cascade.then], cascade.then)
        chains[name] = Validated(Cascaded(first, then, cascade.keep), cascade.keep)
    further = {alias: Named(chains[name], name) for alias, name in aliases.items()}
    return _accounted(Deadlined(Coalesced(Routed({**chains, **further}))), aliases, accounting)


def bare(models: Mapping[str, Reranker]) -> Reranker:
    """The models themselves, for probes: an answer that was kept says nothing about whether a model works."""
    return Deadlined(Routed({name: Validated(model) for name, model in models.items()}))


def order() -> list[str]:
    """The policies from the outside in, as class names, for a model and for a channel, where everything is configured."""
    accounts = (Permitted, Idempotent, Limited, Metered)
    outside = " > ".join(policy.__name__ for policy in (*accounts, Deadlined, Coalesced, Routed, Fallback))
    local = " > ".join(policy.__name__ for policy in (Validated, Cached))
    remote = " > ".join(policy.__name__ for policy in (Validated, Cached, Split, Guarded, Retried, Validated))
    return [f"{outside} > {local} > model", f"{outside} > {remote} > channel"]


def _accounted(inner: Reranker, aliases: Mapping[str, str], accounting: Accounting | None) -> Reranker:
    """The Python face and the command line have nobody to account to."""
    if accounting is None:
        return inner
    if accounting.ledger is not None:
        inner = Metered(inner, accounting.ledger, accounting.prices)
    inner = Limited(inner, accounting.counters, accounting.deadline)
    if accounting.ledger is not None and accounting.claims is not None:
        inner = Idempotent(inner, accounting.claims)
    return Permitted(inner, aliases)


def _one_of(members: Sequence[Member], model: str, scores: ScoreStore | None) -> Reranker:
    """Whoever of a model's members can answer; one on this machine that has nobody beside it needs no choice."""
    budget = RetryBudget()
    ways = [
        Choice(member.name, member.priority, member.weight, _around(member, model, budget, scores), _ready(member))
        for member in members
    ]
    return ways[0].reranker if len(members) == 1 and isinstance(members[0], Local) else Fallback(ways, budget)


def _ready(member: Member) -> Callable[[], bool]:
    return (lambda: True) if isinstance(member, Local) else (lambda: member.breaker.closed)


def _standing_in(name: str, others: Sequence[str], chains: Mapping[str, Reranker]) -> Reranker:
    """The model, and in its place, where all of it fails, the others in their order."""
    asked = [name, *others]
    return Fallback([Choice(one, -place, 1.0, Named(chains[one], one)) for place, one in enumerate(asked)])


def _around(member: Member, model: str, budget: RetryBudget, scores: ScoreStore | None) -> Reranker:
    if isinstance(member, Local):
        identity = f"{LOCAL}:{model} {member.revision}"
        return Validated(_kept(member.reranker, scores, identity, pairwise=member.pairwise, ttl=None))
    called = Guarded(Retried(Validated(member.reranker), budget, member.breaker), member.breaker)
    inner: Reranker = called
    if not member.listwise and (member.max_documents or member.max_tokens):
        inner = Split(inner, member.max_documents, member.max_tokens)
    identity = f"{member.name} {model} {member.revision}"  # none of them holds a blank
    inner = _kept(inner, scores, identity, pairwise=False, ttl=member.ttl)
    return called if inner is called else Validated(inner)  # what was kept, or is put together, is checked again


def _kept(inner: Reranker, scores: ScoreStore | None, identity: str, *, pairwise: bool, ttl: float | None) -> Reranker:
    return inner if scores is None else Cached(inner, scores, identity=identity, pairwise=pairwise, ttl=ttl)
