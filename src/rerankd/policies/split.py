"""A reranker that asks for more documents than fit into one call in several, and answers as if it had been one.

Only for pairwise models: the parts' scores stand in one answer. One reranker scores them all, or the whole fails.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from math import ceil

import msgspec

from rerankd.errors import ClientError, RerankError, UpstreamError, UpstreamMalformed
from rerankd.estimate import estimated_tokens
from rerankd.policies.parts import in_whole, part_of, said_of, usage_of
from rerankd.reranker import Reranker
from rerankd.types import Call, Notes, RerankRequest, RerankResponse

AT_ONCE = 4
WARNINGS_SHOWN = 5
"""Of those that concern some documents: warnings also travel in a header, which has bounds."""
CAUTION = 1.4
"""Times the estimate: a part that is too small costs a little, one that is too large is refused."""


class Split:
    """`max_documents` and `max_tokens` are for one call, None being no limit; the query counts once for each document."""

    def __init__(self, inner: Reranker, max_documents: int | None, max_tokens: int | None) -> None:
        self._inner = inner
        self._max_documents = max_documents
        self._max_tokens = max_tokens

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResponse:
        """Raises the error of the first part that fails; the others are cancelled by then.

        Where it fails, `attempts` counts the parts as one, lest a long request use up what its other channels are allowed.
        """
        parts = self._parts(request)
        if len(parts) < 2:
            return await self._inner.rerank(request, call)
        before = call.notes.attempts  # a part is a first call only where the request has made none
        calls = [msgspec.structs.replace(call, notes=Notes(attempts=before)) for _ in parts]
        try:
            answers = await self._ask(request, parts, calls)
        except RerankError:
            call.notes.attempts = max(each.notes.attempts for each in calls)
            raise
        _note(call.notes, [each.notes for each in calls])
        return _merged(request, parts, answers)

    def _parts(self, request: RerankRequest) -> list[range]:
        """Contiguous, each as long as the limits allow; a document over `max_tokens` alone is a part of its own."""
        query = cautious_tokens(request.query)
        parts: list[range] = []
        start, tokens = 0, 0
        for index, document in enumerate(request.documents):
            cost = query + cautious_tokens(document.text)
            if index > start and not self._fits(index - start + 1, tokens + cost):
                parts.append(range(start, index))
                start, tokens = index, 0
            tokens += cost
        return [*parts, range(start, len(request.documents))]

    def _fits(self, documents: int, tokens: int) -> bool:
        few = self._max_documents is None or documents <= self._max_documents
        return few and (self._max_tokens is None or tokens <= self._max_tokens)

    async def _ask(self, request: RerankRequest, parts: Sequence[range], calls: Sequence[Call]) -> list[RerankResponse]:
        asking = Asking(self._inner, request, zip(parts, calls, strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(asking.go_on())
        except ExceptionGroup as failed:
            error = failed.exceptions[0]
        else:
            return [asking.answers[part] for part in parts]
        raise error  # outside, so that it does not carry the group along


class Asking:
    """One request's parts: those that are still to be asked, how many are under way, and the answers.

    A channel that has failed lets one call through to see whether it is well again, and refuses the others without a call.
    Were that one cancelled because the others were refused, a channel whose requests are all split would never be well
    again. So a part that is refused while another is under way waits, and has its turn after that one.
    """

    def __init__(self, inner: Reranker, request: RerankRequest, waiting: Iterable[tuple[range, Call]]) -> None:
        self.answers: dict[range, RerankResponse] = {}
        self._inner = inner
        self._request = request
        self._waiting = deque(waiting)
        self._under_way = 0

    async def go_on(self) -> None:
        """Until no part is left, or one was refused; several of these run beside each other."""
        while self._waiting:
            part, call = self._waiting.popleft()
            before = call.notes.attempts
            self._under_way += 1
            try:
                self.answers[part] = await self._ask(part, call)
            except UpstreamError:
                if call.notes.attempts > before or self._under_way == 1:
                    raise
                self._waiting.append((part, call))
                return
            finally:
                self._under_way -= 1

    async def _ask(self, part: range, call: Call) -> RerankResponse:
        try:
            return await self._inner.rerank(part_of(self._request, part), call)
        except ClientError as error:
            raise said_of(_where(part), error) from error


def cautious_tokens(text: str) -> int:
    return ceil(CAUTION * estimated_tokens(text))


def _where(part: range) -> str:
    return f"documents {part.start} to {part[-1]}, counted from the first of them as 0"


def _merged(request: RerankRequest, parts: Sequence[range], answers: Sequence[RerankResponse]) -> RerankResponse:
    models = {answer.model for answer in answers}
    if len(models) > 1:
        raise UpstreamMalformed("Parts of one request were answered by different models, whose scores do not compare.")
    return RerankResponse(
        model=models.pop(),
        results=tuple(
            result
            for part, answer in zip(parts, answers, strict=True)
            for result in in_whole(answer.results, part_of(request, part), part)
        ),
        usage=usage_of([answer.usage for answer in answers]),
        warnings=_united(parts, answers),
    )


def _united(parts: Sequence[range], answers: Sequence[RerankResponse]) -> tuple[str, ...]:
    """What every part says once, and what some say with the documents that it is about: it may name some by index."""
    common = set(answers[0].warnings).intersection(*(answer.warnings for answer in answers[1:]))
    own = [
        f"{_where(part)}: {warning}"
        for part, answer in zip(parts, answers, strict=True)
        for warning in answer.warnings
        if warning not in common
    ]
    if len(own) > WARNINGS_SHOWN:
        own[WARNINGS_SHOWN:] = [f"{len(own) - WARNINGS_SHOWN} more warnings of this kind about other documents"]
    return (*(warning for warning in answers[0].warnings if warning in common), *own)


def _note(notes: Notes, parts: Sequence[Notes]) -> None:
    """Parts run beside each other, so a stage took as long as it did in the slowest."""
    for stage in dict.fromkeys(stage for part in parts for stage in part.timings):
        began = min(part.began[stage] for part in parts if stage in part.began)
        notes.took(stage, max(part.timings.get(stage, 0.0) for part in parts), began)
    notes.channel = parts[0].channel
    notes.attempts += sum(part.attempts - notes.attempts for part in parts)
