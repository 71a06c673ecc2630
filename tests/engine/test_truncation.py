from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from rerankd.engine.truncation import longest_first, query_capped

COUNTS = st.integers(0, 60)
LIMITS = st.integers(8, 40)


@given(query=COUNTS, document=COUNTS, limit=LIMITS)
def test_longest_first_cuts_as_the_tokenizers_library_does(query: int, document: int, limit: int) -> None:
    tokenizer = Tokenizer(models.WordLevel({"q": 0, "d": 1}, unk_token="q"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(limit - 3, strategy="longest_first")
    ids = tokenizer.encode("q " * query, "d " * document).ids
    assert longest_first(query, document, limit, 3) == (ids.count(0), ids.count(1))


@given(query=COUNTS, document=COUNTS, limit=LIMITS)
def test_a_capped_query_keeps_three_quarters_and_the_document_the_rest(query: int, document: int, limit: int) -> None:
    kept_query, kept_document = query_capped(query, document, limit, 4)
    assert kept_query == min(query, limit * 3 // 4, limit - 4)
    assert kept_document == min(document, limit - 4 - kept_query)
    assert kept_query + kept_document + 4 <= limit
