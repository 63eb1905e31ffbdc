"""Values to text. Nothing here decides anything."""
