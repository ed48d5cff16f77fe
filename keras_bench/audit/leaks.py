"""Finds images of train and val with held-out duplicates, and classes whose images merely look alike."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from keras_bench.audit.findings import AlikeClass, DuplicateGroup, Leaks
from keras_bench.data.index import ImageIndex

# If near-duplicates make up more than this share of a class, they are probably not stray copies but different images
# that look alike (X-rays, documents, products on a plain background).
ALIKE_SHARE = 0.01
FEW_COPIES = 2  # up to this number they count as copies, however small the class
EXAMPLE_PAIRS = 3  # pairs recorded per such class


def find_leaks(
    index: ImageIndex, digests: Mapping[int, bytes], groups: Sequence[DuplicateGroup], split_of: Mapping[int, str]
) -> dict[str, Leaks]:
    """Return the images of train with duplicates in val or test, and those of val with duplicates in test.

    Args:
        index: the images.
        digests: digest of the pixels of each readable image, by position.
        groups: all groups of duplicates.
        split_of: split by position; images without a split are absent.
    """
    return {
        split: _leaks_of_split(index, digests, groups, split_of, split, held_out)
        for split, held_out in (("train", ("val", "test")), ("val", ("test",)))
    }


def _leaks_of_split(
    index: ImageIndex,
    digests: Mapping[int, bytes],
    groups: Sequence[DuplicateGroup],
    split_of: Mapping[int, str],
    split: str,
    held_out: tuple[str, ...],
) -> Leaks:
    held_out_digests = {digest for i, digest in digests.items() if split_of.get(i) in held_out}
    exact = {index.ids[i] for i, digest in digests.items() if split_of.get(i) == split and digest in held_out_digests}
    counterparts: dict[str, str] = {}  # a held-out image for each near-duplicate
    ids_by_class: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        others = [image_id for image_id, other in zip(group.ids, group.splits, strict=True) if other in held_out]
        for image_id, own_split, name in zip(group.ids, group.splits, group.classes, strict=True):
            if others and own_split == split and image_id not in exact:
                counterparts[image_id] = others[0]
                ids_by_class[name].append(image_id)
    sizes = Counter(index.class_names[index.labels[i]] for i, own_split in split_of.items() if own_split == split)
    alike = []
    for name, ids in sorted(ids_by_class.items()):
        if len(ids) > max(FEW_COPIES, ALIKE_SHARE * sizes[name]):
            examples = tuple((image_id, counterparts[image_id]) for image_id in sorted(ids)[:EXAMPLE_PAIRS])
            alike.append(AlikeClass(name, tuple(sorted(ids)), sizes[name], examples))
    return Leaks(" or ".join(held_out), tuple(sorted(exact)), tuple(sorted(counterparts)), tuple(alike))
