"""What a store promises, for every engine, and what is particular to each of them."""
