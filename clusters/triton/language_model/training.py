"""Learning the language model from text: byte-level BPE, then Kneser-Ney counts."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from clusters.triton.language_model.engine.ngram import END

END_OF_TEXT = "<|endoftext|>"

Array = npt.NDArray[Any]
Gram = tuple[int, ...]
Counts = dict[Gram, int]


DISCOUNT = 0.15
"""What is taken from every count for the shorter contexts. The usual estimate would take most of it,
as nearly all long contexts of a small text are seen once, and leave answers that read like noise."""


def train(texts: Sequence[str], *, vocabulary: int, order: int, folder: Path) -> None:
    """Learn from ``texts`` and write ``tokenizer.json`` and ``ngrams.npz`` into ``folder``.

    Equal input gives equal files. ``vocabulary`` counts tokens including the one that ends a text.
    """
    tokenizer = train_tokenizer(texts, vocabulary=vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    sequences = [(END, *tokenizer.encode(text, add_special_tokens=False).ids, END) for text in texts]
    arrays = estimate(sequences, vocabulary=tokenizer.get_vocab_size(), order=order)
    np.savez(folder / "ngrams.npz", **arrays)


def train_tokenizer(texts: Sequence[str], *, vocabulary: int) -> Tokenizer:
    """Learn a byte-level BPE tokenizer; id 0 ends a text, and every byte has a token."""
    tokenizer = Tokenizer(models.BPE())
    # Newlines stand alone, so that a prompt that ends in a blank line is cut as the same text within a page.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n{1,2}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def estimate(sequences: Sequence[Gram], *, vocabulary: int, order: int) -> dict[str, Array]:
    """Estimate interpolated Kneser-Ney probabilities from texts that begin and end with END.

    Kneser and Ney (1995), interpolated as by Chen and Goodman (1998), with one fixed discount.
    Returns the arrays that ``engine.ngram.NGramModel`` loads.
    """
    counts = _adjusted_counts(sequences, order=order)
    arrays: dict[str, Array] = {"order": np.array(order), "unigrams": _unigrams(counts[1], vocabulary)}
    for k in range(2, order + 1):
        arrays |= {f"{name}_{k}": array for name, array in _level(counts[k]).items()}
    return arrays


def _adjusted_counts(sequences: Sequence[Gram], *, order: int) -> dict[int, Counts]:
    """Count n-grams: how often for the highest order, after how many different tokens below it.

    An n-gram that begins a text has nothing before it, so its plain count stands.
    """
    counts: dict[int, Counts] = {k: collections.Counter() for k in range(1, order + 1)}
    for seq in sequences:
        for k in range(2, order + 1):
            starts = range(len(seq) - k + 1) if k == order else range(min(1, len(seq) - k + 1))
            for at in starts:
                counts[k][seq[at : at + k]] += 1
    for k in range(order, 1, -1):
        for gram in counts[k]:
            counts[k - 1][gram[1:]] += 1
    return counts


def _unigrams(counts: Counts, vocabulary: int) -> Array:
    total = sum(counts.values())
    p = np.zeros(vocabulary)
    for (token,), count in counts.items():
        p[token] = (count - DISCOUNT) / total
    p += (1.0 - p.sum()) / vocabulary
    return p


def _level(counts: Counts) -> dict[str, Array]:
    followers: dict[Gram, list[tuple[int, int]]] = collections.defaultdict(list)
    for gram, count in counts.items():
        followers[gram[:-1]].append((gram[-1], count))
    contexts = sorted(followers)
    weights, spans, tokens, probabilities = [], [0], [], []
    for context in contexts:
        entries = sorted(followers[context])
        total = sum(count for _, count in entries)
        weights.append(DISCOUNT * len(entries) / total)
        tokens += [token for token, _ in entries]
        probabilities += [(count - DISCOUNT) / total for _, count in entries]
        spans.append(len(tokens))
    return {
        "contexts": np.array(contexts, dtype="<u2"),
        "weights": np.array(weights),
        "spans": np.array(spans, dtype=np.uint32),
        "tokens": np.array(tokens, dtype=np.uint16),
        "probabilities": np.array(probabilities, dtype=np.float32),
    }
