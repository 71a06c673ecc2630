"""rerankd: one rerank API for every reranker.

from rerankd import Reranker

with Reranker("builtin") as reranker:
    for result in reranker.rank("What is the capital of France?", ["Paris.", "Pizza."], top_n=1).results:
        print(result.index, result.relevance_score, result.document.text)
"""

from rerankd.errors import RerankError
from rerankd.library import Reranker
from rerankd.types import Document, RerankResponse, Result, Usage
from rerankd.version import __version__

__all__ = ["Document", "RerankError", "RerankResponse", "Reranker", "Result", "Usage", "__version__"]
