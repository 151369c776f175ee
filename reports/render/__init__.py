"""Tables, notes, page and README: what was computed, as text and files."""
