"""The trained model's files, made once per state of the guide and kept."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import tokenizers

from clusters.triton.language_model import CATALOG
from clusters.triton.language_model.corpus import read_guide
from clusters.triton.language_model.training import train, train_tokenizer

FILES: Final = ("tokenizer.json", "ngrams.npz")
FORMAT: Final = 1
"""Counts changes of the training or of the files' layout, so that kept files are not mistaken."""


def ensure_artifact(cache: Path, *, texts: Sequence[str] | None = None) -> Path:
    """Give the folder with the model's files, training it if ``cache`` has none for these texts.

    ``texts`` are the guide's sections when None. Safe to call from several processes at once.
    """
    texts = read_guide() if texts is None else texts
    folder = cache / f"{CATALOG.name}-{_digest(texts)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix=".training-"))
    try:
        train(texts, vocabulary=CATALOG.vocabulary, order=CATALOG.order, folder=scratch)
        os.rename(scratch, folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was quicker, with equal files
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


@functools.cache
def tokenizer_file() -> bytes:
    """Give the content of the artifact's ``tokenizer.json`` without training the rest."""
    return train_tokenizer(read_guide(), vocabulary=CATALOG.vocabulary).to_str(pretty=True).encode()


def _digest(texts: Sequence[str]) -> str:
    made_from = [FORMAT, tokenizers.__version__, CATALOG.vocabulary, CATALOG.order, list(texts)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]
