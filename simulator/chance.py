"""Seeded chance, in words."""

from __future__ import annotations

import random


def seeded(*words: object) -> random.Random:
    """The chance that these words name: the same on every machine."""
    return random.Random(" ".join(map(str, words)))  # noqa: S311 - made-up data, not secrecy


def happens(chance: random.Random, percent: int) -> bool:
    """True so many times of a hundred."""
    return chance.randrange(100) < percent
