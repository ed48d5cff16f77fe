"""Which images of train and val are held out too, and in which classes that is rather a matter of looking alike."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from keras_bench.audit.findings import AlikeClass, DuplicateGroup, Leaks
from keras_bench.data.index import ImageIndex

# Where the near-duplicates of a class are more of its images than this, they are rather different images of a kind that
# looks alike (X-rays, documents, products on a plain ground) than copies that slipped in.
ALIKE_SHARE = 0.01
FEW_COPIES = 2  # so many are taken for copies in any class, however small it is
EXAMPLE_PAIRS = 3  # pairs kept of such a class


def find_leaks(
    index: ImageIndex, digests: Mapping[int, bytes], groups: Sequence[DuplicateGroup], split_of: Mapping[int, str]
) -> dict[str, Leaks]:
    """Return the images of train that val or test hold too, and those of val that test holds too.

    Args:
        index: the images.
        digests: of the pixels of each readable image, by position.
        groups: all groups of duplicates.
        split_of: the split of each position; those of no split are left out.
    """
    return {
        split: _leaks(index, digests, groups, split_of, split, held_out)
        for split, held_out in (("train", ("val", "test")), ("val", ("test",)))
    }


def _leaks(
    index: ImageIndex,
    digests: Mapping[int, bytes],
    groups: Sequence[DuplicateGroup],
    split_of: Mapping[int, str],
    split: str,
    held_out: tuple[str, ...],
) -> Leaks:
    outside = {digest for i, digest in digests.items() if split_of.get(i) in held_out}
    exact = {index.ids[i] for i, digest in digests.items() if split_of.get(i) == split and digest in outside}
    partner: dict[str, str] = {}  # of each near-duplicate, an image held out
    ids_of_class: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        others = [image_id for image_id, place in zip(group.ids, group.splits, strict=True) if place in held_out]
        for image_id, place, name in zip(group.ids, group.splits, group.classes, strict=True):
            if others and place == split and image_id not in exact:
                partner[image_id] = others[0]
                ids_of_class[name].append(image_id)
    size = Counter(index.class_names[index.labels[i]] for i, place in split_of.items() if place == split)
    alike = tuple(
        AlikeClass(
            name, tuple(sorted(ids)), size[name], tuple((one, partner[one]) for one in sorted(ids)[:EXAMPLE_PAIRS])
        )
        for name, ids in sorted(ids_of_class.items())
        if len(ids) > max(FEW_COPIES, ALIKE_SHARE * size[name])
    )
    return Leaks(" or ".join(held_out), tuple(sorted(exact)), tuple(sorted(partner)), alike)
