"""The argument `reduce` of a sweep: names of reductions, reductions, or a list of these."""

from collections.abc import Sequence

from rbn_jax.sweeps.reductions import REDUCTION_CLASSES, Reduction, reduction_class

ReduceArgument = str | Reduction | Sequence[str | Reduction]


def read_reductions(reduce: ReduceArgument) -> tuple[Reduction, ...]:
    """Return the reductions that the argument stands for.

    Raises:
        ValueError: an unknown name, a name of a reduction that needs arguments, no reduction.
    """
    items = [reduce] if isinstance(reduce, str | Reduction) else reduce
    if not isinstance(items, Sequence):
        raise ValueError(f"reduce={reduce!r}: must be {_allowed()}, or a list of these")
    if not items:
        raise ValueError(f"reduce={reduce!r}: must hold at least one reduction: {_allowed()}")
    return tuple(map(_read_reduction, items))


def _read_reduction(item: object) -> Reduction:
    if isinstance(item, Reduction):
        return item
    if not isinstance(item, str):
        raise ValueError(f"reduce holds {item!r}: must be {_allowed()}")
    cls = reduction_class(item)
    if arguments := cls.required_arguments():
        raise ValueError(
            f"{item!r} needs arguments: write reductions.{cls.__name__}({', '.join(arguments)})"
        )
    return cls()


def _allowed() -> str:
    """Describe what is allowed."""
    names = [kind for kind, cls in REDUCTION_CLASSES.items() if not cls.required_arguments()]
    return f"a name ({', '.join(names)}) or a reduction such as reductions.Histogram(bins)"
