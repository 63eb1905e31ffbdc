"""What the tests share: keys and people, datasets as dicts, pairs of roots, faults."""
