"""Checkpoints that are made once for all tests of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine import tiny


@pytest.fixture(scope="session")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_xlmr(tmp_path_factory.mktemp("xlmr"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def bi_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bi_encoder(tmp_path_factory.mktemp("bi-encoder"))
