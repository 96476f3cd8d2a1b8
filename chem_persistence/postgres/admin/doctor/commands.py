"""What to type at the command line about the database and the schema that were looked at, and about no other."""

import shlex

import msgspec

__all__ = ["Commands"]

USUAL_SCHEMA = "public"


class Commands(msgspec.Struct, frozen=True):
    """The commands; `place` are the options that name the database, and `superuser` those that do so as a superuser."""

    schema: str = USUAL_SCHEMA
    place: str = ""
    superuser: str = "--database-url SUPERUSER_URL"

    def migrate(self) -> str:
        """Give the command that brings the schema up to date."""
        return self._typed("migrate", self.place)

    def refresh(self) -> str:
        """Give the command that computes the figures anew."""
        return self._typed("refresh", self.place)

    def roles(self, named: str = "") -> str:
        """Give the command that divides the rights, among roles that the options `named` name."""
        return self._typed("roles", self.superuser, named)

    def complete(self, command: str) -> str:
        """Give a command with the options that name the database and the schema."""
        return self._typed(command, self.place)

    def _typed(self, command: str, *options: str) -> str:
        schema = "" if self.schema == USUAL_SCHEMA else f"--schema {shlex.quote(self.schema)}"
        return " ".join(part for part in ("chem-persistence", command, *options, schema) if part)
