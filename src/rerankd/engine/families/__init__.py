"""One scoring recipe a file; which one a checkpoint needs is said by its files alone."""

FAMILIES = (
    "jina_v2",
    "gte",
    "modernbert",
    "cross_encoder",
    "jina_v3",
    "yes_no",
    "nemotron",
    "sequence_classification",
    "bi_encoder",
)
"""The modules that can load a checkpoint, in the order in which they are asked; the first that `recognises` it has it."""
