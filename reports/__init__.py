"""Records in, tables and figures out. Everything here is redrawn from the JSON alone; torch is never imported."""
