"""One client per side, all with the same four verbs: prepare, publish, consume, close."""
