"""The contract as a client sees it: black-box tests of the public wire against real broker processes."""
