"""Question answering data in SQuAD's format, read as a ranking task: which paragraph answers the question?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec


class Question(msgspec.Struct):
    question: str


class Paragraph(msgspec.Struct):
    context: str
    qas: list[Question]


class Article(msgspec.Struct):
    paragraphs: list[Paragraph]


class Squad(msgspec.Struct):
    data: list[Article]


@dataclass(frozen=True)
class Judged:
    """Queries, the documents they all rank, and for each query the index of the one relevant document."""

    queries: list[str]
    documents: list[str]
    relevant: list[int]


def read_squad(path: Path) -> Judged:
    """Raises `msgspec.ValidationError` where the file has another format."""
    squad = msgspec.json.decode(path.read_bytes(), type=Squad)
    judged = Judged([], [], [])
    for paragraph in (paragraph for article in squad.data for paragraph in article.paragraphs):
        for asked in paragraph.qas:
            judged.queries.append(asked.question)
            judged.relevant.append(len(judged.documents))
        judged.documents.append(paragraph.context)
    return judged
