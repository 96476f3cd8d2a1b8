"""The root of the errors, and the errors of values that a call does not accept."""

__all__ = [
    "ArtifactTooLarge",
    "ChemPersistenceError",
    "InvalidArgument",
    "InvalidDatabaseUrl",
    "InvalidDefinition",
    "InvalidPayload",
]


class ChemPersistenceError(Exception):
    """The root of the tree: every error that the library raises on purpose."""


class InvalidArgument(ChemPersistenceError, ValueError):
    """An argument can never be accepted by this call."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class InvalidDatabaseUrl(InvalidArgument):
    """The database URL is missing, malformed, or asks for what the driver does not support.

    The message never repeats the URL, which may hold a password.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("database URL", reason)


class InvalidDefinition(InvalidArgument):
    """The steps do not make a flow: there are none, two have the same id, or types do not fit."""

    def __init__(self, reason: str) -> None:
        super().__init__("definition", reason)


class InvalidPayload(ChemPersistenceError, ValueError):
    """A value is not I-JSON (RFC 7493), or is larger than the store accepts; nothing was stored.

    `path` is the position of the value, in the notation of RFC 9535 (`$.outputs[0]`).
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ArtifactTooLarge(InvalidPayload):
    """An artifact is above the store's limit: not stored, or to be read by `read_artifact`."""

    def __init__(self, artifact_hash: str, size: int, limit: int, advice: str = "") -> None:
        super().__init__(
            "$", f"artifact {artifact_hash} has {size} bytes, the limit is {limit}{advice}"
        )
        self.artifact_hash = artifact_hash
        self.size = size
        self.limit = limit
