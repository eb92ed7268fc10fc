"""For mkdocstrings: a section `Example:` is shown as code, as the parser does for `Examples:` only."""

import re

import griffe


class RenderExamples(griffe.Extension):
    """Renames the heading before the docstring is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called for each object that griffe has read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
