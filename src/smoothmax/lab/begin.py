"""Nothing that took long is lost without a word: what --resume and --overwrite mean, in every command."""

from smoothmax._errors import BadInput


def refuse_to_lose(what: str, *, resume: bool, overwrite: bool) -> None:
    """Raise `BadInput` unless one of the two was given.

    Args:
        what: what is there, as the subject of a sentence that names the file or folder.
        resume: go on with it.
        overwrite: replace it.
    """
    if not (resume or overwrite):
        raise BadInput(f"{what} Give --resume to go on with it, --overwrite to replace it, or another --out.")
