"""The schema: statements, migrations, description."""
