"""The pages of the documentation, and the Python code in them."""

import contextlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ["README.md", *DOCS]


def read_page(page: str | Path) -> str:
    return (ROOT / page).read_text("utf-8")


def python_blocks(page: str) -> list[str]:
    """Return the blocks of code that are run; those marked `py` are only shown."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", read_page(page), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def run_blocks(blocks: list[str]) -> None:
    """Run the blocks of one page in one namespace."""
    namespace = {}
    for block in blocks:
        exec(block, namespace)


@contextlib.contextmanager
def strict_settings(*, debug_nans: bool = True) -> Iterator[None]:
    """Refuse arrays of different ranks, mixed dtypes, and NaN."""
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_nans(debug_nans),
    ):
        yield


def without_code(text: str) -> str:
    """Return the text of a page without blocks of code and without code in a line."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def link_targets(page: str) -> list[str]:
    """Return the targets of the links to files and headings of the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(read_page(page)))
    return [target for target in targets if "://" not in target]


def heading_anchors(page: str | Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", read_page(page), flags=re.DOTALL | re.MULTILINE)
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        anchor = words.replace(" ", "-")
        count = 0
        while (unique_anchor := f"{anchor}-{count}" if count else anchor) in anchors:
            count += 1
        anchors.add(unique_anchor)
    return anchors
