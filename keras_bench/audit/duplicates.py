"""Finds images that are the same, or nearly, without comparing every pair."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from keras_bench.audit.likeness import PositionPair

# Bits of 64 in which perceptual hashes of near-duplicates may differ. Measured on 22,000 images of Tiny ImageNet:
# copies saved again as JPEG of quality 50 differ in at most 4 bits in 99 of 100 cases, halved ones in 2, brightened
# ones in 6; up to 6 bits none of the 242 million pairs was alike but for one true copy, at 8 bits 15 false pairs.
NEAR_DISTANCE = 6
BANDS = NEAR_DISTANCE + 1  # hashes within the distance agree on one band at least (pigeonhole principle)
BITS = 64


def find_duplicates(
    digests: Sequence[bytes],
    hashes: Sequence[int | None],
    confirm: Callable[[list[PositionPair]], list[PositionPair]] | None = None,
) -> list[tuple[str, list[int]]]:
    """Return groups of duplicates, each ("exact" or "near", positions in ascending order).

    Images in a chain of near-duplicates are one group, "exact" only where all its images have the same pixels.

    Args:
        digests: N digests of pixels.
        hashes: N perceptual hashes of 64 bits; None for images that are only compared exactly.
        confirm: returns which pairs of close hashes are copies of one picture, after a second look; None: all are.
    """
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        by_digest[digest].append(i)
    links = [(members[0], other) for members in by_digest.values() for other in members[1:]]
    # Copies have equal hashes: one of them stands for all.
    firsts = [members[0] for members in by_digest.values()]
    hashed = [(i, value) for i in firsts if (value := hashes[i]) is not None]
    close = _near_pairs(np.array([i for i, _ in hashed]), np.array([value for _, value in hashed], dtype=np.uint64))
    links += confirm(close) if confirm else close
    if not links:
        return []
    rows, columns = np.array(links).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(digests), len(digests)))
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in sorted({int(i) for link in links for i in link}):
        groups[int(component[i])].append(i)
    return [("exact" if len({digests[i] for i in members}) == 1 else "near", members) for members in groups.values()]


def _near_pairs(places: np.ndarray, hashes: np.ndarray) -> list[PositionPair]:
    """Return the pairs of places whose hashes differ in at most NEAR_DISTANCE bits."""
    pairs: set[PositionPair] = set()
    for band in np.array_split(np.arange(BITS), BANDS):
        mask = np.uint64(sum(1 << int(bit) for bit in band))
        keys = hashes & mask
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1]))
        for bucket in np.split(order, starts[1:]):
            # Each image against those after it in its bucket; with 9 bits a bucket is a few hundredths of all.
            for step, i in enumerate(bucket[:-1]):
                rest = bucket[step + 1 :]
                close = rest[np.bitwise_count(hashes[rest] ^ hashes[i]) <= NEAR_DISTANCE]
                pairs.update((int(places[min(i, j)]), int(places[max(i, j)])) for j in close)
    return sorted(pairs)
