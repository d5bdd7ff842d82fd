"""The broker in-process: on a real store, in a time that only the tests move."""
