"""Files of results that have a section for each part of a benchmark."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Sections = Mapping[str, tuple[str, Callable[[], Iterator[str]]]]
"""Title of each section, and what yields its lines, by the name of the part."""


def write_section(path: Path, heading: str, sections: Sections, title: str, text: str) -> None:
    """Write a section of the results, and keep the others."""
    texts = {}
    if path.exists():
        for section in path.read_text("utf-8").split("\n## ")[1:]:
            name, _, content = section.partition("\n")
            texts[name] = content.strip()
    texts[title] = text.strip()
    parts = [f"# {heading}"]
    for known_title, _ in sections.values():
        if known_title in texts:
            parts.append(f"## {known_title}\n\n{texts[known_title]}")
    path.write_text("\n\n".join(parts) + "\n", "utf-8")
