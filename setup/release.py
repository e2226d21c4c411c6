"""What a release must have before anything of it is published.

``python -m setup.release TAG NOTES`` writes the changelog's section into the file NOTES and prints
``name=value`` lines for the workflow: version, registry, and the host to log in to.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from setup.identity import Identity

_CHANGELOG: Final = Path(__file__).resolve().parent.parent / "CHANGELOG.md"


class ReleaseError(Exception):
    """Why this can't be released, in words for whoever pushed the tag."""


def checked(tag: str, identity: Identity, changelog: str) -> str:
    """Return the changelog's section for the release.

    Raises :class:`ReleaseError` if the tag is not the version's, an address is still a placeholder,
    or the changelog has nothing dated to say.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", identity.version):
        raise ReleaseError(f"version {identity.version} is not of the form 1.2.3")
    if tag != f"v{identity.version}":
        raise ReleaseError(f"the tag is {tag}, but exporter.__version__ is {identity.version}")
    for address in identity.placeholders:
        raise ReleaseError(f"{address} is a placeholder: set the address in exporter/__init__.py")
    title = rf"## {re.escape(identity.version)} - \d{{4}}-\d{{2}}-\d{{2}}"
    found = re.search(rf"^{title}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not found or not found[1].strip():
        raise ReleaseError(
            f"CHANGELOG.md has no section '## {identity.version} - YYYY-MM-DD' with changes in it"
        )
    return f"{found[1].strip()}\n"


def main(arguments: Sequence[str]) -> int:
    tag, notes = arguments
    identity = Identity.declared()
    try:
        section = checked(tag, identity, _CHANGELOG.read_text())
    except ReleaseError as error:
        sys.stderr.write(f"no release: {error}\n")
        return 2
    Path(notes).parent.mkdir(parents=True, exist_ok=True)
    Path(notes).write_text(section)
    host = identity.registry.partition("/")[0]
    sys.stdout.write(f"version={identity.version}\nregistry={identity.registry}\nhost={host}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
