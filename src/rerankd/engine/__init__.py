"""Local rerankers: a checkpoint's files become scores, on one thread per device."""
