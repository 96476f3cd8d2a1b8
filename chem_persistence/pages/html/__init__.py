"""HTML, safe by construction."""
