"""A query and documents made of real words, for measuring speed where there is no data: the same ones each time.

They make no sense, but some are nearer to the query than others, so that a model's scores differ and can be compared.
"""

from __future__ import annotations

from random import Random

QUERY = "How do bees in a hive tell each other where the flowers with nectar and pollen are?"
NEAR = (
    *(
        "bee",
        "hive",
        "nectar",
        "pollen",
        "flowers",
        "honey",
        "queen",
        "comb",
        "wax",
        "swarm",
        "dance",
        "scout",
        "meadow",
    ),
    *(
        "clover",
        "forager",
        "colony",
        "larvae",
        "beekeeper",
        "antenna",
        "wings",
        "direction",
        "distance",
        "communication",
    ),
    *("pollination", "orientation", "waggle", "sunlight", "blossom", "orchard", "nest", "sting", "scent", "waxworm"),
)
FAR = (
    *("tax", "engine", "bridge", "court", "glacier", "violin", "harbour", "parliament", "semiconductor", "mortgage"),
    *("cup", "railway", "steel", "election", "architecture", "insurance", "volcano", "database", "keyboard", "opera"),
    *("cement", "satellite", "infrastructure", "inflation", "dentist", "submarine", "carburettor", "archaeologist"),
    *("tie", "novel", "painter", "turbine", "helmet", "tunnel", "responsibility", "electricity", "compiler", "cheese"),
)
PLAIN = (
    *("the", "of", "and", "to", "a", "in", "that", "was", "for", "on", "with", "as", "by", "from", "which", "its"),
    *("near", "often", "every", "several", "between", "because", "although", "usually", "carries", "returns", "found"),
    *("small", "early", "important", "described", "remarkable", "approximately", "nevertheless", "considerably"),
)
SENTENCE = 12
"""Words of a sentence."""
FEWEST = 3
"""Words of a document: with fewer there are not enough different ones."""


def made_documents(count: int, words: int) -> list[str]:
    """`count` documents of `words` words (3 or more), no two of them equal, in no order of relevance."""
    chance = Random(0)  # noqa: S311  (the same texts each time are meant)
    made: dict[str, None] = {}
    while len(made) < count:
        made[_document(max(FEWEST, words), chance)] = None
    return list(made)


def _document(words: int, chance: Random) -> str:
    near = chance.random()
    chosen = [_word(near, chance) for _ in range(words)]
    sentences = (" ".join(chosen[start : start + SENTENCE]) for start in range(0, words, SENTENCE))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _word(near: float, chance: Random) -> str:
    """Every other word is a plain one; of the rest the share `near` is the query's."""
    if chance.random() < 1 / 2:
        return chance.choice(PLAIN)
    return chance.choice(NEAR if chance.random() < near else FAR)
