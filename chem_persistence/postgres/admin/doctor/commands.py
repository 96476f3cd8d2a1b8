"""The command lines that remedies suggest, for exactly the database and schema checked."""

import shlex

import msgspec

__all__ = ["Commands"]

USUAL_SCHEMA = "public"


class Commands(msgspec.Struct, frozen=True):
    """Commands for one schema of one database.

    `place` holds the options that name the database, `superuser` those that name it as a superuser.
    """

    schema: str = USUAL_SCHEMA
    place: str = ""
    superuser: str = "--database-url SUPERUSER_URL"

    def migrate(self) -> str:
        """Return the command that brings the schema up to date."""
        return self._typed("migrate", self.place)

    def distribute(self) -> str:
        """Return the command that distributes the log."""
        return self._typed("distribute", self.superuser)

    def refresh(self) -> str:
        """Return the command that refreshes the statistics."""
        return self._typed("refresh", self.place)

    def roles(self, named: str = "") -> str:
        """Return the command that creates the roles; `named` are options with their names."""
        return self._typed("roles", self.superuser, named)

    def complete(self, command: str) -> str:
        """Return a command with the options that name the database and the schema."""
        return self._typed(command, self.place)

    def _typed(self, command: str, *options: str) -> str:
        schema = "" if self.schema == USUAL_SCHEMA else f"--schema {shlex.quote(self.schema)}"
        return " ".join(part for part in ("chem-persistence", command, *options, schema) if part)
