"""Decoder rerankers written down once more, the plain way: whole texts tokenised at once, transformers' own classes, np.

Special-token strings in a user's texts are text here too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification, Qwen3Config, Qwen3Model

QWEN3_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
QWEN3_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
QWEN3_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
MXBAI_PREFIX = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document pair, "
    "carefully analyze the semantic relationship between them, then provide your binary relevance judgment (0 for not "
    "relevant, 1 for relevant).\nRelevance:"
)
MXBAI_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"
GEMMA_TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
JINA_SYSTEM = (
    "You are a search relevance expert who can determine a ranking of the passages based on how relevant they are to the "
    "query. If the query is a question, how relevant a passage is depends on how well it answers the question. If not, try "
    "to analyze the intent of the query and assess how well each passage satisfies the intent. If an instruction is "
    "provided, you should follow the instruction when determining the ranking."
)


class Words:
    """A tokenizer that looks for control tokens in ours, and does not in a user's."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._ours = Tokenizer.from_str(tokenizer.to_str())
        self._theirs = Tokenizer.from_str(tokenizer.to_str())
        self._theirs.encode_special_tokens = True

    def ours(self, text: str) -> list[int]:
        return list(self._ours.encode(text, add_special_tokens=False).ids)

    def theirs(self, text: str) -> list[int]:
        return list(self._theirs.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._ours.decode(list(ids), skip_special_tokens=False))


def words(folder: Path) -> Words:
    return Words(Tokenizer.from_file(str(folder / "tokenizer.json")))


def qwen3_ids(
    word: Words, query: str, document: str, instruction: str | None = None, max_length: int = 8192
) -> list[int]:
    prefix, suffix = word.ours(QWEN3_PREFIX), word.ours(QWEN3_SUFFIX)
    body = word.theirs(f"<Instruct>: {instruction or QWEN3_INSTRUCTION}\n<Query>: {query}\n<Document>: {document}")
    return [*prefix, *body[: max_length - len(prefix) - len(suffix)], *suffix]


def mxbai_ids(
    word: Words, query: str, document: str, instruction: str | None = None, max_length: int = 8192
) -> list[int]:
    """`max_length` is the library's: of query and document together."""
    asked = word.theirs(f"instruction: {instruction}\nquery: {query}" if instruction else f"query: {query}")
    asked = asked[: max_length * 3 // 4]
    shown = [*word.ours("\n"), *word.theirs(f"document: {document}")][: max_length - len(asked)]
    end = [*word.ours("\n"), *word.ours(MXBAI_TASK), *word.ours(MXBAI_SUFFIX)]
    return [*word.ours(MXBAI_PREFIX), *asked, *shown, *end]


def gemma_ids(
    word: Words, query: str, document: str, instruction: str | None = None, max_length: int = 512
) -> list[int]:
    newline, task = word.ours("\n"), word.ours(GEMMA_TASK)
    first = [*word.ours("<bos>"), *word.theirs(f"A: {query}")[: max_length * 3 // 4]]
    second = [*newline, *word.theirs(f"B: {document}")[:max_length]]
    second = second[: max_length + len(newline) + len(task) - len(first)]
    return [*first, *second, *newline, *task]


def logits(folder: Path, prompts: Sequence[Sequence[int]], yes: str, no: str | None = None) -> list[float]:
    """The logit of `yes`, less that of `no`, at the end of each prompt, with the whole vocabulary computed."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    word = words(folder)
    found = []
    with torch.inference_mode():
        for ids in prompts:
            last = model(input_ids=torch.tensor([ids])).logits[0, -1]
            [yes_id], no_ids = word.ours(yes), word.ours(no) if no else []
            found.append(float(last[yes_id] - (last[no_ids[0]] if no_ids else 0)))
    return found


def nemotron_logits(folder: Path, query: str, documents: Sequence[str]) -> list[float]:
    """The mean over all tokens of a Llama whose mask hides nothing."""
    config = LlamaConfig.from_dict({**_config(folder), "model_type": "llama"})
    model: Any = LlamaForSequenceClassification.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    found = []
    with torch.inference_mode():
        for document in documents:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            tokenizer.encode_special_tokens = True
            ids = torch.tensor([tokenizer.encode(f"question:{query} \n \n passage:{document}").ids])
            seen = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
            hidden = model.model(input_ids=ids, attention_mask=seen).last_hidden_state[0]
            found.append(float(model.score(hidden.mean(0))))
    return found


def jina_prompt(query: str, documents: Sequence[str], instruction: str | None = None) -> str:
    passages = "\n".join(
        f'<passage id="{index}">\n{document}<|embed_token|>\n</passage>' for index, document in enumerate(documents)
    )
    return (
        f"<|im_start|>system\n{JINA_SYSTEM}<|im_end|>\n<|im_start|>user\nI will provide you with {len(documents)} passages, "
        "each indicated by a numerical identifier. Rank the passages based on their relevance to query: "
        f"{query}\n" + (f"<instruct>\n{instruction}\n</instruct>\n" if instruction else "") + f"{passages}\n"
        f"<query>\n{query}<|rerank_token|>\n</query><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def jina(
    folder: Path, query: str, documents: Sequence[str], max_query: int, max_document: int, capacity: int
) -> tuple[list[float], np.ndarray[Any, Any]]:
    """Scores and document vectors; the texts must name no control token."""
    word = words(folder)

    def short(text: str, limit: int) -> tuple[str, int]:
        ids = word.theirs(text)[:limit]
        return (text, len(ids)) if len(ids) < limit else (word.decode(ids), len(ids))

    query, query_length = short(query, max_query)
    texts = [short(document, max_document) for document in documents]
    blocks: list[list[str]] = [[]]
    left = capacity - 2 * query_length
    for text, length in texts:
        blocks[-1].append(text)
        left -= length
        if len(blocks[-1]) >= 125 or left <= max_document:
            blocks.append([])
            left = capacity - 2 * query_length
    vectors = [_projected(folder, word.ours(jina_prompt(query, block))) for block in blocks if block]
    weights = [max((1 + _cosine(block[-1], vector)) / 2 for vector in block[:-1]) for block in vectors]
    mean = sum(weight * block[-1] for weight, block in zip(weights, vectors, strict=True)) / sum(weights)
    shown = np.concatenate([block[:-1] for block in vectors])
    return [_cosine(mean, vector) for vector in shown], shown


def _cosine(one: Any, other: Any) -> float:
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


def _projected(folder: Path, ids: list[int]) -> Any:
    """The projector's output at every marker, in order."""
    tensors = load_file(folder / "model.safetensors")
    model = Qwen3Model(Qwen3Config.from_dict({**_config(folder), "architectures": ["Qwen3Model"]})).eval()
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    markers = [tokenizer.token_to_id(name) for name in ("<|embed_token|>", "<|rerank_token|>")]
    with torch.inference_mode():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        rows = hidden[[place for place, identity in enumerate(ids) if identity in markers]]
        inner = torch.relu(rows @ tensors["projector.0.weight"].t())
        return (inner @ tensors["projector.2.weight"].t()).float().numpy()


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config
