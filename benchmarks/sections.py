"""Files of results that have a section for each part of a benchmark."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Sections = Mapping[str, tuple[str, Callable[[], Iterator[str]]]]
"""Title of each section, and what yields its lines, by the name of the part."""


def make_section(path: Path, heading: str, sections: Sections, name: str) -> None:
    """Print the lines of a section as they are made, and write it beside the others of the file."""
    title, make_lines = sections[name]
    lines = []
    for line in make_lines():
        print(line, flush=True)
        lines.append(line)
    texts = {}
    if path.exists():
        for section in path.read_text("utf-8").split("\n## ")[1:]:
            name, _, content = section.partition("\n")
            texts[name] = content.strip()
    texts[title] = "\n".join(lines).strip()
    parts = [f"# {heading}"]
    for known_title, _ in sections.values():
        if known_title in texts:
            parts.append(f"## {known_title}\n\n{texts[known_title]}")
    path.write_text("\n\n".join(parts) + "\n", "utf-8")
