"""Random changes of bytes, for tests and measurements of what reads bytes of strangers."""

import random
from collections.abc import Sequence


def mutated(chance: random.Random, data: bytes, odd: Sequence[bytes]) -> bytes:
    """Returns bytes with up to four changes: others, deleted, doubled, cut, or one of `odd`."""
    for _ in range(chance.randint(1, 4)):
        place, size = chance.randrange(len(data) + 1), chance.choice((1, 1, 4, 40))
        part = data[place : place + size]
        new = chance.choice((b"", part * 2, bytes(chance.randrange(256) for _ in part), chance.choice(odd)))
        data = data[:place] + new + data[place + len(part) :]
    return data
