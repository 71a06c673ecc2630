"""Cohere's own SDK with the base URLs that people give it beside our prefix: the server itself, and its `/v1`."""

from __future__ import annotations

import cohere

from tests.contract.cases import Answer, Ask
from tests.contract.clients.cohere import asked_v1, asked_v2


def v1_at_the_root(ask: Ask) -> Answer:
    return asked_v1(ask, cohere.Client(api_key=ask.key, base_url=ask.url))


def v2_at_the_root(ask: Ask) -> Answer:
    return asked_v2(ask, cohere.ClientV2(api_key=ask.key, base_url=ask.url))


def v1_below_v1(ask: Ask) -> Answer:
    return asked_v1(ask, cohere.Client(api_key=ask.key, base_url=f"{ask.url}/v1"))


def v2_below_v1(ask: Ask) -> Answer:
    return asked_v2(ask, cohere.ClientV2(api_key=ask.key, base_url=f"{ask.url}/v1"))


CLIENTS = {
    "cohere.Client at the root": v1_at_the_root,
    "cohere.ClientV2 at the root": v2_at_the_root,
    "cohere.Client below /v1": v1_below_v1,
    "cohere.ClientV2 below /v1": v2_below_v1,
}
