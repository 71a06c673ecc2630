"""Some of a request's documents asked for alone, and what is answered put in terms of the whole request again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rerankd.errors import ClientError
from rerankd.types import RerankRequest, Result, Usage
from rerankd.validate import validate


def part_of(request: RerankRequest, indexes: Sequence[int]) -> RerankRequest:
    """`request` for these documents: all of them are scored and none comes back, for the whole is cut and filled later."""
    documents = tuple(request.documents[index] for index in indexes)
    return msgspec.structs.replace(request, documents=documents, top_n=None, return_documents=False)


def in_whole(results: Sequence[Result], part: RerankRequest, indexes: Sequence[int]) -> list[Result]:
    """The results of `part` under the whole request's indexes; raises `UpstreamMalformed` where they are not complete."""
    checked = validate(results, part)
    return [msgspec.structs.replace(result, index=indexes[result.index]) for result in checked]


def usage_of(usages: Sequence[Usage]) -> Usage:
    """What several calls took together; search units only where each of them counted some."""
    units = [usage.search_units for usage in usages if usage.search_units is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        estimated=any(usage.estimated for usage in usages),
        search_units=sum(units) if len(units) == len(usages) else None,
    )


def said_of(where: str, error: ClientError) -> ClientError:
    """`error` with the documents that it counts from: an index in it is one of the part, which the caller never saw."""
    return type(error)(f"{where}: {error.message}", retry_after=error.retry_after)
